"""Ground truth boxes of an image, and where they are once the image has been resized."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tasks.data import pillow_images
from tasks.data.dataset import object_array
from zoo.lazy import np

RELATIVE_SIZE = (1, 1)  # the `size` of boxes whose coordinates are relative to the image size
BORDER_TOLERANCE = 1  # pixels that rounding may put a box beyond its image, without a warning
MIN_VISIBLE_FRACTION = 0.25  # of the area of a box, below which a crop drops the box


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The objects of an image.

    Attributes:
        boxes: float64 `(objects, 4)`, `x0, y0, x1, y1`; x1 and y1 are exclusive.
        labels: int64 `(objects,)`, indices of the source's classes.
        ignored: bool `(objects,)`, true for objects that the evaluation ignores: crowds in COCO,
            difficult objects in Pascal VOC, groups in Open Images.
        size: the `(width, height)` that the boxes refer to: that of the image according to its
            annotation, or `RELATIVE_SIZE`; `None` where the annotation has no size.
    """

    boxes: np.ndarray
    labels: np.ndarray
    ignored: np.ndarray
    size: tuple[int, int] | None = None


def ground_truth(rows, size=None):
    """Returns the `GroundTruth` of `(box, label, ignored)` rows, possibly none."""
    boxes, labels, ignored = zip(*rows, strict=True) if rows else ((), (), ())
    return GroundTruth(
        np.array(boxes, "float64").reshape(-1, 4),
        np.array(labels, "int64"),
        np.array(ignored, bool),
        size,
    )


def relabel(split, classes, model_classes):
    """Returns a split whose labels are indices of `model_classes`, a permutation of `classes`.

    Args:
        split: A `dataset.Split` whose labels are `GroundTruth`.
        classes: The class names that its labels index.
        model_classes: The same names in another order.
    """
    indices = np.array([model_classes.index(name) for name in classes], "int64")
    relabelled = [
        GroundTruth(row.boxes, indices[row.labels], row.ignored, row.size) for row in split.labels
    ]
    return split.labelled(object_array(relabelled))


def resize_ground_truth(ground_truth, size, shape, resize):
    """Returns the boxes of a resized image, and what was wrong with the original ones.

    Args:
        ground_truth: a `GroundTruth`.
        size: `(width, height)` of the image.
        shape, resize: its new shape, and how it is resized, as in `image_io.read_image`.

    Returns:
        A `GroundTruth` in pixels of the resized image, and a `Counter` of the boxes that were
        `cut` at the border of the image, and of those that were left out since they are `empty`
        inside it. Boxes of which `crop` leaves less than `MIN_VISIBLE_FRACTION` are dropped
        without being counted.
    """
    unit = np.array(size if ground_truth.size == RELATIVE_SIZE else (1, 1), "float64")
    boxes = ground_truth.boxes * np.tile(unit, 2)
    clipped = boxes.clip(0, np.tile(size, 2))
    has_area = areas(clipped) > 0  # false for NaN
    beyond = (abs(boxes - clipped) > BORDER_TOLERANCE).any(1)
    faults = Counter(cut=int((has_area & beyond).sum()), empty=int((~has_area).sum()))
    target = shape[1::-1]
    inner, window = pillow_images.RESIZE_MODES[resize](tuple(map(int, size)), target)
    scale = np.divide(inner, np.subtract(window[2:], window[:2]))
    margin = np.subtract(target, inner) // 2
    resized = (clipped - np.tile(window[:2], 2)) * np.tile(scale, 2) + np.tile(margin, 2)
    boxes = resized.clip(0, np.tile(target, 2))
    visible = areas(boxes) >= MIN_VISIBLE_FRACTION * areas(resized) - 1e-9
    kept = has_area & visible & (areas(boxes) > 0)
    labels, ignored = ground_truth.labels[kept], ground_truth.ignored[kept]
    return GroundTruth(boxes[kept], labels, ignored, target), faults


def areas(boxes):
    """Returns the areas of boxes `(..., 4)`, 0 for boxes with negative sides."""
    return (boxes[..., 2:] - boxes[..., :2]).clip(0).prod(-1)


def pad_ground_truth(ground_truths):
    """Returns the arrays of several `GroundTruth`s, padded to the most objects, at least 1.

    Returns:
        float32 `(images, max_objects, 4)` boxes, padded with 0; int32 `(images, max_objects)`
        labels, padded with -1; bool `(images, max_objects)`, which are ignored.
    """
    max_objects = max([1, *(len(each.labels) for each in ground_truths)])
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
    intersection = areas(np.concatenate([corner, opposite], -1))
    union = areas(boxes)[:, None] + areas(others)[None] - intersection
    return intersection / np.where(union > 0, union, 1)
