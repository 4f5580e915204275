"""Series in a table: a row per step, a column per channel, perhaps a column of labels."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field

from tasks.data.number_parsing import parse_float
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import np
from zoo.paths import read_text

DELIMITERS = (";", "\t", ",")  # a comma may be a decimal comma where cells end with another sign


@dataclass(frozen=True, eq=False)
class Table:
    """The steps of a series.

    Attributes:
        values: float64 `(steps, channels)`.
        channels: Names of the columns.
        labels: The class of each step; empty without a column of labels.
    """

    values: np.ndarray = field(repr=False)
    channels: tuple[str, ...]
    labels: list = field(default_factory=list, repr=False)


def read(path, columns="", label_column=""):
    """Reads a table with cells separated by semicolons, tabs or commas.

    The first line holds the names of the columns, unless all its cells are numbers. A decimal comma
    is read where cells are separated by semicolons or tabs. Blank lines are skipped.

    Args:
        path: A `Path`.
        columns: Names of the columns that are channels, separated by commas; by default all but
            the label.
        label_column: Name of the column with the class of each step, or `""`.

    Returns:
        A `Table`.

    Raises:
        UsageError: The file is not a table of numbers, or lacks a column.
    """
    names, rows, decimal_comma = _rows(path)
    wanted = [name.strip() for name in columns.split(",") if name.strip()]
    wanted = wanted or [name for name in names if name != label_column]
    for name in (*wanted, *([label_column] if label_column else ())):
        if name not in names:
            raise unknown_name_error(f"column of {path}", name, names)
    if not wanted:
        raise UsageError(f"{path} has no column besides {label_column}; expected channels")
    column_indices = [names.index(name) for name in wanted]
    values = np.array([[_number(row[i], decimal_comma) for i in column_indices] for _, row in rows])
    _check_numbers(path, wanted, column_indices, rows, values, len(names))
    labels = []
    if label_column:
        labels = [row[names.index(label_column)] for _, row in rows]
        if "" in labels:
            line = rows[labels.index("")][0]
            raise UsageError(f"{path}, line {line}: no {label_column}; fill in or delete the row")
    return Table(values, tuple(wanted), labels)


def windows_of_labels(table, length):
    """Cuts a table into windows that do not overlap, each within steps of the same label.

    Args:
        table: A `Table` with labels.
        length: Steps of a window.

    Returns:
        A list of arrays `(length, channels)`, the list of their labels, and the number of steps in
        no window.
    """
    changes = [i for i in range(1, len(table.labels)) if table.labels[i] != table.labels[i - 1]]
    windows, labels = [], []
    for start, end in zip([0, *changes], [*changes, len(table.labels)], strict=True):
        for first in range(start, end - length + 1, length):
            windows.append(table.values[first : first + length])
            labels.append(table.labels[first])
    return windows, labels, len(table.labels) - length * len(windows)


def sort_labels(labels):
    """Returns labels in the order of their numbers if all are numbers, else in that of the text."""
    numbers = [parse_float(label) for label in labels]
    key = str if None in numbers else float
    return sorted(map(str, labels), key=key)


def _rows(path):
    """Returns column names, pairs of line number and stripped cells, and the decimal sign."""
    content = read_text(path)
    head = content.lstrip().partition("\n")[0]
    delimiter = next((sign for sign in DELIMITERS if sign in head), ",")
    try:
        reader = csv.reader(io.StringIO(content, newline=""), strict=True, delimiter=delimiter)
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise UsageError(f"{path} is not a table: {error}") from error
    rows = [(line, row) for line, row in rows if any(row)]
    if not rows:
        raise UsageError(f"{path} is empty; expected a row per step")
    names, decimal_comma = rows[0][1], delimiter != ","
    if all(_number(cell, decimal_comma) is not None for cell in names):
        names = [f"channel {index}" for index in range(1, len(names) + 1)]
    else:
        rows = rows[1:]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"{path} has several columns named {twice!r}; rename them")
    if not rows:
        raise UsageError(f"{path} has no rows below its header")
    if wrong := [(line, len(row)) for line, row in rows if len(row) != len(names)]:
        raise UsageError(
            f"{path}, line {wrong[0][0]}: {wrong[0][1]} cells, expected {len(names)} as in line 1"
        )
    return names, rows, decimal_comma


def _number(cell, decimal_comma):
    return parse_float(cell.replace(",", ".") if decimal_comma else cell)


def _check_numbers(path, names, column_indices, rows, values, num_columns):
    """Raises `UsageError` if a cell is not a finite number, with its column, line and content."""
    missing = values == None if values.dtype == object else np.isnan(values)  # noqa: E711
    if not missing.any():
        return
    row, column = np.argwhere(missing)[0]
    line, cells = rows[row]
    count, cell = int(missing[:, column].sum()), cells[column_indices[column]]
    plural = "s" if count > 1 else ""
    if count == len(rows) and cell:  # such as a time stamp
        others = [name for name in names if name != names[column]]
        hint = f"leave it out: --columns {','.join(others)!r}" if others else "expected numbers"
        hint += f"; or classes: --label-column {names[column]!r}" if num_columns > 1 else ""
        raise UsageError(
            f"{path}: column {names[column]!r} holds text, such as {cell!r:.40}; {hint}"
        )
    raise UsageError(
        f"{path}: column {names[column]!r} has no number in {count:,} row{plural}, the first in "
        f"line {line}: {cell!r:.40}; fill the gaps, or leave the column out with --columns"
    )
