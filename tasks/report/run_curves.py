"""Plots the curves of several runs over each other, one panel for each metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tasks.report import axes, svg
from tasks.report.formatting import display_name, escape, format_value, is_percentage
from tasks.report.plot_area import PlotArea


def overlaid_curves(histories: Mapping[str, Sequence[Mapping]], names: Sequence[str]) -> str:
    """Plots metrics of several runs by epoch, with a panel for each metric.

    A run is drawn by the values of its validation images, or of its training images without them.
    Values that are not finite are left out.

    Args:
        histories: The history of each run by its label, rows of text or numbers by column.
        names: The metrics to plot; one without values is skipped.

    Returns:
        HTML; `""` if there is nothing to plot.
    """
    panels = [_panel(name, histories) for name in names]
    body = "".join(panels)
    return f'<figure class="curves"><div class="panels">{body}</div></figure>' if body else ""


def _panel(name, histories):
    """Returns the curves of one metric below a line with the label and last value of each run."""
    series = {
        number: (label, _points(rows, name))
        for number, (label, rows) in enumerate(histories.items())
    }
    series = {number: (label, points) for number, (label, points) in series.items() if points}
    if not series:
        return ""
    every = [point for _, points in series.values() for point in points]
    epochs = [x for x, _ in every]
    x_axis = axes.integer_axis(min(epochs), max(epochs))
    y_axis = axes.nice_axis([y for _, y in every], is_percentage(name))
    area = PlotArea(x_axis, y_axis)
    parts = area.grid("epoch")
    legend = ""
    for number, (label, points) in series.items():
        kind = f"run{number}"
        pixels = [area.to_pixels(*point) for point in points]
        hint = f"{label}: {format_value(name, points[-1][1])}"
        parts.append(svg.polyline(pixels, kind=kind))
        parts.append(svg.circle(*pixels[-1], 3, kind=kind, hint=hint))
        sample = svg.inline_svg(20, 10, [svg.polyline([(0, 5), (20, 5)], kind=kind)])
        legend += f"<span>{sample}{escape(hint)}</span> "
    heading = display_name(name) + (" (logarithmic)" if y_axis.log else "")
    return (
        f'<div class="panel"><p><strong>{escape(heading)}</strong> {legend}</p>'
        f"{area.to_svg(parts, heading + ' by epoch')}</div>"
    )


def _points(rows, name):
    """Returns pairs of epoch and finite value, of validation where a row has it."""
    column = (
        f"val_{name}" if any(row.get(f"val_{name}") not in (None, "") for row in rows) else name
    )
    pairs = [
        (_float(row.get("epoch", count)), _float(row.get(column)))
        for count, row in enumerate(rows, start=1)
    ]
    return [pair for pair in pairs if all(map(math.isfinite, pair))]


def _float(value):
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
