"""Plot of a range test: loss against learning rate, and the suggestion."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tasks.report import axes, svg
from tasks.report.plot_area import PlotArea

# In pixels.
_SIZES = {"width": 560, "height": 330, "left": 60, "right": 540, "top": 34, "bottom": 280}
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
    area = PlotArea(x_axis, y_axis, **_SIZES)
    parts = area.grid("learning rate")
    for kind, values in (("raw", losses), ("smooth", smoothed)):
        finite = [(x, y) for x, y in zip(rates, values, strict=True) if math.isfinite(y)]
        points = [
            area.to_pixels(x, min(max(y, y_axis.low), y_axis.high))  # clipped to the area
            for x, y in finite
        ]
        parts.append(svg.polyline(points, kind=kind))
    x = area.x_pixel(suggestion)
    parts.append(svg.path(f"M{x:.1f} {area.top}V{area.bottom}", kind="mark"))
    parts.append(svg.text(x, area.top - 10, f"{suggestion:.1e}", kind="title"))
    return svg.standalone_svg(area.width, area.height, parts, "loss by learning rate", _STYLE)
