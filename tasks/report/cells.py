"""Cells of CSV files, which spreadsheets take for formulas where they begin as one does."""

from __future__ import annotations

FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def safe(cell):
    """Returns a cell so that no spreadsheet runs it: text that begins as a formula gets a `'`
    before it; numbers, also such as text, stay as they are."""
    if not isinstance(cell, str) or not cell.startswith(FORMULAS):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def safe_row(row):
    """Returns a row, a dict of cells by column or a sequence of cells, with each of them safe."""
    if isinstance(row, dict):
        return {safe(column): safe(cell) for column, cell in row.items()}
    return [safe(cell) for cell in row]
