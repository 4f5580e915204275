"""The model card of a run, as huggingface_hub reads it."""

from __future__ import annotations

import dataclasses
import math

import pytest
import yaml

from tasks.engine import recipes
from tasks.report import model_card, run_files
from tests.support.paths import ROOT

OLD_RUNS = ROOT / "tests" / "files" / "old_runs"
TASKS = sorted(path.name for path in OLD_RUNS.iterdir())


def card_of(name, **changes):
    """Returns the report of an old run with changes, and its model card."""
    folder = OLD_RUNS / name / "finished"
    task = recipes.task_from_recipe(recipes.read_recipe(folder / "recipe.yaml"))
    flags = changes.pop("flags", {})
    task = dataclasses.replace(task, **flags)
    report = {**run_files.read_report(folder / "report.json"), **changes}
    report["flags"] |= flags
    return report, model_card.text(report, task)


@pytest.mark.parametrize("name", TASKS)
def test_the_hub_reads_the_metadata_of_every_task(name):
    hub = pytest.importorskip("huggingface_hub")
    report, text = card_of(name)
    card = hub.ModelCard(text)
    assert card.data.library_name == "keras"
    assert card.data.pipeline_tag == model_card.PIPELINE_TAGS[name]
    found = {result.metric_type: result.metric_value for result in card.data.eval_results}
    times_and_ends = (*model_card.TIMES, "_low", "_high")
    assert found == {
        key: value
        for key, value in report["figures"].items()
        if not key.endswith(times_and_ends) and math.isfinite(value)
    }


def test_figures_have_intervals_also_by_class():
    rows = [
        {"class": "cat", "recall": 0.5, "recall_low": 0.25, "recall_high": 0.75, "support": 8},
        {"class": "a|b <i>", "recall": None, "support": 0},
    ]
    _, text = card_of("classification", class_figures=rows)
    assert "| accuracy | 18.75% | 6.25% to 34.38% |" in text
    assert "| class | recall | support |" in text
    assert "| cat | 50.00% (25.00% to 75.00%) | 8 |" in text
    assert "| a\\|b \\<i\\> | \N{EN DASH} | 0 |" in text


def test_the_inputs_and_the_test_images_are_those_of_the_task():
    splits = {"test": "8 examples, digest 0123456789abcdef"}
    _, text = card_of("classification", data={"splits": splits})
    assert "images of the shape `model.input_shape`, with pixels in [0, 255]" in text
    assert "On the test split (8 examples), which" in text
    assert "95% bootstrap intervals" in text
    for name, words in (("gan", "latent vectors"), ("dqn", "observations of the environment")):
        _, text = card_of(name)
        assert f"puts are {words}" in text
        assert "images of the shape" not in text
    assert "test split" not in text  # an environment has none
    assert "encoded texts or series" in model_card._usage("sequence")
    _, text = card_of("classification", figures={"loss": 1.0})
    assert "bootstrap" not in text


@pytest.mark.parametrize(
    ("flags", "licence", "listed"),
    [
        ({"model": "mlp"}, None, None),
        ({"model": "resnet20.cifar10"}, "apache-2.0", "resnet20.cifar10 | Apache 2.0 (trained"),
        ({"model": "resnet50.imagenet"}, "mit", "resnet50.imagenet | MIT (Kaiming He's weights"),
        ({"model": "resnet50.imagenet", "weights": "random"}, None, None),
        ({"model": "mlp", "weights": "/data/mine.h5"}, "other", "mine.h5 | unknown"),
    ],
    ids=str,
)
def test_licences_of_the_starting_weights(flags, licence, listed):
    report, _ = card_of("classification")
    report["flags"] |= flags
    assert model_card.metadata(report).get("license") == licence
    weights = model_card.starting_weights(report["flags"])
    assert bool(weights) == bool(listed)
    assert not listed or listed in " | ".join(
        [*weights, *(x or "unknown" for x in weights.values())]
    )


def test_a_card_has_no_absolute_path():
    flags = {"dataset": "/home/someone/secret/flowers", "data_dir": "/secret/tfds"}
    _, text = card_of("classification", flags=flags)
    assert "secret" not in text
    assert "--dataset=flowers" in text
    assert yaml.safe_load(text.split("---")[1])["model-index"][0]["results"][0]["dataset"] == {
        "type": "flowers",
        "name": "flowers",
        "split": "test",
    }


@pytest.mark.parametrize(
    ("value", "public"),
    [
        ("/home/me/flowers", "flowers"),
        ("/home/me/my photos/flowers", "flowers"),
        ("/home/me/flowers/", "flowers"),
        ("~/flowers", "flowers"),
        ("a.jpg:2,/home/me/b.jpg:1", "a.jpg:2,b.jpg:1"),
        ("the picture /home/me/b.jpg", "the picture b.jpg"),
        ("{weights: /home/me/w.h5, widths: [1, 2]}", "{weights: w.h5, widths: [1, 2]}"),
        ("data/flowers", "data/flowers"),
        ("../flowers", "../flowers"),
        ("tfds:cifar10/3.0", "tfds:cifar10/3.0"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("train[:80%]", "train[:80%]"),
        (0.5, 0.5),
    ],
)
def test_absolute_paths_are_shortened(value, public):
    assert model_card.public_value(value) == public


def test_the_command_has_the_flags_that_differ_from_their_defaults():
    _, text = card_of("classification")
    (line,) = (line for line in text.splitlines() if line.startswith("zoo train classification"))
    assert "--model=mlp" in line
    assert "--momentum" not in line


def test_names_cannot_break_the_metadata_or_the_page():
    title = "---\nlicense: mit\n# <script>alert(1)</script>"
    _, text = card_of("classification", title=title, lead="[x](http://example.org)")
    front = yaml.safe_load(text.split("\n---\n")[0].removeprefix("---\n"))
    assert "license" not in front
    body = text.split("\n---\n", 1)[1]
    assert "<script" not in body.replace(r"\<script", "")
    assert r"\[x\]" in body


def test_an_edited_card_is_kept(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    report, _ = card_of("classification")
    model_card.write(tmp_path, report, None)
    assert (tmp_path / "README.md").read_text() == "mine"
