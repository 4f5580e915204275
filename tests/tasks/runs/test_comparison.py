"""Comparison of runs: flags, figures, paired differences and images, on a page and as text."""

from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image

import tasks
from scripts.__main__ import main
from tasks.engine import trainer
from tasks.report import image_results
from tasks.runs import comparison, comparison_page
from tests.support.paths import ROOT
from tests.support.tiny_tasks import tiny
from zoo.errors import UsageError

OLD_RUNS = ROOT / "tests" / "files" / "old_runs"
FEW = {"test_split": "test[:40]", "train_split": "train[:64]", "validation_split": "train[64:96]"}

pytestmark = pytest.mark.xdist_group("comparison")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Returns two runs of a classifier with the same test images."""
    folder = tmp_path_factory.mktemp("pair")
    for name, rate in (("a", 0.001), ("b", 0.01)):
        flags = {"model": "mlp", "model_options": "{widths: [8]}", "epochs": 2, **FEW}
        trainer.train(tiny("classification", **flags, learning_rate=rate), folder / name)
    return folder / "a", folder / "b"


@pytest.fixture
def copies(pair, tmp_path):
    """Returns copies of the two runs, which a test may change."""
    return [shutil.copytree(path, tmp_path / path.name) for path in pair]


def test_flags_that_differ_and_figures(pair):
    _, found = comparison.compare(pair)
    assert found["task"] == "classification"
    assert found["flags"] == [{"name": "learning_rate", "values": {"A": 0.001, "B": 0.01}}]
    assert found["environment"] == []
    accuracy = next(row["values"] for row in found["figures"] if row["name"] == "accuracy")
    reports = [json.loads((path / "report.json").read_text())["figures"] for path in pair]
    assert accuracy == {"A": reports[0]["accuracy"], "B": reports[1]["accuracy"]}
    assert found["notes"] == []


@pytest.mark.check
def test_differences_are_those_of_the_figures(pair):
    _, found = comparison.compare(pair)
    reports = [json.loads((path / "report.json").read_text())["figures"] for path in pair]
    differences = {row["name"]: row for row in found["paired"]}
    for name in ("accuracy", "loss"):
        expected = reports[1][name] - reports[0][name]
        assert differences[name]["difference"] == pytest.approx(expected, abs=1e-5)
        assert differences[name]["low"] < expected < differences[name]["high"]
    (images,) = found["images"]
    assert len(images["baseline_better"]) == differences["accuracy"]["first_only"]
    assert len(images["run_better"]) == differences["accuracy"]["second_only"]
    for image in images["run_better"]:
        assert image["B"]["prediction"] == image["label"] != image["A"]["prediction"]


def test_images_are_matched_by_their_index(copies):
    digest = next(iter(image_results.digests(copies[0])))
    (path,) = (copies[1] / "predictions").glob("*.csv")
    before = comparison.compare(copies)[1]["paired"]
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *rows[::-1]]) + "\n")
    for row, again in zip(before, comparison.compare(copies)[1]["paired"], strict=True):
        assert again["difference"] == pytest.approx(row["difference"])
    path.write_text("\n".join([header, *rows[1:]]) + "\n")
    assert comparison.compare(copies)[1]["paired"][0]["images"] == 39
    assert comparison.compare(copies)[1]["digest"] == digest


def test_the_page_shows_images_curves_and_tables(pair, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["compare", *map(str, pair), "--out", str(page)]) == 0
    printed = capsys.readouterr().out
    assert "(McNemar)" in printed
    assert "learning_rate" in printed
    assert max(map(len, printed.splitlines())) <= 80
    text = page.read_text()
    assert text.count('class="line run1"') == 4  # two panels, each with its legend
    _, found = comparison.compare(pair)
    shown = sum(
        min(len(found["images"][0][key]), comparison_page.MAX_THUMBNAILS)
        for key in ("baseline_better", "run_better")
    )
    assert text.count("<img") == shown > 0


def test_eight_runs_fit_into_80_columns(pair, tmp_path, capsys):
    runs = [shutil.copytree(pair[index % 2], tmp_path / f"run{index}") for index in range(8)]
    assert main(["compare", *map(str, runs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    tables = [line.split() for line in lines if line.startswith("figure ")]
    assert tables == [["figure", *"ABCD"], ["figure", *"EFGH"]]
    assert max(len(line) for line in lines if str(tmp_path) not in line) <= 80


def test_json(pair, capsys):
    assert main(["compare", *map(str, pair), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [run["label"] for run in found["runs"]] == ["A", "B"]


def test_thumbnails_are_the_images_of_the_split(pair):
    import numpy as np

    from tasks.data import sources

    digest = next(iter(image_results.digests(pair[0])))
    (picture,) = comparison_page.read_thumbnails(pair[0], [3], digest)
    original = sources.load("fashion_sample").splits["test"].items[3]
    scaled = np.asarray(Image.fromarray(np.squeeze(original)).resize((128, 128), Image.BILINEAR))
    assert np.abs(picture[..., 0].astype(int) - scaled).mean() < 3


def test_without_the_data_set_the_page_has_names(copies, tmp_path):
    for path in copies:
        recipe = path / "recipe.yaml"
        recipe.write_text(recipe.read_text().replace("test[:40]", "test[40:80]"))
    runs, found = comparison.compare(copies)
    comparison_page.write(tmp_path / "page.html", runs, found)
    text = (tmp_path / "page.html").read_text()
    assert "images cannot be shown" in text
    assert "<img" not in text


def test_results_of_an_earlier_version_are_made_by_zoo_evaluate(tmp_path, capsys):
    old = OLD_RUNS / "classification" / "finished"
    runs = [shutil.copytree(old, tmp_path / name) for name in "ab"]
    _, found = comparison.compare(runs)
    assert found["paired"] == found["images"] == []
    assert f"zoo evaluate {runs[1]}" in found["notes"][0]
    for run in runs:
        assert main(["evaluate", str(run)]) == 0
    _, found = comparison.compare(runs)
    assert {row["name"]: row["difference"] for row in found["paired"]} == {"accuracy": 0, "loss": 0}
    report = json.loads((runs[0] / "report.json").read_text())["figures"]
    results = image_results.read(runs[0], found["digest"])
    assert sum(results.columns["accuracy"]) / 32 == pytest.approx(report["accuracy"])


def test_a_task_without_results_per_image(tmp_path):
    old = OLD_RUNS / "dqn" / "finished"
    _, found = comparison.compare([shutil.copytree(old, tmp_path / name) for name in "ab"])
    assert found["notes"] == ["dqn has no results per image, from which differences are computed"]


@pytest.mark.parametrize("name", sorted(path.name for path in OLD_RUNS.iterdir()))
def test_the_page_of_every_task_has_its_curves(name, tmp_path):
    runs = [shutil.copytree(OLD_RUNS / name / "finished", tmp_path / x) for x in "ab"]
    (runs[1] / "recipe.yaml").unlink()
    curve = next(iter(tasks.get(name)().curves))
    for run in runs:
        (run / "history.csv").write_text(f"epoch,{curve}\n1,0.5\n2,0.25\n")
    assert main(["compare", *map(str, runs), f"--out={tmp_path / 'page.html'}"]) == 0
    assert "<h2>Curves</h2>" in (tmp_path / "page.html").read_text()


def test_other_test_images_are_not_paired(copies):
    (path,) = (copies[1] / "predictions").glob("*.csv")
    path.rename(path.with_name("0" * 16 + ".csv"))
    _, found = comparison.compare(copies)
    assert found["digest"] is None
    assert found["paired"] == []
    assert "zoo evaluate" in found["notes"][0]


def test_wrong_runs_are_usage_errors(pair, tmp_path):
    other = shutil.copytree(OLD_RUNS / "gan" / "finished", tmp_path / "gan")
    interrupted = OLD_RUNS / "gan" / "interrupted"
    damaged = shutil.copytree(pair[0], tmp_path / "damaged")
    (damaged / "report.json").write_text("{")
    for paths, message in (
        ([pair[0]], r"1 run\(s\) given; pass 2"),
        ([pair[0]] * 9, "pass 2 to 8"),
        ([pair[0], pair[0]], "given twice"),
        ([pair[0], tmp_path / "none"], "contains no finished run"),
        ([pair[0], interrupted], "contains no finished run"),
        ([pair[0], other], "runs of one task"),
        ([pair[0], damaged], "cannot be read"),
    ):
        with pytest.raises(UsageError, match=message):
            comparison.compare(paths)
