"""Plot of a range test: loss against learning rate, and the suggestion."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tasks.report import axes, svg

_WIDTH, _HEIGHT = 560, 340  # of the plot, in pixels, as all lengths below
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 540, 34, 280  # its axes
_STYLE = """
.grid { stroke: #d8dee4 }
.line { fill: none; stroke-width: 2 } .raw { stroke: #b6c2cf; stroke-width: 1 }
.smooth { stroke: #0b62a5 } .mark { stroke: #c8553d; stroke-dasharray: 4 3 }
"""


def lr_svg(
    rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], suggestion: float
) -> str:
    """Returns an SVG file with the loss and its moving average against the learning rate.

    The y axis ends at twice the first loss, as the loss diverges in the end.

    Args:
        rates: Learning rate of each step, rising; at least two.
        losses, smoothed: Loss of each step, and its moving average; values that are not finite are
            left out.
        suggestion: The learning rate to mark.
    """
    ceiling = 2 * smoothed[0]
    shown = [y for y in smoothed if math.isfinite(y) and y <= ceiling]
    y_axis = axes.nice_axis([*shown, min(shown) * 0.9])
    x_axis = axes.nice_axis([rates[0], rates[-1]])

    def to_pixels(x, y):
        right = _LEFT + (_RIGHT - _LEFT) * x_axis.at(x)
        return right, _BOTTOM - (_BOTTOM - _TOP) * min(max(y_axis.at(y), 0), 1)

    parts = [svg.text((_LEFT + _RIGHT) / 2, _HEIGHT - 14, "learning rate")]
    for value, label in y_axis.ticks:
        _, y = to_pixels(rates[0], value)
        parts.append(svg.path(f"M{_LEFT} {y:.1f}H{_RIGHT}", kind="grid"))
        parts.append(svg.text(_LEFT - 8, y + 4, label, anchor="end"))
    parts += [
        svg.text(to_pixels(x, y_axis.low)[0], _BOTTOM + 20, label) for x, label in x_axis.ticks
    ]
    for kind, values in (("raw", losses), ("smooth", smoothed)):
        finite = [(x, y) for x, y in zip(rates, values, strict=True) if math.isfinite(y)]
        parts.append(svg.polyline([to_pixels(x, y) for x, y in finite], kind=kind))
    x, _ = to_pixels(suggestion, y_axis.low)
    parts.append(svg.path(f"M{x:.1f} {_TOP}V{_BOTTOM}", kind="mark"))
    parts.append(svg.text(x, _TOP - 10, f"{suggestion:.1e}", kind="title"))
    return svg.standalone_svg(_WIDTH, _HEIGHT, parts, "loss by learning rate", _STYLE)
