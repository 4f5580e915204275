"""Answers as text: which formats there are, and files that hold what was answered so far."""

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

MAX_NAMED_ERRORS = (
    20  # unreadable images that are named one by one; a file of answers holds them all
)
STDOUT = "-"
PARTIAL_SUFFIX = ".partial"

log = logging.getLogger("zoo")


@dataclass(frozen=True)
class OutputFormat:
    """How answers are written.

    Attributes:
        row: turns the answerer and one answer into text.
        head: turns the answerer into the text before the first.
        between: stands between two answers.
        tail: stands after the last.
    """

    row: Callable[[object, dict], str]
    head: Callable[[object], str] = lambda predictor: ""
    between: str = ""
    tail: str = ""


@dataclass
class WriteSummary:
    """What became of the images.

    Attributes:
        images: how many there were.
        unreadable: how many of them could not be read.
        reasons: `path: reason` of the first `NAMED` of these.
    """

    images: int = 0
    unreadable: int = 0
    reasons: tuple[str, ...] = ()


def choose_format(name, path):
    """Returns the name of a format: as asked, else by a file's ending, else `text`.

    Raises:
        UsageError: there is no such format.
    """
    if name and name not in FORMATS:
        raise unknown_name_error("format", name, list(FORMATS))
    ending = Path(path or "").suffix.lower().removeprefix(".")
    return name or (ending if ending in FORMATS else "text")


@contextmanager
def open_output(path):
    """Opens a file for answers, which has its name only when all are in it.

    Until then they are in `PATH.partial`, each as soon as it is known. It is left there if
    something stops the stream, so that nothing is lost and nothing incomplete looks whole.

    Args:
        path: where to; `-` or nothing for standard output.

    Raises:
        UsageError: the folder is missing or nobody may write there.
    """
    if path in (None, "", STDOUT):
        yield _accept_undecodable(sys.stdout)
        return
    path = Path(path)
    target = Path(os.path.realpath(path))  # a link stays, the file that it leads to is replaced
    special = path.exists() and not stat.S_ISREG(path.stat().st_mode)  # a pipe, a device
    partial = path if special else target.with_name(target.name + PARTIAL_SUFFIX)
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file for the answers")
    if not path.parent.is_dir():
        raise UsageError(f"no folder {path.parent} for {path.name}: make it first")
    with _write_errors(path):
        file = partial.open("w", encoding="utf-8", errors="surrogateescape", newline="")
    try:
        yield file
        with _write_errors(path):
            file.close()
            if not special:
                atomic_files.fsync_and_replace(partial, target)
    except BaseException:
        with suppress(OSError):
            file.close()
        if not special and partial.exists():
            _discard_if_empty(partial)
        raise


def write_predictions(answers, file, name, predictor):
    """Writes answers as they come.

    Args:
        answers: what `predict.iter_predictions` gives.
        file: what `opened` gives.
        name: one of `FORMATS`.
        predictor: who answers.

    Returns:
        A `Tally`.

    Raises:
        UsageError: the disk is full.
    """
    kind, tally = FORMATS[name], WriteSummary()
    for answer in answers:
        before = kind.between if tally.images else kind.head(predictor)
        _write_text(file, before + kind.row(predictor, answer))
        tally.images += 1
        if "error" in answer:
            tally.unreadable += 1
            if len(tally.reasons) < MAX_NAMED_ERRORS:
                tally.reasons += (f"{answer['path']}: {answer['error']}",)
    _write_text(file, kind.tail)
    return tally


def _text_row(predictor, answer):
    failed = "error" in answer
    lines = [f"unreadable: {answer['error']}"] if failed else predictor.lines(answer)
    lines = [answer["path"], *(f"  {line}" for line in lines)]
    return "\n".join(map(terminal.escape_line, lines)) + "\n"


def _text_head(predictor):
    return f"{predictor.name} ({predictor.protocol})\n"


def _csv_row(predictor, answer):
    path, between = answer["path"], len(predictor.columns) - 2
    if "error" in answer:
        return _csv([(path, *[""] * between, answer["error"])])
    return _csv([(path, *cells, "") for cells in predictor.cells(answer)])


def _csv(rows):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(map(escape_row, rows))
    return text.getvalue()


def _json_head(predictor):
    about = json.dumps({"model": predictor.name, "protocol": predictor.protocol})
    return f'{about[:-1]}, "images": [\n'


FORMATS = {
    "text": OutputFormat(_text_row, _text_head),
    "csv": OutputFormat(_csv_row, lambda predictor: _csv([predictor.columns])),
    "jsonl": OutputFormat(lambda predictor, answer: json.dumps(answer) + "\n"),
    "json": OutputFormat(lambda predictor, answer: json.dumps(answer), _json_head, ",\n", "\n]}\n"),
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
        raise UsageError(f"{path} could not be written: {error.strerror or error}") from error


def _discard_if_empty(partial):
    if partial.stat().st_size:
        log.warning("stopped before the end; the answers so far are in %s", partial)
    else:
        partial.unlink()


def _accept_undecodable(stream):
    """Lets a stream take any name of a file, even one that is no UTF-8."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="surrogateescape")
    return stream
