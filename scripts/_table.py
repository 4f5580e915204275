"""Rows under their columns, as text."""

from __future__ import annotations

from zoo import terminal


def format_table(columns, rows, right=()):
    """Returns rows as lines under their columns.

    Args:
        columns: titles.
        rows: of texts, as many as there are columns.
        right: titles of the columns that stand on the right, such as those of numbers.
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
