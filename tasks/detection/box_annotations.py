"""What is where in an image, and where that is once the image has been resized."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tasks.data import pillow_images
from zoo.lazy import np

RELATIVE_SIZE = (1, 1)  # the size of an image whose boxes are parts of its sides
BORDER_TOLERANCE = (
    1  # pixels that a box may reach beyond its image before that is said: rounding does it
)
MIN_VISIBLE_FRACTION = (
    0.25  # least share of a box that must be left in what is cut out of its image
)


@dataclass(frozen=True, eq=False)
class GroundTruth:
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


def ground_truth(rows, size=None):
    """Returns the `Truth` of `(box, label, ignored)` rows, of which there may be none."""
    boxes, labels, ignored = zip(*rows, strict=True) if rows else ((), (), ())
    return GroundTruth(
        np.array(boxes, "float64").reshape(-1, 4),
        np.array(labels, "int64"),
        np.array(ignored, bool),
        size,
    )


def resize_ground_truth(ground_truth, size, shape, resize):
    """Returns where things are in a resized image, and what was wrong with them.

    Args:
        ground_truth: a `Truth`.
        size: `(width, height)` of the image.
        shape, resize: what it becomes, and how, as `image_io.read_image` has them.

    Returns:
        A `Truth` in pixels of the resized image, and how many boxes were `cut`, since they
        reach beyond the image, or left out, since they are `empty` inside it. Of what `crop` cuts
        away, boxes of which less than `LEFT` remains go in silence.
    """
    unit = np.array(size if ground_truth.size == RELATIVE_SIZE else (1, 1), "float64")
    boxes = ground_truth.boxes * np.tile(unit, 2)
    inside = boxes.clip(0, np.tile(size, 2))
    some = areas(inside) > 0  # false where a number is none
    beyond = (abs(boxes - inside) > BORDER_TOLERANCE).any(1)
    faults = Counter(cut=int((some & beyond).sum()), empty=int((~some).sum()))
    target = shape[1::-1]
    inner, window = pillow_images.RESIZE_MODES[resize](tuple(map(int, size)), target)
    scale = np.divide(inner, np.subtract(window[2:], window[:2]))
    margin = np.subtract(target, inner) // 2
    resized = (inside - np.tile(window[:2], 2)) * np.tile(scale, 2) + np.tile(margin, 2)
    boxes = resized.clip(0, np.tile(target, 2))
    visible = (
        some & (areas(boxes) >= MIN_VISIBLE_FRACTION * areas(resized) - 1e-9) & (areas(boxes) > 0)
    )
    return GroundTruth(
        boxes[visible], ground_truth.labels[visible], ground_truth.ignored[visible], target
    ), faults


def areas(boxes):
    """Returns the areas of boxes `(..., 4)`; of one that is inside out it is 0."""
    return (boxes[..., 2:] - boxes[..., :2]).clip(0).prod(-1)


def pad_ground_truth(ground_truths):
    """Returns the arrays of several `Truth`s as ones of equal length, at least 1.

    Returns:
        float32 `(truths, most, 4)` boxes, 0 where there is none; int32 `(truths, most)` labels,
        -1 where there is none; bool `(truths, most)`, which are ignored.
    """
    max_objects = max(
        1, max((len(ground_truth.labels) for ground_truth in ground_truths), default=0)
    )
    boxes = np.zeros((len(ground_truths), max_objects, 4), "float32")
    labels = np.full((len(ground_truths), max_objects), -1, "int32")
    ignored = np.zeros((len(ground_truths), max_objects), bool)
    for row, ground_truth in enumerate(ground_truths):
        count = len(ground_truth.labels)
        boxes[row, :count], labels[row, :count] = ground_truth.boxes, ground_truth.labels
        ignored[row, :count] = ground_truth.ignored
    return boxes, labels, ignored


def iou(boxes, others):
    """Returns the intersection over union of boxes, float64 `(boxes, others)`."""
    boxes, others = (np.asarray(side, "float64").reshape(-1, 4) for side in (boxes, others))
    corner = np.maximum(boxes[:, None, :2], others[None, :, :2])
    opposite = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    both = areas(np.concatenate([corner, opposite], -1))
    either = areas(boxes)[:, None] + areas(others)[None] - both
    return both / np.where(either > 0, either, 1)
