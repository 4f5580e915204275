"""Runs made by version 0.1.0, before the modules moved: they load, repeat and resume.

`files/old_runs/TASK` holds an `interrupted` run (one of two epochs) and the `model.keras`,
`recipe.yaml` and `report.json` of the same run when it was left to finish.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shutil
from pathlib import Path

import pytest

import tasks
from scripts import _flags
from scripts.__main__ import main as zoo
from tasks.engine import recipes
from tasks.report.run_files import FORMER_FIGURES

RUNS = Path(__file__).parent / "files" / "old_runs"
TASKS = sorted(folder.name for folder in RUNS.iterdir())
RUN_FOLDERS = ("interrupted", "finished")
TIMES = ("seconds", "images_per_second")
LATER_FIGURES = {  # that version 0.1.0 did not have
    "classification": {
        f"{name}{end}"
        for name in ("mcc", "kappa", "auroc", "average_precision")
        for end in ("", "_low", "_high")
    },
    "dqn": {"random_return"},
}
LOSSES = ("loss", "content_loss", "style_loss")  # of a network whose weights are random here


@pytest.fixture
def old(request, tmp_path):
    """Returns the old run of a task, copied."""
    return shutil.copytree(RUNS / request.param, tmp_path / request.param)


@pytest.mark.parametrize("old", TASKS, indirect=True)
@pytest.mark.check
def test_an_interrupted_run_resumes_and_ends_like_one_that_was_not(old):
    out = old / "interrupted"
    assert zoo(["train", old.name, "--recipe", str(out / "recipe.yaml"), "--out", str(out)]) == 0
    with open(out / "history.csv") as file:
        epochs = list(csv.DictReader(file))
    before = json.loads((RUNS / old.name / "interrupted/checkpoint/state.json").read_text())
    first, second = epochs
    assert float(first["loss"]) == before["history"][0]["loss"]
    assert float(second["loss"]) != float(first["loss"])
    resumed, whole = (json.loads((old / run / "report.json").read_text()) for run in RUN_FOLDERS)
    later = LATER_FIGURES.get(old.name, set())
    present = {FORMER_FIGURES.get(name, name) for name in whole["figures"]}
    assert set(resumed["figures"]) == present | later
    assert not FORMER_FIGURES.keys() & {*first, *resumed["figures"]}


@pytest.mark.parametrize("old", TASKS, indirect=True)
@pytest.mark.check
def test_a_finished_run_evaluates_to_the_figures_of_its_report(old):
    report = json.loads((old / "finished" / "report.json").read_text())["figures"]
    assert zoo(["evaluate", str(old / "finished")]) == 0
    (file,) = (old / "finished" / "evaluations").glob("*.json")
    again = json.loads(file.read_text())["figures"]
    left_out = LOSSES if old.name == "style_transfer" else TIMES
    compared = {name for name in again if name in report and name not in left_out}
    assert compared
    for name in compared:
        assert again[name] == pytest.approx(report[name], rel=1e-2, abs=1e-3), name


@pytest.mark.parametrize("old", TASKS, indirect=True)
def test_an_old_model_loads_and_computes(old):
    import numpy as np

    import zoo.layers  # noqa: F401  the registered layers
    from zoo.lazy import keras

    model = keras.saving.load_model(old / "finished" / "model.keras", compile=False)
    inputs = keras.tree.map_structure(
        lambda tensor: np.zeros([size or 2 for size in tensor.shape], tensor.dtype), model.input
    )
    outputs = model(inputs)
    for output in keras.tree.flatten(outputs):
        assert np.isfinite(np.array(output, "float64")).all()


FORMER_FLAGS = {  # flags of version 0.1.0: their present names
    "average": "ema_decay",
    "accumulate": "gradient_accumulation_steps",
    "keep": "keep_checkpoints",
    "scale_rate": "scale_learning_rate",
    "reference_batch": "reference_batch_size",
    "decay": "decay_factor",
    "compress_gradients": "gradient_compression",
    "jit": "jit_compile",
}
FORMER_VALUES = {
    "average": 0.5,
    "accumulate": 2,
    "keep": 3,
    "scale_rate": "sqrt",
    "reference_batch": 7,
    "decay": 0.3,
    "compress_gradients": "bfloat16",
    "jit": "off",
}


def test_recipes_with_former_flag_names_are_read(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps({"task": "gan", **FORMER_VALUES, "resolved": {"jit": "on"}}))
    recipe = recipes.read_recipe(path)
    assert recipe["resolved"] == {"jit_compile": "on"}
    task = recipes.task_from_recipe(recipe)
    for former, value in FORMER_VALUES.items():
        assert getattr(task, FORMER_FLAGS[former]) == value


def test_former_flag_names_work_on_the_command_line_and_are_not_shown():
    parser = argparse.ArgumentParser()
    _flags.add_task_flags(parser, tasks.get("classification"))
    words = [f"--{name.replace('_', '-')}={value}" for name, value in FORMER_VALUES.items()]
    parsed = vars(parser.parse_args(words))
    shown = set(re.findall(r"--[\w-]+", parser.format_help()))
    for former, name in FORMER_FLAGS.items():
        assert parsed[name] == FORMER_VALUES[former]
        assert f"--{former.replace('_', '-')}" not in shown
        assert f"--{name.replace('_', '-')}" in shown


@pytest.mark.parametrize(
    ("task", "folder"),
    [
        ("captioning", "show_attend_tell-shapes-081d4982"),
        ("classification", "lenet5-fashion_sample-ec405aa1"),
        ("dqn", "CartPole-v1-0324bc96"),
        ("gan", "dcgan-fashion_sample-3de2ba38"),
        ("segmentation", "unet-shapes-5544273a"),
    ],
)
def test_default_run_folders_keep_their_names(task, folder):
    """The same command finds the run that it began with version 0.1.0."""
    flags = {"model": "lenet5"} if task == "classification" else {}
    args = argparse.Namespace(out=None)
    assert _flags.output_folder(args, tasks.get(task)(**flags)) == Path("runs", folder)
