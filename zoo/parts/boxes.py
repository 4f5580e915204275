"""Boxes as tensors: overlap, coding, anchors, and suppression of what was found twice.

A box is `x0, y0, x1, y1` in pixels of the image, x1 and y1 exclusive. A box without area, such as
one of noughts that pads a batch, overlaps nothing.
"""

from __future__ import annotations

import math

from zoo.errors import UsageError
from zoo.lazy import keras, np

ANCHOR_BOX_STD = (1.0, 1.0, 1.0, 1.0)
REGION_BOX_STD = (0.1, 0.1, 0.2, 0.2)  # of a region's deltas; those of Girshick's programs
PADDING_SCORE = -1e9  # the score of what is not there
MAX_LOG_SCALE = math.log(1000 / 16)  # of a delta of width or height: what keeps `exp` from overflow


def box_area(boxes):
    """Returns the area of each box, 0 where one is turned inside out: (..., 4) -> (...)."""
    sides = keras.ops.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def box_iou(boxes, others):
    """Returns the intersection over union of each box with each other one.

    Args:
        boxes: `(..., n, 4)`.
        others: `(..., m, 4)`.

    Returns:
        `(..., n, m)`, in [0, 1]; 0 where neither box has an area.
    """
    one, two = boxes[..., :, None, :], others[..., None, :, :]
    low = keras.ops.maximum(one[..., :2], two[..., :2])
    high = keras.ops.minimum(one[..., 2:], two[..., 2:])
    sides = keras.ops.maximum(high - low, 0)
    both = sides[..., 0] * sides[..., 1]
    either = box_area(boxes)[..., :, None] + box_area(others)[..., None, :] - both
    return keras.ops.where(either > 0, both / keras.ops.where(either > 0, either, 1), 0)


def encode_boxes(boxes, references, box_std=ANCHOR_BOX_STD):
    """Returns what takes each reference to its box (Girshick et al., 2014, appendix C).

    Args:
        boxes: `(..., 4)`.
        references: `(..., 4)`, anchors or regions, each with an area.
        box_std: what each of the four deltas is divided by, to bring it near a deviation of 1.

    Returns:
        `tx, ty, tw, th`: `(..., 4)`, the way from centre to centre in widths and heights of the
        reference, and the logarithms of the ratios of the sides. Sides of boxes that are less
        than a thousandth of a pixel count as that.
    """
    centres, sides = _to_cxcywh(boxes)
    origins, units = _to_cxcywh(references)
    moved = (centres - origins) / units
    grown = keras.ops.log(keras.ops.maximum(sides, 1e-3) / units)
    deltas = keras.ops.concatenate([moved, grown], axis=-1)
    return deltas / keras.ops.convert_to_tensor(box_std, deltas.dtype)


def decode_boxes(deltas, references, box_std=ANCHOR_BOX_STD):
    """Returns the boxes that deltas take references to: the inverse of `encode`.

    No side grows by more than 62.5 times, whatever a network says.
    """
    deltas = keras.ops.convert_to_tensor(deltas)
    deltas = deltas * keras.ops.convert_to_tensor(box_std, deltas.dtype)
    origins, units = _to_cxcywh(references)
    centres = origins + deltas[..., :2] * units
    halves = keras.ops.exp(keras.ops.minimum(deltas[..., 2:], MAX_LOG_SCALE)) * units / 2
    return keras.ops.concatenate([centres - halves, centres + halves], axis=-1)


def clip_boxes(boxes, height, width):
    """Returns the parts of boxes that are within an image: (..., 4) -> (..., 4)."""
    limits = keras.ops.cast(keras.ops.stack([width, height, width, height]), boxes.dtype)
    return keras.ops.minimum(keras.ops.maximum(boxes, 0), limits)


