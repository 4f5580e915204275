"""Cross-validation: a run per fold, side by side, with the mean and the spread of their figures."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
import statistics
from pathlib import Path

from tasks.data import folds as data_folds
from tasks.engine import callbacks, trainer
from tasks.report import page
from tasks.runs import tracking
from zoo import atomic_files
from zoo.errors import UsageError

RECORD = "folds.json"
SPEED = ("seconds", "images_per_second")  # figures that describe no model


def train(task, out, *, track="", alone=False):
    """Trains a run as `trainer.train` does, and logs it to a tracker, if any."""
    with tracking.tracked(track, task, out):
        return trainer.train(task, out, alone=alone)


def cross_validate(task, count, out, *, track="", alone=False):
    """Trains a run for each fold, and writes `report.html` and `folds.json`.

    Near duplicates, and the groups of `group_by`, are in one fold. An interrupted cross-validation
    is resumed by the same call; finished runs are not trained again.

    Args:
        task: A task on images, whose `test_split` is empty.
        count: The number of folds, two or more.
        out: The folder, with the runs in `fold-1`, `fold-2`, ...
        track: A tracker, as for `tracking.tracked`, that has a run for each fold.
        alone: As for `trainer.train`.

    Returns:
        A dict: `task`, `out`, `folds`, the figures of each run with its folder; `mean` and `std`,
        the standard deviation of the runs, by figure.

    Raises:
        UsageError: The task has no `test_split`, or it is set; or as for `trainer.train`.
    """
    _check(task, count)
    out, rows = Path(out), []
    for fold in range(1, count + 1):
        callbacks.print_status(f"fold {fold} of {count}")
        folder = out / f"fold-{fold}"
        one = dataclasses.replace(task, test_split=f"fold[{fold}/{count}]")
        figures = train(one, folder, track=track, alone=alone)["figures"]
        rows.append({"fold": fold, "out": str(folder), "figures": figures})
    record = {"task": task.name, "out": str(out), "folds": rows, **summary(rows)}
    _write_page(task, count, out, record)
    atomic_files.write_text(out / RECORD, json.dumps(record, indent=2) + "\n")
    return record


def summary(rows):
    """Returns the mean and the standard deviation of the figures that all runs have.

    Args:
        rows: Dicts with `figures`, one per run. The ends of intervals are left out: the spread of
            the runs takes their place.
    """
    names = [
        name
        for name in rows[0]["figures"]
        if all(name in row["figures"] for row in rows) and not name.endswith(("_low", "_high"))
    ]
    values = {name: [row["figures"][name] for row in rows] for name in names}
    return {
        "mean": {name: statistics.fmean(each) for name, each in values.items()},
        "std": {name: statistics.stdev(each) for name, each in values.items()},
    }


def text(record):
    """Returns the mean and the standard deviation of each figure as lines."""
    lines = [
        f"{name:<22} {mean:.4f} +- {record['std'][name]:.4f}"
        for name, mean in record["mean"].items()
    ]
    return "\n".join([*lines, f"{'report':<22} {Path(record['out']) / trainer.PAGE}"])


def _check(task, count):
    if "test_split" not in {field.name for field in dataclasses.fields(task)}:
        raise UsageError(f"--folds: {task.name} has no test split to divide into folds")
    if task.test_split:
        raise UsageError(f"--folds sets the test split; leave out --test-split {task.test_split}")
    if not isinstance(count, int) or count < data_folds.MIN_FOLDS:
        raise UsageError(f"--folds must be {data_folds.MIN_FOLDS} or more, not {count!r:.40}")


def _write_page(task, count, out, record):
    names = list(record["mean"])
    shown = [name for name in names if name not in SPEED]
    rows = [{"run": f"fold-{row['fold']}", **row["figures"]} for row in record["folds"]]
    rows += [{"run": name, **record[name]} for name in ("mean", "std")]
    first = shown[0]
    mean, std = record["mean"][first], record["std"][first]
    error = std / math.sqrt(count)
    page.write(
        out / trainer.PAGE,
        title=f"{count} folds of {getattr(task, 'data_name', task.name)}",
        lead=f"{count} runs, each tested on another part of the images, which the others train on. "
        f"The {first.replace('_', ' ')} is {mean:.4f} on average; the standard deviation of the "
        f"runs is {std:.4f}, and the standard error of the mean {error:.4f}.",
        command=shlex.join(
            [
                *("zoo", "train", "--recipe", f"{out}/fold-1/recipe.yaml", "--test-split", ""),
                *("--folds", str(count), "--out", "NEW_FOLDER"),
            ]
        ),
        figures={name: record["mean"][name] for name in names},
        sections=[("Folds", page.table(rows, ["run", *shown]))],
        environment={},
    )
