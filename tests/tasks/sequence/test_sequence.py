"""Runs of the task: commands on files, predictions, evaluation, and what networks learn."""

from __future__ import annotations

import csv
import functools
import json

import keras
import numpy as np
import pytest

import tasks
from scripts.__main__ import main as zoo
from tasks.deploy import predict
from tasks.engine import trainer
from zoo import model_files

RNG = np.random.default_rng(0)
SMALL = {"units": 6, "length": 8, "epochs": 1, "batch_size": 16, "precision": "float32"}


def wave_table(steps=400, header="time,x,y"):
    t = np.arange(steps)
    values = np.stack([t, np.sin(t / 5), 100 + 20 * np.cos(t / 7)], axis=1)
    return "\n".join([header, *(",".join(map("{:.6f}".format, row)) for row in values)]) + "\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Returns a folder with small data sets: `text.txt`, `series.csv` and `label`."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text.txt").write_text("the cat sat on the mat, " * 40 + "Q")
    (folder / "series.csv").write_text(wave_table())
    for label in ("slow", "fast"):
        for index in range(12):
            steps = int(RNG.integers(5, 9))
            values = np.sin(np.arange(steps) * (2 if label == "fast" else 0.3))
            path = folder / "label" / label / f"{index}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x\n" + "".join(f"{x:.4f}\n" for x in values))
    return folder


@pytest.fixture(scope="module")
def run(folder):
    """Returns a function that trains on `text`, `series` or `label` once; it returns the run."""
    flags = {
        "text": {"dataset": str(folder / "text.txt"), "model": "lstm"},
        "series": {"dataset": str(folder / "series.csv"), "model": "gru", "columns": "y,x"},
        "label": {"dataset": str(folder / "label"), "model": "transformer", "units": 8},
    }

    @functools.cache
    def train(name):
        out = folder / f"run_{name}"
        trainer.train(tasks.get("sequence")(**{**SMALL, **flags[name]}), out)
        return out

    return train


pytestmark = pytest.mark.shared_fixtures("run")
DATA = ["text", *(pytest.param(x, marks=pytest.mark.check) for x in ("series", "label"))]


def report(run, name):
    return json.loads((run(name) / "report.json").read_text())["figures"]


def command(capsys, *words):
    """Returns the exit code, standard output and standard error of a command."""
    code = zoo(list(map(str, words)))
    return code, *capsys.readouterr()


FIGURES = {
    "text": "loss accuracy perplexity bits_per_character unigram_loss bigram_loss",
    "series": "loss mae rmse mase persistence_mae persistence_rmse persistence_mase",
    "label": "accuracy accuracy_low accuracy_high loss majority_share",
}


@pytest.mark.parametrize("name", DATA)
def test_a_run_has_the_metrics_and_the_page_of_its_data(name, run):
    found = set(report(run, name)) - {"seconds", "images_per_second"}
    assert found == set(FIGURES[name].split())
    html = (run(name) / "report.html").read_text()
    sections = {
        "text": ("Samples", "Temperature 0.5"),
        "series": ("Forecasts of the next step", "Forecasts from forecasts", "<strong>y</strong>"),
        "label": ("Confusion matrix", "predicted class"),
    }
    assert all(words in html for words in sections[name])


def test_what_is_left_out_is_stated(run):
    html = (run("text") / "report.html").read_text()
    assert "1 character of the test split does not occur in that for training" in html


@pytest.mark.parametrize("name", DATA)
def test_a_run_evaluates_to_its_report(name, run, capsys):
    code, out, _ = command(capsys, "evaluate", run(name), "--json")
    assert code == 0
    figures, before = json.loads(out)["figures"], report(run, name)
    assert figures == {key: pytest.approx(before[key], rel=1e-5) for key in figures}
    assert set(FIGURES[name].split()[:4]) - {"majority_share"} <= set(figures)


@pytest.mark.check
def test_other_data_are_evaluated_as_a_whole(folder, run, capsys, tmp_path):
    (tmp_path / "other.csv").write_text(wave_table(300))
    words = ("evaluate", run("series"), "--dataset", tmp_path / "other.csv")
    code, out, _ = command(capsys, *words, "--json")
    assert (code, json.loads(out)["split"]) == (0, "all")
    (tmp_path / "other.csv").write_text(wave_table(300, "time,a,b"))
    code, _, err = command(capsys, *words)
    assert code == 1
    assert "unknown column" in err or "no column" in err
    (tmp_path / "other.csv").write_text(wave_table(9))
    for dataset, message in (
        ("waves", "--columns is for tables"),
        (words[-1], "has 9 steps; expected 12"),
    ):
        code, _, err = command(capsys, *words[:-1], dataset)
        assert (code, err.count("\n")) == (1, 1)
        assert message in err
    (folder / "label" / "slow" / "0.csv").rename(tmp_path / "0.csv")
    code, out, _ = command(
        capsys, "evaluate", run("label"), "--dataset", folder / "label", "--json"
    )
    (tmp_path / "0.csv").rename(folder / "label" / "slow" / "0.csv")
    found = json.loads(out)
    assert (code, found["split"]) == (0, "all")
    assert found["figures"]["accuracy"] * 23 % 1 == pytest.approx(0, abs=1e-9)


