"""Numbers in files from elsewhere, which may be written as text."""

from __future__ import annotations

import math
import re

_WHOLE = re.compile(r"[+-]?[0-9]{1,300}")


def real(value: object) -> float | None:
    """Returns a finite number, also from text such as `"1.5"`; `None` for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def whole(value: object) -> int | None:
    """Returns a whole number, also from text such as `"12"`, or `None` for anything else."""
    if isinstance(value, str):
        return int(value) if _WHOLE.fullmatch(value.strip()) else None
    number = real(value)
    return None if number is None or number != int(number) else int(value)


def key(value: object) -> object:
    """Returns what to look an identifier up by: text that is a whole number is that number."""
    number = whole(value)
    return value if number is None else number
