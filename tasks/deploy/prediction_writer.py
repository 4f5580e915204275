"""Writes predictions as text, CSV, JSON or JSON lines, each as soon as it is computed."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import stat
import sys
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tasks.report.csv_cells import escape_row
from zoo import atomic_files, terminal
from zoo.errors import UsageError, unknown_name_error

MAX_NAMED_ERRORS = 20  # unreadable images that the summary names; the output file has them all
STDOUT = "-"
PARTIAL_SUFFIX = ".partial"

log = logging.getLogger("zoo")


@dataclass(frozen=True)
class OutputFormat:
    """How predictions are formatted.

    Attributes:
        row: function of the predictor and a prediction that returns text.
        head: function of the predictor that returns the text before the first prediction.
        separator: text between two predictions.
        tail: text after the last prediction.
    """

    row: Callable[[object, dict], str]
    head: Callable[[object], str] = lambda predictor: ""
    separator: str = ""
    tail: str = ""


@dataclass
class WriteSummary:
    """Counts of the images.

    Attributes:
        images: the number of images.
        unreadable: the number of images that could not be read.
        reasons: `path: reason` of the first `MAX_NAMED_ERRORS` of these.
    """

    images: int = 0
    unreadable: int = 0
    reasons: tuple[str, ...] = ()


def choose_format(name, path):
    """Returns the name of the output format: `name`, else from the suffix of `path`, else `text`.

    Raises:
        UsageError: there is no such format.
    """
    if name and name not in FORMATS:
        raise unknown_name_error("format", name, list(FORMATS))
    suffix = Path(path or "").suffix.lower().removeprefix(".")
    return name or (suffix if suffix in FORMATS else "text")


@contextmanager
def open_output(path):
    """Opens a file for predictions that gets its name only when it is complete.

    Until then predictions go to `PATH.partial`, each as soon as it is computed. After an error or
    an interruption the partial file remains, so that no prediction is lost and no incomplete file
    looks complete.

    Args:
        path: the path of the file; `-` or nothing for standard output.

    Raises:
        UsageError: the folder does not exist or is not writable.
    """
    if path in (None, "", STDOUT):
        yield _accept_undecodable(sys.stdout)
        return
    path = Path(path)
    target = Path(os.path.realpath(path))  # replaces the target of a symbolic link
    special = path.exists() and not stat.S_ISREG(path.stat().st_mode)  # a pipe, a device
    partial = path if special else target.with_name(target.name + PARTIAL_SUFFIX)
    if path.is_dir():
        raise UsageError(f"{path} is a folder; pass the path of a file")
    if not path.parent.is_dir():
        raise UsageError(f"no folder {path.parent} for {path.name}; create it first")
    with _write_errors(path):
        file = partial.open("w", encoding="utf-8", errors="surrogateescape", newline="")
    try:
        yield file
        with _write_errors(path):
            file.close()
            if not special:
                atomic_files.fsync_and_replace(partial, target)
    except BaseException:  # also after Ctrl-C, before it is passed on
        with suppress(OSError):
            file.close()
        if not special and partial.exists():
            _discard_if_empty(partial)
        raise


def write_predictions(predictions, file, name, predictor):
    """Writes predictions as they are computed.

    Args:
        predictions: the iterable that `predict.iter_predictions` returns.
        file: the file that `open_output` returns.
        name: the output format, one of `FORMATS`.
        predictor: the `Predictor` of the predictions.

    Returns:
        A `WriteSummary`.

    Raises:
        UsageError: the disk is full.
    """
    kind, summary = FORMATS[name], WriteSummary()
    for prediction in predictions:
        before = kind.separator if summary.images else kind.head(predictor)
        _write_text(file, before + kind.row(predictor, prediction))
        summary.images += 1
        if "error" in prediction:
            summary.unreadable += 1
            if len(summary.reasons) < MAX_NAMED_ERRORS:
                summary.reasons += (f"{prediction['path']}: {prediction['error']}",)
    _write_text(file, kind.tail)
    return summary


def _text_row(predictor, prediction):
    failed = "error" in prediction
    lines = [f"unreadable: {prediction['error']}"] if failed else predictor.text_lines(prediction)
    lines = [prediction["path"], *(f"  {line}" for line in lines)]
    return "\n".join(map(terminal.escape_line, lines)) + "\n"


def _text_head(predictor):
    return f"{predictor.name} ({predictor.protocol})\n"


def _csv_row(predictor, prediction):
    path, between = prediction["path"], len(predictor.columns) - 2
    if "error" in prediction:
        return _csv([(path, *[""] * between, prediction["error"])])
    return _csv([(path, *cells, "") for cells in predictor.csv_rows(prediction)])


def _csv(rows):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(map(escape_row, rows))
    return text.getvalue()


def _json_head(predictor):
    about = json.dumps({"model": predictor.name, "protocol": predictor.protocol})
    return f'{about[:-1]}, "{predictor.noun}s": [\n'


FORMATS = {
    "text": OutputFormat(_text_row, _text_head),
    "csv": OutputFormat(_csv_row, lambda predictor: _csv([predictor.columns])),
    "jsonl": OutputFormat(lambda predictor, prediction: json.dumps(prediction) + "\n"),
    "json": OutputFormat(
        lambda predictor, prediction: json.dumps(prediction), _json_head, ",\n", "\n]}\n"
    ),
}


def _write_text(file, text):
    if file is sys.stdout:
        print(text, end="", file=file, flush=True)
        return
    with _write_errors(file.name.removesuffix(PARTIAL_SUFFIX)):
        file.write(text)
        file.flush()


@contextmanager
def _write_errors(path):
    try:
        yield
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def _discard_if_empty(partial):
    if partial.stat().st_size:
        log.warning("stopped before the end; the predictions so far are in %s", partial)
    else:
        partial.unlink()


def _accept_undecodable(stream):
    """Makes a stream accept file names that are not valid UTF-8."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="surrogateescape")
    return stream
