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

from tasks.report.cells import safe_row
from zoo import files, terminal
from zoo.errors import UsageError, unknown

NAMED = 20  # unreadable images that are named one by one; a file of answers holds them all
STDOUT = "-"
PARTIAL = ".partial"

log = logging.getLogger("zoo")


@dataclass(frozen=True)
class Format:
    """How answers are written.

    Attributes:
        row: turns the answerer and one answer into text.
        head: turns the answerer into the text before the first.
        between: stands between two answers.
        tail: stands after the last.
    """

    row: Callable[[object, dict], str]
    head: Callable[[object], str] = lambda answerer: ""
    between: str = ""
    tail: str = ""


@dataclass
class Tally:
    """What became of the images.

    Attributes:
        images: how many there were.
        unreadable: how many of them could not be read.
        reasons: `path: reason` of the first `NAMED` of these.
    """

    images: int = 0
    unreadable: int = 0
    reasons: tuple[str, ...] = ()


def format_for(name, path):
    """Returns the name of a format: as asked, else by a file's ending, else `text`.

    Raises:
        UsageError: there is no such format.
    """
    if name and name not in FORMATS:
        raise unknown("format", name, list(FORMATS))
    ending = Path(path or "").suffix.lower().removeprefix(".")
    return name or (ending if ending in FORMATS else "text")


@contextmanager
def opened(path):
    """Opens a file for answers, which has its name only when all are in it.

    Until then they are in `PATH.partial`, each as soon as it is known. It is left there if
    something stops the stream, so that nothing is lost and nothing incomplete looks whole.

    Args:
        path: where to; `-` or nothing for standard output.

    Raises:
        UsageError: the folder is missing or nobody may write there.
    """
    if path in (None, "", STDOUT):
        yield _surviving(sys.stdout)
        return
    path = Path(path)
    target = Path(os.path.realpath(path))  # a link stays, the file that it leads to is replaced
    special = path.exists() and not stat.S_ISREG(path.stat().st_mode)  # a pipe, a device
    partial = path if special else target.with_name(target.name + PARTIAL)
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file for the answers")
    if not path.parent.is_dir():
        raise UsageError(f"no folder {path.parent} for {path.name}: make it first")
    with _writing(path):
        file = partial.open("w", encoding="utf-8", errors="surrogateescape", newline="")
    try:
        yield file
        with _writing(path):
            file.close()
            if not special:
                files.replace(partial, target)
    except BaseException:
        with suppress(OSError):
            file.close()
        if not special and partial.exists():
            _keep_or_drop(partial)
        raise


def write(answers, file, name, answerer):
    """Writes answers as they come.

    Args:
        answers: what `predict.stream` gives.
        file: what `opened` gives.
        name: one of `FORMATS`.
        answerer: who answers.

    Returns:
        A `Tally`.

    Raises:
        UsageError: the disk is full.
    """
    kind, tally = FORMATS[name], Tally()
    for answer in answers:
        before = kind.between if tally.images else kind.head(answerer)
        _put(file, before + kind.row(answerer, answer))
        tally.images += 1
        if "error" in answer:
            tally.unreadable += 1
            if len(tally.reasons) < NAMED:
                tally.reasons += (f"{answer['path']}: {answer['error']}",)
    _put(file, kind.tail)
    return tally


def _text_row(answerer, answer):
    failed = "error" in answer
    lines = [f"unreadable: {answer['error']}"] if failed else answerer.lines(answer)
    lines = [answer["path"], *(f"  {line}" for line in lines)]
    return "\n".join(map(terminal.line, lines)) + "\n"


def _text_head(answerer):
    return f"{answerer.name} ({answerer.protocol})\n"


def _csv_row(answerer, answer):
    path, between = answer["path"], len(answerer.columns) - 2
    if "error" in answer:
        return _csv([(path, *[""] * between, answer["error"])])
    return _csv([(path, *cells, "") for cells in answerer.cells(answer)])


def _csv(rows):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(map(safe_row, rows))
    return text.getvalue()


def _json_head(answerer):
    about = json.dumps({"model": answerer.name, "protocol": answerer.protocol})
    return f'{about[:-1]}, "images": [\n'


FORMATS = {
    "text": Format(_text_row, _text_head),
    "csv": Format(_csv_row, lambda answerer: _csv([answerer.columns])),
    "jsonl": Format(lambda answerer, answer: json.dumps(answer) + "\n"),
    "json": Format(lambda answerer, answer: json.dumps(answer), _json_head, ",\n", "\n]}\n"),
}


def _put(file, text):
    if file is sys.stdout:
        print(text, end="", file=file, flush=True)
        return
    with _writing(file.name.removesuffix(PARTIAL)):
        file.write(text)
        file.flush()


@contextmanager
def _writing(path):
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path} could not be written: {error.strerror or error}") from error


def _keep_or_drop(partial):
    if partial.stat().st_size:
        log.warning("stopped before the end; the answers so far are in %s", partial)
    else:
        partial.unlink()


def _surviving(stream):
    """Lets a stream take any name of a file, even one that is no UTF-8."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="surrogateescape")
    return stream
