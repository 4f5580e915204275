"""Cells of CSV files, which spreadsheets take for formulas where they begin as one does."""

from __future__ import annotations

FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r")


def escape_formula(cell):
    """Returns a cell so that no spreadsheet runs it: text that begins as a formula gets a `'`
    before it; numbers, also such as text, stay as they are."""
    if not isinstance(cell, str) or not cell.startswith(FORMULA_PREFIXES):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def escape_row(row):
    """Returns a row, a dict of cells by column or a sequence of cells, with each of them safe."""
    if isinstance(row, dict):
        return {escape_formula(column): escape_formula(cell) for column, cell in row.items()}
    return [escape_formula(cell) for cell in row]
