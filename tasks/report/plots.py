"""Plots of a run as HTML figures: training curves and image galleries.

Each function returns one well-formed `<figure>` for a section of `page.write`, whose style sheet
has colors for light mode, dark mode and print.
"""

from __future__ import annotations

import base64
import io
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

from tasks.report import axes, image_channels, svg
from tasks.report.formatting import display_name, escape, format_value, is_percentage
from tasks.report.plot_area import PlotArea
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")

_MAX_MARKED_EPOCHS = 30  # a curve of more epochs has no markers
# Columns of the history that are neither of training nor of validation.
_SINGLE_SERIES = ("learning_rate", "seconds", "images_per_second")
_MAX_DRAWN_VALUE = 1e200  # a larger value counts as infinite

_MIN_SMOOTH_SIZE = 64  # smaller images are scaled up without smoothing, which would blur them
_MAX_IMAGE_SIZE = 256  # larger images are scaled down to this, twice the displayed size


def training_curves(history: Sequence[Mapping], names: Sequence[str], title: str) -> str:
    """Plots metrics by epoch: a panel for each name, with training and validation curves.

    Missing values, `None` and "" are skipped; a value that is not finite interrupts the line and is
    marked by a cross. An axis is logarithmic if all values are positive and the largest is more
    than 100 times the smallest.

    Args:
        history: A row for each epoch, with the metric `name` of training and `val_name` of
            validation; rows without `epoch` are numbered from 1.
        names: The metrics to plot; a name without values is skipped.
        title: The caption.

    Returns:
        HTML; `""` if there is nothing to plot.
    """
    epochs = [_float(row.get("epoch", count)) for count, row in enumerate(history, start=1)]
    panels = []
    for name in names:
        series = {
            "training": _points(history, epochs, name),
            "validation": _points(history, epochs, f"val_{name}"),
        }
        series = {kind: points for kind, points in series.items() if points}
        if series:
            panels.append(_panel(name, series, axes.integer_axis(min(epochs), max(epochs))))
    if not panels:
        return ""
    body = f'<div class="panels">{"".join(panels)}</div>'
    return f'<figure class="curves"><figcaption>{escape(title)}</figcaption>{body}</figure>'


def image_gallery(items: Iterable[tuple]) -> str:
    """Shows images in rows, each above its caption.

    Args:
        items: Pairs of a uint8 image `(height, width, channels)` and a caption, whose line breaks
            are kept. The channels of `image_channels.to_displayable` are shown. Images smaller than
            64 pixels are scaled up without smoothing.

    Raises:
        ValueError: An image has another dtype or rank.
    """
    return f'<figure class="gallery">{"".join(itertools.starmap(_image_figure, items))}</figure>'


def _points(history, epochs, name):
    """Returns pairs of epoch and value for the rows that have the metric."""
    return [
        (epoch, _float(row[name]))
        for epoch, row in zip(epochs, history, strict=True)
        if row.get(name) not in (None, "")
    ]


def _panel(name, series, x_axis):
    """Returns the curves of one metric below a line with its name, legend and last values."""
    finite = [y for points in series.values() for _, y in points if _is_drawable(y)]
    y_axis = axes.nice_axis(finite or [0.0, 1.0], is_percentage(name))
    area = PlotArea(x_axis, y_axis)
    parts = area.grid("epoch")
    if not finite:
        centre = (area.left + area.right) / 2, (area.top + area.bottom) / 2
        parts.append(svg.text(*centre, "no finite value"))
    parts += [_curve(name, kind, points, area) for kind, points in series.items()]
    legend = " ".join(
        f"<span>{_legend_entry(name, kind)} {escape(format_value(name, points[-1][1]))}</span>"
        for kind, points in series.items()
    )
    heading = display_name(name) + (" (logarithmic)" if y_axis.log else "")
    return (
        f'<div class="panel"><p><strong>{escape(heading)}</strong> {legend}</p>'
        f"{area.to_svg(parts, heading + ' by epoch')}</div>"
    )


def _legend_entry(name, kind):
    sample = [svg.polyline([(0, 5), (20, 5)], kind=kind), _marker(10, 5, kind)]
    return "at the end" if name in _SINGLE_SERIES else svg.inline_svg(20, 10, sample) + kind


def _curve(name, kind, points, area):
    """Returns a line through each run of finite points, and crosses for the other points."""
    parts = []
    for drawn, run in itertools.groupby(points, key=lambda point: _is_drawable(point[1])):
        run = [
            (area.x_pixel(x), area.y_pixel(y) if drawn else area.bottom, _tooltip(name, kind, x, y))
            for x, y in run
        ]
        if drawn:
            parts.append(svg.polyline([(x, y) for x, y, _ in run], kind=kind))
        if not drawn:
            parts += [_cross_marker(x, y, kind, hint) for x, y, hint in run]
        elif len(points) <= _MAX_MARKED_EPOCHS or len(run) == 1:
            parts += [_marker(x, y, kind, hint) for x, y, hint in run]
    return "".join(parts)


def _tooltip(name, kind, epoch, value):
    return f"{kind}, epoch {epoch:g}: {format_value(name, value)}"


def _marker(x, y, kind, hint=""):
    if kind == "training":
        return svg.circle(x, y, 3, kind=kind, hint=hint)
    return svg.rectangle(x - 3, y - 3, 6, 6, kind=kind, hint=hint)


def _cross_marker(x, y, kind, hint):
    return svg.path(f"M{x - 4:.1f} {y - 4:.1f}l8 8m0-8l-8 8", kind=f"line {kind}", hint=hint)


def _image_figure(image, caption):
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3:
        raise ValueError(
            f"got an image {image.shape} of {image.dtype}, expected (height, width, channels) of "
            "uint8"
        )
    image = image_channels.to_displayable(image)
    kind = "pixels" if max(image.shape) < _MIN_SMOOTH_SIZE else "smooth"
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    picture.thumbnail((_MAX_IMAGE_SIZE, _MAX_IMAGE_SIZE))  # does not enlarge
    png = io.BytesIO()
    picture.save(png, "PNG")
    source = f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode('ascii')}"
    return (
        f'<figure><img class="{kind}" src="{source}" alt="{escape(caption)}"/>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _float(value):
    """Returns a value of a history as a float; text that is not a number is NaN."""
    try:
        return float(value)
    except ValueError:
        return math.nan


def _is_drawable(value):
    return abs(value) < _MAX_DRAWN_VALUE  # NaN is not
