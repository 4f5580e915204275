"""Runs from Python: what the commands do, with the same results."""

from __future__ import annotations

import json
import math
import re

import keras
import numpy as np
import pytest
from PIL import Image

import tasks
from scripts.__main__ import main as zoo
from tasks.api import keras_callbacks, training
from tasks.data import decoding, sources
from tasks.engine import callbacks as engine_callbacks
from tests.support.paths import ROOT
from zoo.errors import UsageError

pytestmark = pytest.mark.shared_fixtures("run")
SAMPLE = {
    "train_split": "train[:96]",
    "validation_split": "train[96:128]",
    "test_split": "test[:32]",
}
FLAGS = {"epochs": 2, "batch_size": 32}


def arrays(split, span):
    source = sources.load("fashion_sample")
    return source.splits[split].items[span], source.splits[split].labels[span]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("api") / "run"
    return tasks.finetune("lenet5", "fashion_sample", out=out, **SAMPLE, **FLAGS)


def quality(figures):
    return {k: v for k, v in figures.items() if k not in ("seconds", "images_per_second")}


def test_a_run_has_its_figures_history_model_and_report(run):
    report = json.loads((run.out / "report.json").read_text())
    assert run.figures == report["figures"]
    assert run.finished
    assert run.task.model == "lenet5"
    assert run.history["epoch"] == [1, 2]
    assert all(math.isfinite(x) for x in run.history["val_accuracy"])
    assert run.report.is_file()
    split = sources.load("fashion_sample").splits["test"].take(range(32))
    examples = decoding.decode(split, run.model.input_shape[1:], "stretch")
    found = np.argmax(run.model.predict(examples.pixels, verbose=0), -1)
    assert np.mean(found == examples.labels) == pytest.approx(run.figures["accuracy"])


@pytest.mark.check
def test_it_is_the_run_of_the_command(run, tmp_path, capsys):
    words = [f"--{key.replace('_', '-')}={value}" for key, value in (SAMPLE | FLAGS).items()]
    assert zoo(["finetune", "lenet5", "fashion_sample", f"--out={tmp_path / 'x'}", *words]) == 0
    made = tasks.Run.open(tmp_path / "x")
    assert quality(made.figures) == quality(run.figures)
    printed = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert printed["accuracy"] == f"{run.figures['accuracy']:.4f}"


@pytest.mark.check
def test_arrays_give_the_figures_of_the_named_data_set(run, tmp_path):
    source = sources.load("fashion_sample")
    made = tasks.finetune(
        "lenet5",
        arrays("train", slice(96)),
        validation=arrays("train", slice(96, 128)),
        test=arrays("test", slice(32)),
        class_names=source.classes,
        out=tmp_path / "arrays",
        **FLAGS,
    )
    assert quality(made.figures) == quality(run.figures)