def test_a_prompt_is_continued_and_the_seed_repeats_it(run, capsys):
    run = run("text")
    words = ("predict", run, "the cat", "--steps", 30, "--json")
    found = []
    for more in ((), ("--seed", 1), (), ("--temperature", 0)):
        code, out, err = command(capsys, *words, *more)
        assert (code, err) == (0, "")
        [each] = json.loads(out)["sequences"]
        assert each["path"] == "the cat"
        assert len(each["continuation"]) == 30
        assert set(each["continuation"]) <= set("the cat sat on the mat, ")
        found.append(each["continuation"])
    assert found[0] == found[2]
    assert len(set(found)) == 3


@pytest.mark.check
def test_greedy_text_is_the_most_probable_character_given_all_before(run):
    """With windows rebuilt by hand, without padding."""
    model, about = model_files.load(run("text") / "model.keras")
    text = "the c"
    for _ in range(12):
        tokens = [about["vocabulary"].index(x) + 2 for x in text[-8:]]
        logits = keras.ops.convert_to_numpy(model(np.array(tokens, "float32")[None, :, None]))
        text += about["vocabulary"][logits[0, -1, 2:].argmax()]
    [found] = predict.predict(run("text"), ["the c"], temperature=0.0, steps=12)
    assert found["continuation"] == text[5:]


@pytest.mark.check
def test_a_series_is_continued_in_its_units(folder, run, capsys, tmp_path):
    out = tmp_path / "found.csv"
    code, _, err = command(capsys, "predict", run("series"), folder / "series.csv", "--output", out)
    assert code == 0, err
    assert "predictions for 1 sequences" in err
    with open(out) as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "step", "y", "x", "error"]
    assert [row["step"] for row in rows] == [str(step) for step in range(1, 9)]
    assert all(60 < float(row["y"]) < 140 for row in rows)
    [found] = predict.predict(run("series"), [folder / "series.csv"], steps=1)
    values = np.loadtxt(folder / "series.csv", delimiter=",", skiprows=1)[-8:, [2, 1]]
    model, _ = model_files.load(run("series") / "model.keras")
    expected = keras.ops.convert_to_numpy(model(values[None].astype("float32")))[0, -1]
    np.testing.assert_allclose(found["forecast"], [expected], rtol=1e-4)


@pytest.mark.check
def test_sequences_are_classified_each_with_its_own_length(folder, run, capsys):
    code, out, err = command(
        capsys, "predict", run("label"), folder / "label" / "fast", "--json", "--top", 1
    )
    assert (code, err) == (0, "")
    found = json.loads(out)["sequences"]
    assert len(found) == 12
    assert {each["classes"][0]["name"] for each in found} <= {"fast", "slow"}
    text = command(capsys, "predict", run("label"), folder / "label/fast/0.csv")[1]
    assert "fast" in text
    assert "slow" in text


@pytest.mark.check
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("series", "x,y\n1,\n", "has no number in 1 row"),
        ("label", "y\n1\n", "'x'"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(name, content, message, run, capsys, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(content)
    code, _, err = command(capsys, "predict", run(name), path)
    assert code == 1
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.check
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("absent.csv",), "no file 'absent.csv'; expected .csv, .tsv, .npy"),
        (("series.csv", "--steps=-1"), "--steps must be 0 or more, not -1"),
        (("series.csv", "--temperature=nan"), "--temperature must be 0 or more, not nan"),
        (("series.csv", "--runtime=onnx"), "runs in Keras only"),
    ],
)
def test_wrong_words_are_refused_in_one_line(words, message, folder, run, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    code, _, err = command(capsys, "predict", run("series"), *words)
    assert (code, message in err, err.count("\n")) == (1, True, 1)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"model": "lenet5"}, "lenet5 is a classifier; sequence needs a sequence model"),
        ({"model_options": "{mean: [1]}"}, "--model-options cannot set mean: the data do"),
        ({"length": 100_000}, "the train split has 160,000 of 200,000 steps"),
        ({"dataset": "absent"}, "no data set absent"),
    ],
)
def test_wrong_flags_are_refused_before_training(flags, message, tmp_path):
    from zoo.errors import UsageError

    if "length" in flags:
        flags["test_fraction"] = 0.4
        message = "the train split has 100,000 of 200,000 steps, expected 100,0"
    with pytest.raises(UsageError, match=message):
        trainer.train(tasks.get("sequence")(**{**SMALL, **flags}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_doctor_has_no_images_to_check(run, capsys):
    code, _, err = command(capsys, "doctor", run("text"))
    assert code == 1
    assert "a run of sequence, which has no images to check" in err


# Learning


def trained(out, **flags):
    """Returns the figures of a run with fixed precision."""
    task = tasks.get("sequence")(precision="float32", **flags)
    return trainer.train(task, out)["figures"]


@pytest.mark.check
def test_a_network_with_memory_learns_what_a_bigram_model_cannot(tmp_path):
    """Whether d or e follows c depends on the character before: a bigram model has ln(2) there."""
    text = "".join(RNG.choice(["acd", "bce"], 1200))
    (tmp_path / "a.txt").write_text(text)
    flags = {"dataset": str(tmp_path / "a.txt"), "length": 12, "units": 16, "epochs": 6}
    found = trained(tmp_path / "run", model="lstm", learning_rate=0.02, **flags)
    best = np.log(2) / 3  # nats: the first of three characters is random
    assert found["bigram_loss"] == pytest.approx(2 * best, rel=0.02)
    assert best - 0.02 < found["loss"] < 1.1 * best


def test_a_few_windows_are_repeated_within_an_epoch():
    task = tasks.get("sequence")()
    for steps, passes in ((1, 8), (3, 3), (8, 1)):
        (stage,) = task.stages_with_passes(steps)
        assert stage.passes == passes
