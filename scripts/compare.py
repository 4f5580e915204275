"""Compares runs of a task: zoo compare runs/A runs/B --out comparison.html.

Prints the flags that differ, the metrics and, for runs that were evaluated on the same test images,
the differences to the first run with paired 95% intervals. Accuracies are compared by McNemar's
exact test. The page also shows the training curves, and the images on which one run is better.
"""

from __future__ import annotations

import json
import sys

from scripts._output import format_table
from zoo import terminal

RUNS_PER_TABLE = 4  # so that a line has at most about 80 characters
MAX_VALUE_LENGTHS = {2: 24, 3: 16, 4: 12}  # characters of a value of a flag, by runs
MAX_IMAGES = 5  # named for each side


def arguments(parser, words):
    """Adds the options of this command."""
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="run folders; the first is the baseline"
    )
    parser.add_argument("--out", metavar="FILE", help="HTML page to write")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args):
    """Prints the comparison, and writes the page."""
    from tasks.runs import comparison, comparison_page

    runs, found = comparison.compare(args.runs)
    if args.out:
        comparison_page.write(args.out, runs, found)
    if args.json:
        print(json.dumps(found, indent=1))
    else:
        print("\n\n".join(filter(None, _blocks(found))))
    for note in found["notes"]:
        print(f"zoo: {terminal.escape_line(note)}", file=sys.stderr)
    if args.out:
        print(f"zoo: page in {args.out}", file=sys.stderr)


def _blocks(found):
    """Yields the parts of the text, each of one or more lines."""
    labels = [run["label"] for run in found["runs"]]
    yield "\n".join(f"{run['label']}  {terminal.escape_line(run['path'])}" for run in found["runs"])
    parts = [
        labels[first : first + RUNS_PER_TABLE] for first in range(0, len(labels), RUNS_PER_TABLE)
    ]
    for title, rows in (("flag", found["flags"]), ("environment", found["environment"])):
        for part in parts if rows else ():
            length = MAX_VALUE_LENGTHS.get(len(part), max(MAX_VALUE_LENGTHS.values()))
            cells = [
                (row["name"], *(_value(row["values"][label], length) for label in part))
                for row in rows
            ]
            yield format_table((title, *part), cells)
    for part in parts:
        yield _figures(found["figures"], part)
    if found["paired"]:
        yield _differences(found["paired"])
    for images in found["images"]:
        yield _images(images)


def _figures(rows, labels):
    from tasks.report.formatting import display_name, format_value

    cells = [
        (
            display_name(row["name"]),
            *(format_value(row["name"], row["values"][label]) for label in labels),
        )
        for row in rows
        if not row["name"].endswith(("_low", "_high"))
    ]
    return format_table(("figure", *labels), cells, labels)


def _differences(rows):
    from tasks.report.formatting import display_name, format_value

    cells = [
        (
            f"{row['run']} - {row['baseline']}",
            display_name(row["name"]),
            format_value(row["name"], row["difference"]),
            " to ".join(format_value(row["name"], row[end]) for end in ("low", "high")),
            f"{row['p_value']:.2g} (McNemar)" if "p_value" in row else "",
            f"{row['images']:,}",
        )
        for row in rows
    ]
    columns = ("pair", "figure", "difference", "95% interval", "p-value", "images")
    return format_table(columns, cells, ("difference", "95% interval", "images"))


def _images(found):
    """Returns the number and the first names of the images on which either run is better."""
    lines = []
    for label, key in ((found["baseline"], "baseline_better"), (found["run"], "run_better")):
        other = found["run"] if label == found["baseline"] else found["baseline"]
        rows = found[key]
        lines.append(f"{label} better than {other} on {len(rows):,} images")
        lines += [f"  {terminal.escape_line(row['image'])[:76]}" for row in rows[:MAX_IMAGES]]
        if len(rows) > MAX_IMAGES:
            lines.append(f"  and {len(rows) - MAX_IMAGES:,} more; --json has all")
    return "\n".join(lines)


def _value(value, length):
    text = str(value) if value != "" else "-"
    return text if len(text) <= length else f"{text[: length - 1]}…"
