"""Checks of what callers pass: whatever is wrong with a value, its type too, is a `UsageError`."""

from __future__ import annotations

import math
import numbers
import os

from zoo.errors import UsageError

MAX_INT = 2**31 - 1  # whole number that a tensor's shape can hold on any backend


def check_int(value, name, min_value=1, max_value=MAX_INT):
    """Returns a whole number as an `int`.

    Raises:
        UsageError: it is none, or out of range.
    """
    number = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not number or not min_value <= value <= max_value:
        raise UsageError(
            f"{name} must be a whole number from {min_value:,} to {max_value:,}, not "
            f"{short_repr(value)}"
        )
    return int(value)


def check_rate(value, name):
    """Returns a number in [0, 1); raises `UsageError` if it is none."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not 0 <= value < 1:
        raise UsageError(f"{name} must be a number from 0 and below 1, not {short_repr(value)}")
    return float(value)


def check_path(value, name):
    """Returns a path as a string; raises `UsageError` if it is none."""
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise UsageError(f"{name} must be a path, not {short_repr(value)}")
    return os.fspath(value)


def check_size(value, name):
    """Returns `(height, width)`, where `None` stands for any length.

    Raises:
        UsageError: it is something else.
    """
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise UsageError(f"{name} must be (height, width) in pixels, not {short_repr(value)}")
    return tuple(side if side is None else check_int(side, name) for side in value)


def short_repr(value):
    """Writes a value in one line that is not too long."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