def test_it_predicts_and_evaluates_as_the_commands_do(run, tmp_path, capsys):
    images, labels = arrays("test", slice(32))
    Image.fromarray(images[0].squeeze()).save(tmp_path / "a.png")
    (found,) = run.predict(tmp_path / "a.png", top=1)
    assert [found] == run.predict([tmp_path / "a.png"], top=1)
    with pytest.raises(UsageError, match="takes paths of images, not 5"):
        run.predict(5)
    with pytest.raises(UsageError, match=r"not array\(\[\[.*; run.model takes arrays$"):
        run.predict(images)
    assert found["classes"][0]["name"] in sources.load("fashion_sample").classes
    assert run.evaluate()["accuracy"] == run.figures["accuracy"]
    assert run.evaluate((images, labels))["accuracy"] == run.figures["accuracy"]
    assert zoo(["evaluate", str(run.out), "--split", "test[:8]", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)["figures"]
    assert run.evaluate(split="test[:8]") == figures


def test_it_is_shown_in_terminals_and_notebooks(run):
    assert repr(run).startswith(f"Run({str(run.out)!r}): classification\n  accuracy ")
    html = run._repr_html_()
    assert f"{run.figures['accuracy']:.4f}" in html
    assert "srcdoc=" in html
    assert "&lt;svg" in html
    assert "<script" not in html


@pytest.mark.check
def test_a_finished_run_is_returned_and_trained_further_in_another_folder(run, tmp_path):
    again = tasks.train(run.task, out=run.out)
    assert again.figures == run.figures
    with pytest.raises(UsageError, match="is finished; pass the number of further epochs"):
        run.resume()
    more = run.resume(epochs=1, out=tmp_path / "more")
    assert len(more.history["epoch"]) == 1
    assert more.history["loss"][0] < run.history["loss"][0]


class Interrupt(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise KeyboardInterrupt


@pytest.mark.check
def test_an_interrupted_run_resumes_to_the_same_weights(run, tmp_path):
    out = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        tasks.finetune(
            "lenet5", "fashion_sample", out=out, callbacks=[Interrupt()], **SAMPLE, **FLAGS
        )
    cut = tasks.Run.open(out)
    assert not cut.finished
    assert cut.figures == {}
    assert "not finished" in repr(cut)
    assert "not finished" in cut._repr_html_()
    with pytest.raises(UsageError, match="without epochs="):
        cut.resume(epochs=5)
    for mine, other in zip(cut.resume().model.get_weights(), run.model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)


class Calls(keras.callbacks.Callback):
    def __init__(self, stop_after=None):
        super().__init__()
        self.seen, self.stop_after = [], stop_after

    def on_train_begin(self, logs=None):
        self.seen.append("begin")

    def on_train_end(self, logs=None):
        self.seen.append("end")

    def on_epoch_begin(self, epoch, logs=None):
        self.seen.append(f"epoch {epoch}")

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append("batch")

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(sorted(logs))
        self.model.stop_training = epoch == self.stop_after


@pytest.mark.check
def test_callbacks_are_called_at_the_documented_places(run, tmp_path):
    calls = Calls()
    made = tasks.train(run.task, out=tmp_path / "a", callbacks=[calls])
    row = sorted({*made.history} - {"epoch"})
    names = [x for x in calls.seen if x != "batch"]
    assert names == ["begin", "epoch 0", row, "epoch 1", row, "end"]
    assert "batch" in calls.seen
    assert quality(made.figures) == quality(run.figures)


@pytest.mark.parametrize("several", [True, False])
def test_files_of_a_checkpoint_are_named_by_epoch_and_figures(several, tmp_path):
    path = str(tmp_path / "{epoch}-{val_loss:.2f}.weights.h5")
    checkpoint = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    checkpoint.set_model(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))
    with keras_callbacks.keras_callbacks_scope([checkpoint] if several else checkpoint):
        engine_callbacks.epoch_listeners[-1]([{"epoch": 3, "loss": 1.0, "val_loss": 0.25}])
    assert [file.name for file in tmp_path.iterdir()] == ["3-0.25.weights.h5"]


def test_flags_may_be_values_of_numpy_paths_and_dicts():
    given = {
        "epochs": np.int64(3),
        "weight_decay": np.float32(0.5),
        "seed": np.array(7),
        "weights": ROOT / "weights.npz",
        "model_options": {"widths": [8, 16], "dropout": 0.5},
    }
    task = training.make_task("classification", given)
    assert (task.epochs, task.weight_decay, task.seed) == (3, 0.5, 7)
    assert type(task.epochs) is int
    assert task.weights == str(ROOT / "weights.npz")
    assert task.options() == {"widths": [8, 16], "dropout": 0.5}


def test_callbacks_may_be_none():
    with keras_callbacks.keras_callbacks_scope(None):
        assert not engine_callbacks.keras_callbacks


@pytest.mark.check
def test_a_callback_may_end_the_run(run, tmp_path):
    made = tasks.train(run.task, out=tmp_path / "a", callbacks=[Calls(stop_after=0)])
    assert made.finished
    assert made.history["epoch"] == [1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tasks.finetune("lenet", "shapes"), "lenet5"),
        (lambda: tasks.finetune("lenet5", "shapes", epoch=3), "epochs"),
        (lambda: tasks.finetune("lenet5", "shapes", epochs=0), "epochs"),
        (lambda: tasks.finetune("lenet5", "shapes", class_names=["a"]), "data in memory"),
        (lambda: tasks.finetune("lenet5", "shapes", test=([], [])), "test_split"),
        (lambda: tasks.train("segmentation", ([], [])), "segmentation takes the name"),
        (lambda: tasks.train("segmentatoin"), "did you mean segmentation"),
        (lambda: tasks.train("segmentatoin", ([], [])), "did you mean segmentation"),
        (
            lambda: tasks.cross_validate("classification", "shapes", folds="3", model="lenet5"),
            "--folds must be 2 or more, not '3'",
        ),
        (lambda: tasks.finetune("lenet5", "shapes", callbacks=[print]), "keras.callbacks.Callback"),
        (lambda: tasks.Run.open("nowhere"), "nowhere is not a run folder"),
        (lambda: tasks.Run.open(5), "by the path of its folder, not by 5"),
        (lambda: tasks.Run.open("a" * 300), "is not a run folder"),
        (lambda: tasks.train({}), "task"),
        (lambda: tasks.train(5, ([], [])), "5"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(call, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_unknown_names_of_the_package_are_missing_attributes():
    with pytest.raises(AttributeError, match="'tasks' has no attribute 'fit'"):
        tasks.fit  # noqa: B018
    assert {"Run", "finetune", "train", "HyperModel"} <= {*dir(tasks)}


@pytest.mark.slow
def test_the_code_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    names = {}
    for code in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S):
        exec(compile(code, "python.md", "exec"), names)
    assert names["run"].figures["accuracy"] >= 0
    assert names["best"].count_params() > 0
