"""The JSON files of a run, believed only after each field was found to be what it should be."""

from __future__ import annotations

import json
import math
import re

from zoo.errors import UsageError

# Names inside the folder of checkpoints, and nothing else: a state file may come from anywhere.
CHECKPOINT = re.compile(r"epoch-[0-9]{4,}-step-[0-9]{7,}\.npz")
ROW = {"epoch", "loss", "seconds", "images_per_second"}  # what every row of a history has


def read(path, fields, *, remedy):
    """Returns the fields of a JSON file, a dict; fields that nobody knows are left out.

    Args:
        path: of the file.
        fields: name to `(check, what it should be, needed)` of each field.
        remedy: what to do if it cannot be used.

    Raises:
        UsageError: it cannot be read, or a field is missing or wrong.
    """
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read ({error}); {remedy}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path} holds no JSON object but {_shown(found)}; {remedy}")
    for name, (check, wanted, needed) in fields.items():
        if name not in found and needed:
            raise UsageError(f"{path} has no {name!r}; {remedy}")
        if name in found and not check(found[name]):
            raise UsageError(f"{path}: {name!r} is {_shown(found[name])}, not {wanted}; {remedy}")
    return {name: found[name] for name in fields if name in found}


def _shown(value):
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def _count(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _seconds(value):
    return _number(value) and math.isfinite(value) and value >= 0


def _checkpoint(value):
    return isinstance(value, str) and (not value or bool(CHECKPOINT.fullmatch(value)))


def _checkpoints(value):
    return isinstance(value, list) and all(each and _checkpoint(each) for each in value)


def _figures(value):
    return isinstance(value, dict) and all(map(_number, value.values()))


def _history(value):
    return isinstance(value, list) and all(_figures(row) and row.keys() >= ROW for row in value)


def _times(value):
    return isinstance(value, dict) and all(map(_seconds, value.values()))


def _data(value):
    return (
        isinstance(value, dict)
        and value.keys() <= {"classes", "splits"}
        and isinstance(value.get("classes", []), list)
        and all(isinstance(name, str) for name in value.get("classes", []))
        and isinstance(value.get("splits", {}), dict)
        and all(isinstance(text, str) for text in value.get("splits", {}).values())
    )


def _object(value):
    return isinstance(value, dict)


STATE = {
    "epoch": (_count, "a number of epochs", True),
    "step": (_count, "a number of steps", True),
    "seconds": (_seconds, "a time in seconds", True),
    "history": (_history, f"a list of rows of numbers with {', '.join(sorted(ROW))}", True),
    "best": (_count, "the number of an epoch", True),
    "weights": (_checkpoint, "the name of a checkpoint", True),
    "best_weights": (_checkpoint, "the name of a checkpoint", True),
    "older": (_checkpoints, "a list of names of checkpoints", True),
    "times": (_times, "seconds by part of the run", False),
    "data": (_data, "the classes and the digests of the splits", False),
}
REPORT = {
    "task": (lambda value: isinstance(value, str), "the name of a task", True),
    "flags": (_object, "an object", True),
    "figures": (_figures, "an object of numbers", True),
    "times": (_times, "seconds by part of the run", False),
    "environment": (_object, "an object", True),
}


def state(path):
    """Returns the fields of a `state.json`; raises `UsageError` if one is wrong."""
    remedy = "start again with another --out"
    found = read(path, STATE, remedy=remedy)
    rows, begun = len(found["history"]), found["epoch"] or found["step"]
    if rows != found["epoch"] or found["best"] > rows or (begun and not found["weights"]):
        raise UsageError(
            f"{path} contradicts itself: epoch {found['epoch']}, {rows} rows of history, best "
            f"epoch {found['best']}, checkpoint {found['weights']!r}; {remedy}"
        )
    return found


def report(path):
    """Returns the record in a `report.json`; raises `UsageError` if it is damaged."""
    remedy = "delete it, and the same command writes it again from the checkpoint"
    return read(path, REPORT, remedy=remedy)
