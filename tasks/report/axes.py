"""Axes of a plot: the position of a value between the ends, and ticks at round values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_MIN_LOG_RATIO = 100  # positive values with a larger ratio get a logarithmic axis


@dataclass(frozen=True)
class Axis:
    """A linear or logarithmic scale from `low` to `high`; `ticks` are pairs of a value and text."""

    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    log: bool = False

    def at(self, value: float) -> float:
        """Returns the position of a value: 0 at the low end and 1 at the high end."""
        low, high, value = (
            map(math.log10, (self.low, self.high, value))
            if self.log
            else (self.low, self.high, value)
        )
        return (value - low) / (high - low)


def nice_axis(values: Sequence[float], as_percent: bool = False) -> Axis:
    """Returns an axis between round values that contains all of `values`.

    Args:
        values: At least one finite value.
        as_percent: Whether they are fractions in [0, 1]: the ticks are percentages, and the axis
            does not extend beyond [0, 1].
    """
    low, high = min(values), max(values)
    if low > 0 and high > _MIN_LOG_RATIO * low and not as_percent:
        return _log_axis(low, high)
    bounded = as_percent and low >= 0 and high <= 1 + 1e-6  # float32 may round up
    if high - low <= 1e-9 * abs(high):
        margin = 0.1 * abs(high) or 0.1
        low, high = low - margin, high + margin
    step = _nice_step((high - low) / 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-6)
    if bounded:
        first, last = max(first, 0), min(last, round(1 / step))
    ticks = [
        (index * step, _tick_label(index * step, step, as_percent))
        for index in range(first, last + 1)
    ]
    return Axis(first * step, last * step, ticks)


def integer_axis(first: float, last: float) -> Axis:
    """Returns an axis from `first` to `last` exactly, with ticks at integers only."""
    if first == last:
        return Axis(first - 0.5, last + 0.5, [(first, f"{first:g}")])
    step = max(1, round(_nice_step((last - first) / 9)))
    start = math.ceil(first / step) * step
    return Axis(first, last, [(x, f"{x}") for x in range(start, math.floor(last) + 1, step)])


def _log_axis(low, high):
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    powers = range(first, last + 1, math.ceil((last - first) / 6))
    return Axis(10.0**first, 10.0**last, [(10.0**k, f"{10.0**k:g}") for k in powers], log=True)


def _nice_step(rough):
    """Returns the smallest of 1, 2, 5 times a power of ten that is not below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(k * power for k in (1, 2, 5, 10) if k * power >= rough * (1 - 1e-9))


def _tick_label(value, step, as_percent):
    """Returns the text of a tick, with as many digits as distinguish it from the next."""
    if as_percent:
        return f"{_tick_label(100 * value, 100 * step, False)}%"
    decimals = -math.floor(math.log10(step) + 1e-9)
    value = round(value, decimals) + 0.0  # no minus sign on zero
    if decimals < 6 and abs(value) < 1e5:
        return f"{value:.{max(0, decimals)}f}"
    digits = decimals + math.floor(math.log10(abs(value))) + 1 if value else 1
    return f"{value:.{digits}g}"
