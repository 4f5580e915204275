"""Evaluate: how good is a finished run on other data?"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from tasks.data import image_stats, sources, tfds_source
from tasks.data.dataset import short_name
from tasks.engine import resume, run_folder
from zoo import model_files
from zoo.errors import UsageError
from zoo.paths import expand_user

EVALUATIONS_FOLDER = "evaluations"


def evaluate(run, *, dataset="", split="", data_dir="", **flags):
    """Judges a finished run on any data with its classes.

    Args:
        run: the run's folder.
        dataset: a data set as in training; the run's own by default.
        split: the slice to judge on; by default all of another data set, or the run's own
            test split.
        data_dir: where TFDS keeps its data sets; the run's own by default.
        **flags: of the task that say how it is judged, such as `views` or `feature_network`; the
            run's own where they are empty.

    Returns:
        A dict with `dataset`, `split`, `figures` and `evaluation`, the path of the file that
        now holds the same; the run's own report is left alone.

    Raises:
        UsageError: no finished run is there, its task has no such flag, or the data have classes
            that it was not taught.
    """
    run = Path(run)
    recipe = run / resume.RECIPE
    if not recipe.exists() or not (run / resume.REPORT).exists():
        raise UsageError(f"{run} holds no finished run; `zoo train` and `zoo finetune` make one")
    task = resume.task_from_recipe(resume.read_recipe(recipe))
    task = dataclasses.replace(task, strategy="auto")  # this process is not that of the run
    overrides = {"dataset": dataset, "data_dir": data_dir, **flags}
    overrides = {key: value for key, value in overrides.items() if value}
    field_names = {field.name for field in dataclasses.fields(task)}
    if wrong := [f"--{name.replace('_', '-')}" for name in overrides if name not in field_names]:
        raise UsageError(f"{task.name} has no {' and no '.join(wrong)}; leave that out")
    task = dataclasses.replace(task, **overrides)
    split = split or ("all" if dataset else "")
    model, about = model_files.load(run / resume.MODEL)
    if "image_bits" in field_names:
        task = dataclasses.replace(task, image_bits=image_stats.stated_bits(about, run))
    try:
        figures, split = task.evaluate(model, about, split)
    except UsageError as error:
        if dataset or not _is_missing(task.dataset):
            raise
        own = getattr(task, "test_split", "") or "SLICE"
        raise UsageError(
            f"{error}; if the data have moved, name their place and what to judge on (default: "
            f"all): --dataset PLACE --split '{own}'"
        ) from error
    words = [word for word in (short_name(task.dataset), split, *flags.values()) if word]
    place = "" if short_name(task.dataset) == task.dataset else task.dataset
    path = run / EVALUATIONS_FOLDER / f"{run_folder.file_name(words, place)}.json"
    record = {"dataset": task.dataset, "split": split, "figures": figures}
    resume.write_text(path, json.dumps(record, indent=2) + "\n")
    return {**record, "evaluation": str(path)}


def _is_missing(dataset):
    """Tells whether a data set is a file or folder that is not there."""
    named = dataset in sources.BUILT_IN or dataset.startswith(tfds_source.PREFIX)
    return not named and not expand_user(dataset).exists()