def nms(boxes, threshold, classes=None):
    """Tells which boxes remain where each suppresses those after it that it overlaps too much.

    Exactly the greedy result: a box remains if no box that remains is before it and overlaps it
    by more than the threshold. That is the one fixed point of the rule, reached from "all remain"
    in as many steps as the longest chain of boxes that each decide on the next has, and in most
    images that is three to five.

    Args:
        boxes: `(batch, n, 4)`, best first. The boxes of an image are compared with each other in
            a matrix, so some thousands are too many.
        threshold: the intersection over union above which the later box goes.
        classes: `(batch, n)`; boxes of different classes leave each other alone. By default all
            are of one class.

    Returns:
        bool `(batch, n)`.
    """
    ops = keras.ops
    overlaps = box_iou(boxes, boxes) > threshold
    if classes is not None:
        overlaps = ops.logical_and(overlaps, classes[:, :, None] == classes[:, None, :])
    indices = ops.arange(ops.shape(boxes)[1])
    earlier = indices[None, :] < indices[:, None]
    suppresses = ops.cast(ops.logical_and(overlaps, earlier), "float32")  # [later, earlier]

    def step(remain, _):
        by = ops.matmul(suppresses, ops.cast(remain, "float32")[..., None])[..., 0]
        after = by == 0
        return after, ops.any(after != remain)

    start = ops.ones_like(suppresses[..., 0], dtype="bool")
    remain, _ = ops.while_loop(
        lambda _, moving: moving, step, (start, ops.convert_to_tensor(True, dtype="bool"))
    )
    return remain


def top_scores(scores, count):
    """Returns the highest scores and where they are, highest first, the first of equals first.

    Args:
        scores: `(batch, n)`, where n need not be `count` and need not be known.
        count: how many.

    Returns:
        `(batch, count)` scores, `NOTHING` where there are no more, and `(batch, count)` int32
        places, there 0.
    """
    known, there = scores.shape[1], keras.ops.shape(scores)[1]
    if known is None or known < count:
        scores = keras.ops.pad(scores, ((0, 0), (0, count)), constant_values=PADDING_SCORE)
    scores, indices = keras.ops.top_k(scores, count)
    indices = keras.ops.cast(indices, "int32")
    return scores, keras.ops.where(indices < there, indices, 0)


def gather(x, indices):
    """Returns rows of each item of a batch: (1 or batch, n, ...), (batch, k) -> (batch, k, ...)."""
    if x.shape[0] == 1:  # the same for all
        return keras.ops.take(x[0], indices, axis=0)
    indices = keras.ops.reshape(indices, (*keras.ops.shape(indices), *[1] * (len(x.shape) - 2)))
    return keras.ops.take_along_axis(x, indices, axis=1)


def generate_anchors(sizes, strides, ratios, grids):
    """Returns the boxes that a pyramid's cells start from, of known size and place.

    Args:
        sizes: for each level a size in pixels, the root of an anchor's area, or several.
        strides: pixels from cell to cell of each level.
        ratios: heights over widths.
        grids: `(rows, columns)` of each level.

    Returns:
        NumPy float32 `(anchors, 4)`: level by level, row by row, cell by cell, size by size,
        ratio by ratio, each centred on its cell. Some reach over the border.

    Raises:
        UsageError: there are not as many sizes or grids as strides, or the size of a grid, that
            of the image, is unknown.
    """
    if not len(sizes) == len(strides) == len(grids):
        raise UsageError(
            f"anchors need a size and a grid a level; got {len(sizes)} sizes, {len(strides)} "
            f"strides, {len(grids)} grids"
        )
    if any(None in tuple(grid) for grid in grids):
        raise UsageError("anchors are of images of a fixed size; give input_shape")
    found = []
    for size, stride, (rows, columns) in zip(sizes, strides, grids, strict=True):
        size, roots = np.reshape(size, (-1, 1)), np.sqrt(np.asarray(ratios, "float64"))
        halves = np.stack([size / roots, size * roots], axis=-1).reshape(-1, 2) / 2
        y, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
        centres = (np.stack([x, y], axis=-1).reshape(-1, 1, 2) + 0.5) * stride
        found.append(np.concatenate([centres - halves, centres + halves], axis=-1).reshape(-1, 4))
    return np.concatenate(found).astype("float32")


def _to_cxcywh(boxes):
    """Returns centres and sides of boxes, each `(..., 2)`."""
    boxes = keras.ops.convert_to_tensor(boxes)
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) / 2, high - low
