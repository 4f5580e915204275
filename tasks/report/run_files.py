"""Reading of the JSON files of a run, with validation of each field."""

from __future__ import annotations

import csv
import json
import math
import re

from zoo.errors import UsageError
from zoo.paths import check_regular

# Only names inside the checkpoint folder: a state file is untrusted input.
CHECKPOINT_NAME = re.compile(r"epoch-[0-9]{4,}-step-[0-9]{7,}\.npz")
HISTORY = "history.csv"
MAX_HISTORY_BYTES = 2**26
# Names of figures of earlier versions, and their present names.
FORMER_FIGURES = {"told_apart": "critic_accuracy", "painted_images": "generated_images"}
HISTORY_COLUMNS = {"epoch", "loss", "seconds", "images_per_second"}  # required in each row


def read_history(out):
    """Returns the rows of the history of a run, dicts of text by column; `[]` if unreadable."""
    try:
        path = check_regular(out / HISTORY)
        if path.stat().st_size > MAX_HISTORY_BYTES:
            return []
        with path.open(newline="", encoding="utf-8") as file:
            return [_with_present_names(row) for row in csv.DictReader(file)]
    except (OSError, ValueError, csv.Error):
        return []


def _with_present_names(figures):
    """Returns figures by name with the names of earlier versions replaced."""
    return {FORMER_FIGURES.get(name, name): value for name, value in figures.items()}


def read_json(path, fields, *, remedy):
    """Returns the known fields of a JSON file, a dict.

    Args:
        path: The path of the file.
        fields: Maps the name of each field to `(check, description, required)`.
        remedy: What to do if the file is invalid, for the message.

    Raises:
        UsageError: The file cannot be read, or a field is missing or invalid.
    """
    try:
        found = json.loads(check_regular(path).read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read ({error}); {remedy}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path} contains {_shortened(found)}, not a JSON object; {remedy}")
    for name, (check, expected, required) in fields.items():
        if name not in found and required:
            raise UsageError(f"{path} has no {name!r}; {remedy}")
        if name in found and not check(found[name]):
            raise UsageError(
                f"{path}: {name!r} is {_shortened(found[name])}, expected {expected}; {remedy}"
            )
    return {name: found[name] for name in fields if name in found}


def _shortened(value):
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _is_seconds(value):
    return _is_number(value) and math.isfinite(value) and value >= 0


def _is_checkpoint(value):
    return isinstance(value, str) and (not value or bool(CHECKPOINT_NAME.fullmatch(value)))


def _are_checkpoints(value):
    return isinstance(value, list) and all(each and _is_checkpoint(each) for each in value)


def _are_figures(value):
    return isinstance(value, dict) and all(map(_is_number, value.values()))


def _is_history(value):
    return isinstance(value, list) and all(
        _are_figures(row) and row.keys() >= HISTORY_COLUMNS for row in value
    )


def _are_times(value):
    return isinstance(value, dict) and all(map(_is_seconds, value.values()))


def _is_data(value):
    return (
        isinstance(value, dict)
        and value.keys() <= {"classes", "splits"}
        and isinstance(value.get("classes", []), list)
        and all(isinstance(name, str) for name in value.get("classes", []))
        and isinstance(value.get("splits", {}), dict)
        and all(isinstance(text, str) for text in value.get("splits", {}).values())
    )


def _are_rows(value):
    return isinstance(value, list) and all(
        isinstance(row, dict) and isinstance(row.get("class"), str) for row in value
    )


def _is_text(value):
    return isinstance(value, str)


def _is_object(value):
    return isinstance(value, dict)


STATE_FIELDS = {
    "epoch": (_is_count, "a number of epochs", True),
    "step": (_is_count, "a number of steps", True),
    "seconds": (_is_seconds, "a time in seconds", True),
    "history": (
        _is_history,
        f"a list of rows of numbers with {', '.join(sorted(HISTORY_COLUMNS))}",
        True,
    ),
    "best": (_is_count, "the number of an epoch", True),
    "weights": (_is_checkpoint, "the name of a checkpoint", True),
    "best_weights": (_is_checkpoint, "the name of a checkpoint", True),
    "older": (_are_checkpoints, "a list of names of checkpoints", True),
    "times": (_are_times, "seconds by part of the run", False),
    "data": (_is_data, "the classes and the digests of the splits", False),
}
REPORT_FIELDS = {
    "task": (_is_text, "the name of a task", True),
    "flags": (_is_object, "an object", True),
    "figures": (_are_figures, "an object of numbers", True),
    "times": (_are_times, "seconds by part of the run", False),
    "environment": (_is_object, "an object", True),
    "data": (_is_data, "the classes and the digests of the splits", False),
    "title": (_is_text, "a title", False),
    "lead": (_is_text, "a sentence", False),
    "data_licence": (_is_text, "the licence of the data", False),
    "class_figures": (_are_rows, "a list of metrics by class", False),
}


def read_state(path):
    """Returns the fields of a `state.json`; raises `UsageError` if one is invalid."""
    remedy = "start again with another --out"
    found = read_json(path, STATE_FIELDS, remedy=remedy)
    found["history"] = [_with_present_names(row) for row in found["history"]]
    rows, begun = len(found["history"]), found["epoch"] or found["step"]
    if rows != found["epoch"] or found["best"] > rows or (begun and not found["weights"]):
        raise UsageError(
            f"{path} is inconsistent: epoch {found['epoch']}, {rows} rows of history, best "
            f"epoch {found['best']}, checkpoint {found['weights']!r}; {remedy}"
        )
    return found


def read_report(path):
    """Returns the fields of a `report.json`; raises `UsageError` if one is invalid."""
    remedy = "delete it, and the same command writes it again from the checkpoint"
    found = read_json(path, REPORT_FIELDS, remedy=remedy)
    return {**found, "figures": _with_present_names(found["figures"])}
