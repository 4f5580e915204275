"""Formats tables as text."""

from __future__ import annotations

from zoo import terminal


def format_table(columns, rows, right=()):
    """Returns a table as text, one line per row below a line of column titles.

    Args:
        columns: the column titles.
        rows: an iterable of rows, each with one string per column.
        right: titles of the right-aligned columns, such as numbers.
    """
    rows = [[terminal.escape_line(text) for text in row] for row in (columns, *rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            text.rjust(width) if title in right else text.ljust(width)
            for title, text, width in zip(columns, row, widths, strict=True)
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
