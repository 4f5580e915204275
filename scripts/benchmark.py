"""Measures the speed and memory of models: zoo benchmark resnet50 --runtime openvino,onnx.

TARGET is a run folder, a .keras file, an exported file, a model name, or a pattern of names. A name
without a tag, such as resnet50, has random weights, which do not affect the speed. Each combination
of runtime, precision, batch size and number of threads is measured in a separate process:

    zoo benchmark runs/NAME --precision float32,int8 --batch-size 1,8
    zoo benchmark 'mobilenet*' resnet50 --csv speed.csv --picture speed.svg

The table shows the median and the 90th percentile of the latency in milliseconds, images per second
(from the median), and the peak memory of the process in MB. zoo export measures the accuracy of
int8 models.
"""

from __future__ import annotations

import json
import sys

from scripts._output import format_table
from zoo.errors import UsageError


def arguments(parser, words):
    """Adds the options of this command."""
    parser.add_argument(
        "targets",
        nargs="+",
        metavar="TARGET",
        help="run folder, .keras or exported file, model name, or pattern of names",
    )
    lists = (
        (
            "--runtime",
            "",
            "NAME,...",
            "keras, openvino, litert, onnx, saved_model (default: all "
            "that are installed, but saved_model)",
        ),
        ("--precision", "float32", "NAME,...", "float32, float16 or int8 (default: float32)"),
        ("--batch-size", "1,8", "N,...", "images per call (default: 1,8)"),
        ("--threads", "", "N,...", "threads of a call (default: all cores)"),
    )
    for flag, default, metavar, text in lists:
        parser.add_argument(flag, default=default, metavar=metavar, help=text)
    parser.add_argument(
        "--seconds", type=float, default=2.0, metavar="X", help="time of each case (default: 2)"
    )
    parser.add_argument("--csv", metavar="FILE", help="CSV file to write")
    parser.add_argument("--picture", metavar="FILE", help="SVG file to write")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args):
    """Prints a table for each model."""
    from tasks.export import benchmark, benchmark_table
    from zoo import atomic_files

    for path, suffix in ((args.csv, ".csv"), (args.picture, ".svg")):
        if path and not path.endswith(suffix):
            raise UsageError(f"{path} must end in {suffix}")
    show = sys.stderr.isatty() and not args.json
    rows = benchmark.benchmark(
        args.targets,
        on_row=_print_progress if show else lambda row: None,
        runtimes=_words(args.runtime),
        precisions=_words(args.precision),
        batch_sizes=_numbers("--batch-size", args.batch_size),
        threads=_numbers("--threads", args.threads),
        seconds=args.seconds,
    )
    if args.json:
        print(json.dumps(rows))
    else:
        _print_tables(rows, benchmark_table)
    if args.csv:  # after the table, which is not lost if the file cannot be written
        atomic_files.write_text(args.csv, benchmark_table.csv_text(rows))
    if args.picture:
        atomic_files.write_text(args.picture, benchmark_table.picture(rows))
    if all("reason" in row for row in rows):
        raise UsageError(f"nothing could be measured: {rows[0]['reason']}")


def _print_tables(rows, benchmark_table):
    columns = benchmark_table.COLUMNS
    for name in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == name]
        print(f"{name}\n{format_table(columns, map(benchmark_table.cells, own), columns[2:])}")
        for row in own:
            if "reason" in row:
                print(f"{row['runtime']} {row['precision']}: {row['reason']}")
        print()


def _print_progress(row):
    case = " ".join(str(row[key]) for key in ("model", "runtime", "precision"))
    print(f"zoo: measured {case}", file=sys.stderr)


def _words(text):
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def _numbers(flag, text):
    try:
        return tuple(int(word) for word in _words(text))
    except ValueError as error:
        raise UsageError(f"{flag} takes integers with commas, not {text!r:.60}") from error
