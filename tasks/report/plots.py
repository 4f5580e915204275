"""Pictures of a run as HTML figures: curves, a confusion matrix, a gallery of images.

Each function returns one well-formed `<figure>` for a section of `page.write`, whose style colours
the classes used here in light, in dark and on paper.
"""

from __future__ import annotations

import base64
import io
import itertools
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from tasks.report import axes, image_channels, svg
from tasks.report.formatting import display_name, escape, format_value, is_percentage
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")

_WIDTH, _HEIGHT = 430, 230  # of a panel of curves, in pixels, as all lengths below
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 418, 10, 188  # its axes
_MAX_MARKED_EPOCHS = 30  # each epoch has a marker, up to this many
_SINGLE_SERIES = (
    "learning_rate",
    "seconds",
    "images_per_second",
)  # neither training nor validation
_MAX_DRAWN_VALUE = 1e200  # what is larger counts as infinite

_MAX_CLASSES = 40  # of a confusion matrix that is shown whole
_NUM_CONFUSED_CLASSES = 30  # that are shown of a larger one
_MIN_FONT_SIZE = 8  # counts that would need smaller ones are not written
_LIGHT_TEXT_OPACITY = 0.6  # the opacity from which a cell is better read in the colour of the page
_CHAR_WIDTH = 7.2  # about the width of a letter in the labels
_MAX_LABEL_LENGTH = 22  # in letters
_COLOUR_BAR_WIDTH = 240  # of the key to the colours

_MIN_SMOOTH_SIZE = 64  # an image smaller than this shows its pixels; a smooth scaling would blur it
_MAX_IMAGE_SIZE = 256  # a larger one is scaled down to this, twice the size at which it is seen


