"""Evaluates a finished run on any data set with the same classes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from tasks.data import dataset_options, image_stats, in_memory, sources, tfds_source
from tasks.data.dataset import short_name
from tasks.engine import recipes, resume, run_folder
from tasks.engine.flags import rename_former_flags
from tasks.report import image_results
from tasks.report.evaluation_report import Evaluation
from zoo import atomic_files, model_files
from zoo.errors import UsageError

EVALUATIONS_FOLDER = "evaluations"


def evaluate(run, *, dataset="", split="", data_dir="", **flags):
    """Evaluates a finished run on a data set.

    Args:
        run: the run folder.
        dataset: a data set, as in training; by default that of the run.
        split: the slice to evaluate on; by default all of another data set, or the test split of
            the run.
        data_dir: the folder of TFDS data sets; by default that of the run.
        **flags: flags of the task that concern the evaluation, such as `tta` or
            `feature_network`; those of the run where they are empty.

    Returns:
        A dict with `dataset`, `split`, `figures` and `evaluation`, the path of the JSON file that
        holds the other three. The report of the run is not changed.

    Raises:
        UsageError: the folder contains no finished run, its task has no such flag, or the data have
            classes that the model was not trained on.
    """
    run = Path(run)
    recipe = run / recipes.RECIPE
    if not recipe.exists() or not (run / resume.REPORT).exists():
        raise UsageError(
            f"{run} contains no finished run; `zoo train` and `zoo finetune` create run folders"
        )
    task = recipes.task_from_recipe(recipes.read_recipe(recipe))
    task = dataclasses.replace(task, strategy="auto")  # the run may have used other devices
    flags = rename_former_flags(task, flags)
    task = _with_flags(task, {"dataset": dataset, "data_dir": data_dir, **flags})
    split = split or ("all" if dataset else "")
    model, metadata = model_files.load(run / resume.MODEL)
    if "image_bits" in _field_names(task):
        task = task.with_bits(image_stats.stated_bits(metadata, run))
    try:
        evaluation = Evaluation(*task.evaluate(model, metadata, split))
    except UsageError as error:
        if dataset or not _is_missing(task.dataset):
            raise
        own = getattr(task, "test_split", "") or "SLICE"
        raise UsageError(
            f"{error}; if the data have moved, pass their new path and the split (default: all): "
            f"--dataset PATH --split '{own}'"
        ) from error
    figures, split, results, digest = evaluation
    if not any(flags.values()):  # as the run itself was evaluated
        image_results.write(run, results, digest)
    words = [word for word in (short_name(task.dataset), split, *flags.values()) if word]
    suffix = "" if short_name(task.dataset) == task.dataset else task.dataset
    path = run / EVALUATIONS_FOLDER / f"{run_folder.file_name(words, suffix)}.json"
    record = {"dataset": task.dataset, "split": split, "figures": figures}
    atomic_files.write_text(path, json.dumps(record, indent=2) + "\n")
    return {**record, "evaluation": str(path)}


def _with_flags(task, flags):
    """Returns a task with those flags that are not empty.

    Raises:
        UsageError: the task has no such flag.
    """
    flags = {name: value for name, value in flags.items() if value}
    if wrong := [f"--{name.replace('_', '-')}" for name in flags if name not in _field_names(task)]:
        raise UsageError(f"{task.name} has no {' and no '.join(wrong)}; leave that out")
    return dataclasses.replace(task, **flags)


def _field_names(task):
    return {field.name for field in dataclasses.fields(task)}


def _is_missing(dataset):
    """Returns whether a data set is a file or folder that does not exist."""
    named = dataset in sources.BUILT_IN
    named = named or dataset.startswith((tfds_source.PREFIX, in_memory.PREFIX))
    return not named and not dataset_options.split_name(dataset)[0].exists()
