"""Escaping of CSV cells that spreadsheets would execute as formulas."""

from __future__ import annotations

FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r")


def escape_formula(cell):
    """Returns a cell that no spreadsheet executes: `'` is put before text that begins a formula.

    Numbers, also as text, are returned unchanged.
    """
    if not isinstance(cell, str) or not cell.startswith(FORMULA_PREFIXES):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def escape_row(row):
    """Returns a row, a dict of cells by column or a sequence of cells, with all cells escaped."""
    if isinstance(row, dict):
        return {escape_formula(column): escape_formula(cell) for column, cell in row.items()}
    return [escape_formula(cell) for cell in row]
