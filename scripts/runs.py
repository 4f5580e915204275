"""Lists runs with their figures: zoo runs runs/ --sort figure.

Prints one table per task. Unfinished runs show their progress; damaged runs are listed at the end,
with the reason. On a terminal, long names are shortened to its width.
"""

from __future__ import annotations

import json
import shutil
import sys
from itertools import groupby
from pathlib import Path

from scripts._output import format_table
from zoo import terminal

SORT_ORDERS = ("name", "model", "dataset", "figure", "seconds", "date")
MIN_WIDTH = 8  # characters of a shortened cell
SHORTENED = ("run", "model", "data set")


def arguments(parser, words):
    """Adds the options of this command."""
    parser.add_argument(
        "folder",
        nargs="?",
        default="runs",
        metavar="FOLDER",
        help="folder that contains runs (default: runs)",
    )
    parser.add_argument(
        "--sort",
        choices=SORT_ORDERS,
        default="name",
        help="order of the runs of a task; figure: main metric, best first (default: name)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args):
    """Prints one line per run."""
    from tasks.runs import listing

    found = listing.list_runs(args.folder, sort=args.sort)
    if args.json:
        print(json.dumps([_plain(run) for run in found], indent=1))
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    sound = [run for run in found if run.status != listing.DAMAGED]
    for number, (task, runs) in enumerate(groupby(sound, key=lambda run: run.task)):
        print(f"{chr(10) if number else ''}{terminal.escape_line(task)}")
        print(_table(list(runs), Path(args.folder), width))
    for run in found:
        if run.status == listing.DAMAGED:
            print(f"damaged: {terminal.escape_line(run.detail)}")


def _plain(run):
    """Returns a summary as JSON types."""
    return {**vars(run), "path": str(run.path), "date": run.date.isoformat()}


def _table(runs, folder, width):
    """Returns the table of the runs of one task, at most `width` characters wide if not 0."""
    from tasks.report import formatting

    metrics = sorted({run.metric for run in runs if run.metric})
    title = formatting.display_name(metrics[0]) if len(metrics) == 1 else "figure"
    columns = ("run", "model", "data set", title, "time", "date")
    rows = [columns, *(_row(run, folder, len(metrics) > 1) for run in runs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows = [[*map(_shortened, row, _fitted(columns, widths, width))] for row in rows]
    return format_table(rows[0], rows[1:], (title, "time"))


def _row(run, folder, named):
    """Returns the cells of a run; with the name of its figure if `named`."""
    from tasks.report import formatting

    name = f"{formatting.display_name(run.metric)} " if named else ""
    figure = name + formatting.format_value(run.metric, run.value) if run.metric else run.detail
    if run.status == "running":
        figure += ", running"
    path = run.path.relative_to(folder) if run.path != folder else run.path
    return (
        *(str(path), run.model, run.dataset, figure),
        "" if run.seconds is None else formatting.format_value("seconds", run.seconds),
        f"{run.date:%Y-%m-%d}",
    )


def _fitted(columns, widths, width):
    """Returns the widths of columns, with the longest of `SHORTENED` reduced to fit."""
    widths = list(widths)
    gaps = 2 * (len(columns) - 1)
    flexible = [index for index, column in enumerate(columns) if column in SHORTENED]
    while width and sum(widths) + gaps > width:
        longest = max(flexible, key=lambda index: widths[index])
        if widths[longest] <= MIN_WIDTH:
            break
        widths[longest] -= 1
    return widths


def _shortened(text, width):
    """Returns text with its middle left out if it is longer than `width`."""
    if len(text) <= width:
        return text
    head = width // 2
    return f"{text[:head]}…{text[len(text) - (width - head - 1) :]}"
