"""The tables, the CSV file and the picture of `zoo benchmark`."""

from __future__ import annotations

import csv
import io

from tasks.report import csv_cells, svg

COLUMNS = ("runtime", "precision", "batch", "threads", "median ms", "p90 ms", "images/s", "MB")
CSV_COLUMNS = (
    *("model", "runtime", "precision", "batch_size", "threads", "median_ms", "p90_ms"),
    *("images_per_second", "memory_mb", "calls", "reason"),
)
CASE = ("batch_size", "threads")
WIDTH, LABEL_WIDTH, VALUE_WIDTH, ROW, BAR, MARGIN = 860, 420, 90, 24, 14, 16  # pixels
MAX_LABEL = 72  # characters of a label, the last ones
STYLE = ".bar { fill: #3b6ea8 } .label { fill: #1b1f24 }"


def cells(row):
    """Returns the cells of a row, strings in the order of `COLUMNS`."""
    head = (row["runtime"], row["precision"])
    if "reason" in row:
        return (*head, *("-" if row[key] is None else str(row[key]) for key in CASE), *"-" * 4)
    memory = "-" if row["memory_mb"] is None else f"{row['memory_mb']:.0f}"
    return (
        *head,
        *(str(row[key]) for key in CASE),
        f"{row['median_ms']:.2f}",
        f"{row['p90_ms']:.2f}",
        f"{row['images_per_second']:.1f}",
        memory,
    )


def csv_text(rows):
    """Returns the rows as the text of a CSV file with the columns `CSV_COLUMNS`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in rows:
        values = ("" if row.get(key) is None else row[key] for key in CSV_COLUMNS)
        writer.writerow(csv_cells.escape_row(values))
    return text.getvalue()


def picture(rows):
    """Returns an SVG file with a bar for the images per second of each row, fastest first."""
    rows = sorted(
        (row for row in rows if "reason" not in row), key=lambda row: -row["images_per_second"]
    )
    largest = max((row["images_per_second"] for row in rows), default=1.0)
    space = WIDTH - LABEL_WIDTH - VALUE_WIDTH - 2 * MARGIN
    parts = [svg.text(MARGIN, 28, "Images per second", anchor="start", kind="title", size=15)]
    for number, row in enumerate(rows):
        top, rate = 44 + number * ROW, row["images_per_second"]
        left, width = MARGIN + LABEL_WIDTH, space * rate / largest
        label = (
            f"{row['model']}, {row['runtime']} {row['precision']}, batch {row['batch_size']}, "
            f"threads {row['threads']}"
        )
        parts += [
            svg.text(left - 8, top + 12, label[-MAX_LABEL:], anchor="end"),
            svg.rectangle(left, top, width, BAR, kind="bar"),
            svg.text(left + width + 6, top + 12, f"{rate:,.1f}", anchor="start"),
        ]
    height = 44 + len(rows) * ROW + MARGIN
    return svg.standalone_svg(WIDTH, height, parts, "Images per second of each case", STYLE)