def training_curves(history: Sequence[Mapping], names: Sequence[str], title: str) -> str:
    """Draws figures over the epochs: a panel for each name, training and validation together.

    A figure that an epoch does not have, or has as `None` or "", is passed over; one that is not
    finite breaks the line and leaves a cross. An axis is logarithmic where all values are positive
    and the largest is over 100 times the smallest.

    Args:
        history: A row for each epoch, with the figure `name` of training and `val_name` of
            validation; a row without `epoch` is counted, from 1.
        names: What to draw; a name that no epoch has is left out.
        title: Says what is seen, below the heading of the section.

    Returns:
        HTML; `""` where there is nothing to draw.
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


def confusion_matrix(matrix, classes: Sequence[str]) -> str:
    """Draws a confusion matrix as a heat map: rows are true, columns predicted classes.

    The opacity of a cell is the square root of its share of the row, so that rare mistakes show.
    Counts are written where they fit. Of more than 40 classes at most 30 are drawn, those of the
    most frequent mistakes, in the order of these.

    Args:
        matrix: Counts `(classes, classes)`, as from `metrics.confusion_matrix`.
        classes: The names of all classes, in the order of the matrix.

    Raises:
        ValueError: If there is not one name for each class.
    """
    matrix = np.asarray(matrix).astype(np.int64)
    if matrix.shape != (len(classes), len(classes)):
        raise ValueError(f"got {len(classes)} names for a confusion matrix {matrix.shape}")
    selected = list(range(len(classes)))
    note = "A row is a true class, a column a prediction; colour is the share of the row."
    if len(classes) > _MAX_CLASSES:
        selected = _most_confused_classes(matrix)
        note += (
            f" Shown are {len(selected)} of {len(classes)} classes, the most confused ones first."
        )
    names = [str(classes[index]) for index in selected]
    picture = _heat_map(matrix[np.ix_(selected, selected)], matrix.sum(axis=1)[selected], names)
    return f'<figure class="confusion"><figcaption>{note}</figcaption>{picture}</figure>'


def image_gallery(items: Iterable[tuple]) -> str:
    """Shows images in rows, each above its caption.

    Args:
        items: Pairs of a uint8 image `(height, width, channels)` and a caption, whose line breaks
            are kept. The channels that `image_channels.to_displayable` names are shown. Images
            under 64
            pixels are scaled up with crisp pixels.

    Raises:
        ValueError: If an image is anything else.
    """
    return f'<figure class="gallery">{"".join(itertools.starmap(_image_figure, items))}</figure>'


def _points(history, epochs, name):
    """Returns pairs of epoch and value for the rows that have the figure."""
    return [
        (epoch, _float(row[name]))
        for epoch, row in zip(epochs, history, strict=True)
        if row.get(name) not in (None, "")
    ]


def _panel(name, series, x_axis):
    """Returns the curves of one figure under a line with its name, legend and last values."""
    finite = [y for points in series.values() for _, y in points if _is_drawable(y)]
    y_axis = axes.nice_axis(finite or [0.0, 1.0], is_percentage(name))

    def to_pixels(x, y):
        height = y_axis.at(y) if _is_drawable(y) else 0
        return _LEFT + (_RIGHT - _LEFT) * x_axis.at(x), _BOTTOM - (_BOTTOM - _TOP) * height

    parts = [svg.text((_LEFT + _RIGHT) / 2, _HEIGHT - 4, "epoch")]
    for value, label in y_axis.ticks:
        _, y = to_pixels(x_axis.low, value)
        parts.append(svg.path(f"M{_LEFT} {y:.1f}H{_RIGHT}", kind="grid"))
        parts.append(svg.text(_LEFT - 8, y + 4, label, anchor="end"))
    parts += [svg.text(to_pixels(x, math.nan)[0], _BOTTOM + 18, label) for x, label in x_axis.ticks]
    if not finite:
        parts.append(svg.text((_LEFT + _RIGHT) / 2, (_TOP + _BOTTOM) / 2, "no finite value"))
    parts += [_curve(name, kind, points, to_pixels) for kind, points in series.items()]
    legend = " ".join(
        f"<span>{_legend_entry(name, kind)} {escape(format_value(name, points[-1][1]))}</span>"
        for kind, points in series.items()
    )
    heading = display_name(name) + (" (logarithmic)" if y_axis.log else "")
    return (
        f'<div class="panel"><p><strong>{escape(heading)}</strong> {legend}</p>'
        f"{svg.inline_svg(_WIDTH, _HEIGHT, parts, heading + ' by epoch')}</div>"
    )


def _legend_entry(name, kind):
    sample = [svg.polyline([(0, 5), (20, 5)], kind=kind), _marker(10, 5, kind)]
    return "at the end" if name in _SINGLE_SERIES else svg.inline_svg(20, 10, sample) + kind


def _curve(name, kind, points, to_pixels):
    """Returns a line through each stretch of finite points, and crosses for the other points."""
    parts = []
    for drawn, stretch in itertools.groupby(points, key=lambda point: _is_drawable(point[1])):
        stretch = [
            (*to_pixels(x, y), f"{kind}, epoch {x:g}: {format_value(name, y)}") for x, y in stretch
        ]
        if drawn:
            parts.append(svg.polyline([(x, y) for x, y, _ in stretch], kind=kind))
        if not drawn:
            parts += [_cross_marker(x, y, kind, hint) for x, y, hint in stretch]
        elif len(points) <= _MAX_MARKED_EPOCHS or len(stretch) == 1:
            parts += [_marker(x, y, kind, hint) for x, y, hint in stretch]
    return "".join(parts)


def _marker(x, y, kind, hint=""):
    if kind == "training":
        return svg.circle(x, y, 3, kind=kind, hint=hint)
    return svg.rectangle(x - 3, y - 3, 6, 6, kind=kind, hint=hint)


def _cross_marker(x, y, kind, hint):
    return svg.path(f"M{x - 4:.1f} {y - 4:.1f}l8 8m0-8l-8 8", kind=f"line {kind}", hint=hint)


def most_confused(matrix, count: int) -> list[tuple[int, int, int]]:
    """Returns at most `count` of `(true, predicted, times)`, the most frequent mistake first.

    Mistakes that never happened are left out; equally frequent ones stay in the order of the cells.
    """
    mistakes = np.array(matrix)
    np.fill_diagonal(mistakes, 0)
    cells = np.flatnonzero(mistakes)
    order = np.argsort(-mistakes.flat[cells], kind="stable")[:count]
    pairs = (divmod(int(cell), len(mistakes)) for cell in cells[order])
    return [(true, predicted, int(mistakes[true, predicted])) for true, predicted in pairs]


def _most_confused_classes(matrix):
    """Returns the numbers of the classes in the most frequent mistakes, in the order of these.

    Of a matrix without mistakes it returns the first classes.
    """
    # Among n classes there are fewer than n * n mistakes, so one more pair brings in another class.
    pairs = most_confused(matrix + matrix.T, _NUM_CONFUSED_CLASSES**2)
    selected = dict.fromkeys(index for true, predicted, _ in pairs for index in (true, predicted))
    return list(selected or range(len(matrix)))[:_NUM_CONFUSED_CLASSES]


def _heat_map(counts, totals, names):
    """Returns the cells with names to the left and above, and the key to the colours below."""
    cell = min(64, max(16, 600 / len(names)))
    longest = max(_text_width(_truncate(name)) for name in names)
    turned = longest > cell - 6
    left, top = round(longest) + 36, round(0.71 * longest + 10 if turned else 12) + 36
    side = cell * len(names)
    parts = [
        svg.text(12, top + side / 2, "true class", turn=-90),
        svg.text(left + side / 2, 14, "predicted class"),
        *_cells(counts, totals, names, left, top, cell),
        svg.path(f"M{left} {top}h{side:.1f}v{side:.1f}h{-side:.1f}z", kind="frame"),
        *_colour_bar(left, top + side + 20),
    ]
    above = {"anchor": "start", "turn": -45} if turned else {}
    for index, name in enumerate(names):
        label = {"content": _truncate(name), "kind": "name", "hint": name}
        middle = cell * (index + 0.5)
        parts.append(svg.text(left - 8, top + middle + 4, anchor="end", **label))
        parts.append(svg.text(left + middle + (2 if turned else 0), top - 8, **label, **above))
    overhang = 0.71 * longest - cell / 2 if turned else 0
    width = left + max(side + overhang, _COLOUR_BAR_WIDTH) + 16
    return svg.inline_svg(width, top + side + 52, parts, "confusion matrix")


def _cells(counts, totals, names, left, top, cell):
    """Returns the squares that are not empty, with counts where the largest fits its square."""
    size = min(13, (cell - 6) / (0.64 * len(str(counts.max()))))
    parts = []
    for row, column in zip(*np.nonzero(counts), strict=True):
        count, total = counts[row, column], totals[row]
        hint = f"{names[row]} taken for {names[column]}: {count:,} of {total:,}"
        x, y, opacity = left + cell * column, top + cell * row, math.sqrt(count / total)
        parts.append(svg.rectangle(x, y, cell, cell, kind="heat", opacity=opacity, hint=hint))
        if size >= _MIN_FONT_SIZE:
            kind = "count light" if opacity > _LIGHT_TEXT_OPACITY else "count"
            spot = x + cell / 2, y + cell / 2 + 0.36 * size
            parts.append(svg.text(*spot, f"{count}", kind=kind, size=size, hint=hint))
    return parts


def _colour_bar(left, top):
    """Returns the key to the colours of the cells, from 0% to 100%."""
    step = _COLOUR_BAR_WIDTH / 40
    for index in range(40):
        opacity = math.sqrt((index + 0.5) / 40)
        yield svg.rectangle(left + step * index, top, step, 10, kind="heat", opacity=opacity)
    for share in (0, 0.25, 0.5, 0.75, 1):
        yield svg.text(left + _COLOUR_BAR_WIDTH * share, top + 26, f"{share:.0%}")


def _truncate(text):
    """Returns a label that is no longer than the longest allowed, with an ellipsis if it was."""
    return text if len(text) <= _MAX_LABEL_LENGTH else f"{text[: _MAX_LABEL_LENGTH - 1]}…"


def _text_width(text):
    """Returns about how many pixels a label takes; letters of East Asia are twice as wide."""
    return _CHAR_WIDTH * sum(2 if unicodedata.east_asian_width(x) in "WF" else 1 for x in text)


def _image_figure(image, caption):
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3:
        raise ValueError(
            f"got an image {image.shape} of {image.dtype}, needed (height, width, channels) of "
            "uint8"
        )
    image = image_channels.to_displayable(image)
    kind = "pixels" if max(image.shape) < _MIN_SMOOTH_SIZE else "smooth"
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    picture.thumbnail((_MAX_IMAGE_SIZE, _MAX_IMAGE_SIZE))  # leaves a smaller one as it is
    png = io.BytesIO()
    picture.save(png, "PNG")
    source = f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode('ascii')}"
    return (
        f'<figure><img class="{kind}" src="{source}" alt="{escape(caption)}"/>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _float(value):
    """Returns a value of a history as a float; text that is no number is NaN."""
    try:
        return float(value)
    except ValueError:
        return math.nan


def _is_drawable(value):
    return abs(value) < _MAX_DRAWN_VALUE  # NaN is not
