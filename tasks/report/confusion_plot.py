"""Plot of a confusion matrix as an HTML figure, and its most frequent confusions."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

from tasks.report import svg
from zoo.lazy import np

_MAX_CLASSES = 40  # of a confusion matrix that is shown whole
_NUM_CONFUSED_CLASSES = 30  # classes that are shown of a larger one
_MIN_FONT_SIZE = 8  # pixels, as all lengths below; counts that need a smaller font are omitted
_LIGHT_TEXT_OPACITY = 0.6  # of a cell, from which its text has the color of the page
_CHAR_WIDTH = 7.2  # average, in labels
_MAX_LABEL_LENGTH = 22  # in characters
_COLOUR_BAR_WIDTH = 240


def confusion_matrix(matrix, classes: Sequence[str]) -> str:
    """Plots a confusion matrix as a heat map: rows are true classes, columns predicted classes.

    The opacity of a cell is the square root of its fraction of the row, so that rare errors are
    visible. Counts are written where they fit. With more than 40 classes, at most 30 are shown:
    those with the most frequent confusions, in this order.

    Args:
        matrix: Counts `(classes, classes)`, as from `metrics.confusion_matrix`.
        classes: The names of all classes, in the order of the matrix.

    Raises:
        ValueError: The number of names is not that of the classes.
    """
    matrix = np.asarray(matrix).astype(np.int64)
    if matrix.shape != (len(classes), len(classes)):
        raise ValueError(f"got {len(classes)} names for a confusion matrix of shape {matrix.shape}")
    selected = list(range(len(classes)))
    note = "Rows are true classes, columns are predictions; color is the fraction of the row."
    if len(classes) > _MAX_CLASSES:
        selected = _most_confused_classes(matrix)
        note += (
            f" Shown are {len(selected)} of {len(classes)} classes, the most confused ones first."
        )
    names = [str(classes[index]) for index in selected]
    picture = _heat_map(matrix[np.ix_(selected, selected)], matrix.sum(axis=1)[selected], names)
    return f'<figure class="confusion"><figcaption>{note}</figcaption>{picture}</figure>'


def most_confused(matrix, count: int) -> list[tuple[int, int, int]]:
    """Returns at most `count` of `(true, predicted, times)`, the most frequent confusion first.

    Confusions that never occur are left out; equally frequent ones are in the order of the cells.
    """
    errors = np.array(matrix)
    np.fill_diagonal(errors, 0)
    cells = np.flatnonzero(errors)
    order = np.argsort(-errors.flat[cells], kind="stable")[:count]
    pairs = (divmod(int(cell), len(errors)) for cell in cells[order])
    return [(true, predicted, int(errors[true, predicted])) for true, predicted in pairs]


def _most_confused_classes(matrix):
    """Returns the indices of the classes of the most frequent confusions, in their order.

    For a matrix without confusions, these are the first classes.
    """
    # n classes have fewer than n * n confusions, so one more pair adds another class.
    pairs = most_confused(matrix + matrix.T, _NUM_CONFUSED_CLASSES**2)
    selected = dict.fromkeys(index for true, predicted, _ in pairs for index in (true, predicted))
    return list(selected or range(len(matrix)))[:_NUM_CONFUSED_CLASSES]


def _heat_map(counts, totals, names):
    """Returns the SVG of the cells, with names to the left and above, and a color bar below."""
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
    """Returns the cells that are not zero, with counts if the largest fits into a cell."""
    size = min(13, (cell - 6) / (0.64 * len(str(counts.max()))))
    parts = []
    for row, column in zip(*np.nonzero(counts), strict=True):
        count, total = counts[row, column], totals[row]
        hint = f"{names[row]} predicted as {names[column]}: {count:,} of {total:,}"
        x, y, opacity = left + cell * column, top + cell * row, math.sqrt(count / total)
        parts.append(svg.rectangle(x, y, cell, cell, kind="heat", opacity=opacity, hint=hint))
        if size >= _MIN_FONT_SIZE:
            kind = "count light" if opacity > _LIGHT_TEXT_OPACITY else "count"
            spot = x + cell / 2, y + cell / 2 + 0.36 * size
            parts.append(svg.text(*spot, f"{count}", kind=kind, size=size, hint=hint))
    return parts


def _colour_bar(left, top):
    """Yields the color bar, from 0% to 100%."""
    step = _COLOUR_BAR_WIDTH / 40
    for index in range(40):
        opacity = math.sqrt((index + 0.5) / 40)
        yield svg.rectangle(left + step * index, top, step, 10, kind="heat", opacity=opacity)
    for share in (0, 0.25, 0.5, 0.75, 1):
        yield svg.text(left + _COLOUR_BAR_WIDTH * share, top + 26, f"{share:.0%}")


def _truncate(text):
    """Returns a label shortened to `_MAX_LABEL_LENGTH`, with an ellipsis if it was longer."""
    return text if len(text) <= _MAX_LABEL_LENGTH else f"{text[: _MAX_LABEL_LENGTH - 1]}…"


def _text_width(text):
    """Returns the approximate width of a label in pixels; East Asian characters count twice."""
    return _CHAR_WIDTH * sum(2 if unicodedata.east_asian_width(x) in "WF" else 1 for x in text)
