"""Parsing of numbers in annotation files, which may be written as text."""

from __future__ import annotations

import math
import re

_INTEGER = re.compile(r"[+-]?[0-9]{1,300}")


def parse_float(value: object) -> float | None:
    """Returns a finite number, also from text such as `"1.5"`; `None` for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def parse_int(value: object) -> int | None:
    """Returns an integer, also from text such as `"12"`; `None` for anything else."""
    if isinstance(value, str):
        return int(value) if _INTEGER.fullmatch(value.strip()) else None
    number = parse_float(value)
    return None if number is None or number != int(number) else int(value)


def normalize_id(value: object) -> object:
    """Returns an id as a dictionary key: text that is an integer becomes that integer."""
    number = parse_int(value)
    return value if number is None else number
