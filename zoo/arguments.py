"""Validates arguments: a wrong value or a wrong type raises `UsageError`."""

from __future__ import annotations

import math
import numbers
import os

from zoo.errors import UsageError

MAX_INT = 2**31 - 1  # the largest side of a tensor on all backends


def check_int(value, name, min_value=1, max_value=MAX_INT):
    """Returns an integer in [min_value, max_value] as an `int`.

    Args:
        value: the argument, an `int` or an integer of NumPy.
        name: its name, for the message.
        min_value: the smallest valid value.
        max_value: the largest valid value.

    Raises:
        UsageError: the value is not an integer, or out of range.
    """
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_integer or not min_value <= value <= max_value:
        raise UsageError(
            f"{name} must be an integer from {min_value:,} to {max_value:,}, not "
            f"{short_repr(value)}"
        )
    return int(value)


def check_rate(value, name):
    """Returns a number in [0, 1) as a `float`; raises `UsageError` if it is not one."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not 0 <= value < 1:
        raise UsageError(f"{name} must be a number in [0, 1), not {short_repr(value)}")
    return float(value)


def check_path(value, name):
    """Returns a path as a string; raises `UsageError` if it is not a path."""
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise UsageError(f"{name} must be a path, not {short_repr(value)}")
    return os.fspath(value)


def check_size(value, name):
    """Returns `(height, width)` as a tuple; a side may be `None`.

    Raises:
        UsageError: the value is not a pair of positive integers or `None`.
    """
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise UsageError(f"{name} must be (height, width) in pixels, not {short_repr(value)}")
    return tuple(side if side is None else check_int(side, name) for side in value)


def short_repr(value):
    """Returns `repr(value)`, truncated to 40 characters."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
