"""Formats what commands print: tables, counts, and specs of models."""

from __future__ import annotations

import math
import textwrap
import unicodedata

from zoo import terminal

COLUMNS = 80  # of the widest line, where names and paths allow it

SUFFIXES = {"k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}  # of a number, by their factor


def format_table(columns, rows, right=()):
    """Returns a table as text, one line per row below a line of column titles.

    Args:
        columns: the column titles.
        rows: an iterable of rows, each with one string per column.
        right: titles of the right-aligned columns, such as numbers.
    """
    rows = [[terminal.escape_line(text) for text in row] for row in (columns, *rows)]
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            f"{_spaces(text, width)}{text}" if title in right else text + _spaces(text, width)
            for title, text, width in zip(columns, row, widths, strict=True)
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def _width(text):
    """Returns the columns that text takes on a terminal: two per wide character, as in Chinese."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(map(bool, map(unicodedata.combining, text)))


def _spaces(text, width):
    return " " * (width - _width(text))


def wrap(text, indent):
    """Returns text in lines of at most 80 columns, unless a word is longer.

    Args:
        text: one line; control characters in it are escaped.
        indent: the number of spaces before each line but the first.
    """
    options = {"break_long_words": False, "break_on_hyphens": False}
    shown = terminal.escape_line(text)
    return textwrap.fill(shown, COLUMNS, subsequent_indent=" " * indent, **options)


def format_count(number):
    """Returns a number with three digits and a suffix, such as `25.6M`; `?` for `None`."""
    if number is None:
        return "?"
    for letter, unit in reversed(SUFFIXES.items()):
        if float(f"{number:.3g}") >= unit:
            amount = number / unit
            places = 2 - math.floor(math.log10(float(f"{amount:.3g}")))
            return f"{amount:.{max(0, places)}f}{letter.upper() if letter != 'k' else letter}"
    return str(number)


def spec_dict(spec):
    """Returns the fields of a spec as plain values, for JSON output."""
    plain = {key: value for key, value in vars(spec).items() if key not in ("builder", "options")}
    plain["weights"] = spec.weights and {**vars(spec.weights), "options": None}
    plain["num_classes"] = spec.num_classes
    return plain
