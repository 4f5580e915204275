"""What is where in an image, and where that is once the image has been resized."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tasks.data import pictures
from zoo.lazy import np

SHARES = (1, 1)  # the size of an image whose boxes are parts of its sides
NOTICED = 1  # pixels that a box may reach beyond its image before that is said: rounding does it
LEFT = 0.25  # least share of a box that must be left in what is cut out of its image


@dataclass(frozen=True, eq=False)
class Truth:
    """What is in an image.

    Attributes:
        boxes: float64 `(objects, 4)`, `x0, y0, x1, y1`; x1 and y1 are exclusive.
        labels: int64 `(objects,)`, positions in the classes of the source.
        ignored: bool `(objects,)`, true of what is neither to be found nor to be missed: a crowd
            in COCO, a difficult object in Pascal VOC, a group in Open Images.
        size: `(width, height)` in which boxes are measured: of the image, as its maker says, or
            `SHARES`; `None` where nobody says.
    """

    boxes: np.ndarray
    labels: np.ndarray
    ignored: np.ndarray
    size: tuple[int, int] | None = None


def truth(rows, size=None):
    """Returns the `Truth` of `(box, label, ignored)` rows, of which there may be none."""
    boxes, labels, ignored = zip(*rows, strict=True) if rows else ((), (), ())
    return Truth(
        np.array(boxes, "float64").reshape(-1, 4),
        np.array(labels, "int64"),
        np.array(ignored, bool),
        size,
    )


def placed(truth, size, shape, resize):
    """Returns where things are in a resized image, and what was wrong with them.

    Args:
        truth: a `Truth`.
        size: `(width, height)` of the image.
        shape, resize: what it becomes, and how, as `readers.image` has them.

    Returns:
        A `Truth` in pixels of the resized image, and how many boxes were `cut`, since they
        reach beyond the image, or left out, since they are `empty` inside it. Of what `crop` cuts
        away, boxes of which less than `LEFT` remains go in silence.
    """
    unit = np.array(size if truth.size == SHARES else (1, 1), "float64")
    boxes = truth.boxes * np.tile(unit, 2)
    inside = boxes.clip(0, np.tile(size, 2))
    some = areas(inside) > 0  # false where a number is none
    beyond = (abs(boxes - inside) > NOTICED).any(1)
    faults = Counter(cut=int((some & beyond).sum()), empty=int((~some).sum()))
    target = shape[1::-1]
    inner, window = pictures.FITS[resize](tuple(map(int, size)), target)
    scale = np.divide(inner, np.subtract(window[2:], window[:2]))
    margin = np.subtract(target, inner) // 2
    whole = (inside - np.tile(window[:2], 2)) * np.tile(scale, 2) + np.tile(margin, 2)
    boxes = whole.clip(0, np.tile(target, 2))
    kept = some & (areas(boxes) >= LEFT * areas(whole) - 1e-9) & (areas(boxes) > 0)
    return Truth(boxes[kept], truth.labels[kept], truth.ignored[kept], target), faults


def areas(boxes):
    """Returns the areas of boxes `(..., 4)`; of one that is inside out it is 0."""
    return (boxes[..., 2:] - boxes[..., :2]).clip(0).prod(-1)


def padded(truths):
    """Returns the arrays of several `Truth`s as ones of equal length, at least 1.

    Returns:
        float32 `(truths, most, 4)` boxes, 0 where there is none; int32 `(truths, most)` labels,
        -1 where there is none; bool `(truths, most)`, which are ignored.
    """
    most = max(1, max((len(truth.labels) for truth in truths), default=0))
    boxes = np.zeros((len(truths), most, 4), "float32")
    labels = np.full((len(truths), most), -1, "int32")
    ignored = np.zeros((len(truths), most), bool)
    for row, truth in enumerate(truths):
        count = len(truth.labels)
        boxes[row, :count], labels[row, :count] = truth.boxes, truth.labels
        ignored[row, :count] = truth.ignored
    return boxes, labels, ignored


def overlaps(boxes, others):
    """Returns the intersection over union of boxes, float64 `(boxes, others)`."""
    boxes, others = (np.asarray(side, "float64").reshape(-1, 4) for side in (boxes, others))
    corner = np.maximum(boxes[:, None, :2], others[None, :, :2])
    opposite = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    both = areas(np.concatenate([corner, opposite], -1))
    either = areas(boxes)[:, None] + areas(others)[None] - both
    return both / np.where(either > 0, either, 1)
