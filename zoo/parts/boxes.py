"""Boxes as tensors: IoU, encoding, anchors and non-maximum suppression.

A box is `x0, y0, x1, y1` in pixels of the image, x1 and y1 exclusive. A box without area, such as
one of zeros that pads a batch, overlaps no other.
"""

from __future__ import annotations

import math

from zoo.errors import UsageError
from zoo.lazy import keras, np

ANCHOR_BOX_STD = (1.0, 1.0, 1.0, 1.0)
REGION_BOX_STD = (0.1, 0.1, 0.2, 0.2)  # of the deltas of regions; those of Girshick's code
PADDING_SCORE = -1e9  # score of padding
MAX_LOG_SCALE = math.log(1000 / 16)  # bound of the deltas of width and height, before `exp`


def box_area(boxes):
    """Returns the area of each box, 0 if x1 < x0 or y1 < y0: (..., 4) -> (...)."""
    sides = keras.ops.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def box_iou(boxes, others):
    """Returns the intersection over union (IoU) of all pairs of boxes.

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
    """Encodes boxes relative to references (Girshick et al., 2014, appendix C).

    Args:
        boxes: `(..., 4)`.
        references: `(..., 4)`, anchors or regions, each with an area.
        box_std: divisors of the four deltas, for a standard deviation near 1.

    Returns:
        Deltas `tx, ty, tw, th`, `(..., 4)`: the offset of the center in widths and heights of the
        reference, and the logarithms of the ratios of width and height. Widths and heights of
        boxes are at least a thousandth of a pixel.
    """
    centres, sides = _to_cxcywh(boxes)
    origins, units = _to_cxcywh(references)
    moved = (centres - origins) / units
    grown = keras.ops.log(keras.ops.maximum(sides, 1e-3) / units)
    deltas = keras.ops.concatenate([moved, grown], axis=-1)
    return deltas / keras.ops.convert_to_tensor(box_std, deltas.dtype)


def decode_boxes(deltas, references, box_std=ANCHOR_BOX_STD):
    """Decodes deltas relative to references into boxes: the inverse of `encode_boxes`.

    Width and height are at most 62.5 times those of the reference, for any deltas.
    """
    deltas = keras.ops.convert_to_tensor(deltas)
    deltas = deltas * keras.ops.convert_to_tensor(box_std, deltas.dtype)
    origins, units = _to_cxcywh(references)
    centres = origins + deltas[..., :2] * units
    halves = keras.ops.exp(keras.ops.minimum(deltas[..., 2:], MAX_LOG_SCALE)) * units / 2
    return keras.ops.concatenate([centres - halves, centres + halves], axis=-1)


def clip_boxes(boxes, height, width):
    """Clips boxes to an image: (..., 4) -> (..., 4)."""
    limits = keras.ops.cast(keras.ops.stack([width, height, width, height]), boxes.dtype)
    return keras.ops.minimum(keras.ops.maximum(boxes, 0), limits)


def nms(boxes, threshold, classes=None):
    """Returns which boxes remain after non-maximum suppression.

    The result is exactly the greedy one: a box remains if no remaining box before it overlaps it
    by more than the threshold. That is the only fixed point of the rule. Starting from "all
    remain", it is reached in as many steps as the longest chain of boxes that suppress each other,
    in most images three to five.

    Args:
        boxes: `(batch, n, 4)`, best first. All pairs of an image are compared in a matrix, which
            limits n to about a thousand.
        threshold: IoU above which the later of two boxes is suppressed.
        classes: `(batch, n)`; only boxes of the same class suppress each other. By default all
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
    """Returns the highest scores and their indices, in descending order, stable for equal scores.

    Args:
        scores: `(batch, n)`, where n may be less than `count`, or dynamic.
        count: the number of scores.

    Returns:
        `(batch, count)` scores, padded with `PADDING_SCORE`, and `(batch, count)` int32 indices,
        padded with 0.
    """
    static, number = scores.shape[1], keras.ops.shape(scores)[1]
    if static is None or static < count:
        scores = keras.ops.pad(scores, ((0, 0), (0, count)), constant_values=PADDING_SCORE)
    scores, indices = keras.ops.top_k(scores, count)
    indices = keras.ops.cast(indices, "int32")
    return scores, keras.ops.where(indices < number, indices, 0)


def gather(x, indices):
    """Gathers rows per batch item: (1 or batch, n, ...), (batch, k) -> (batch, k, ...)."""
    if x.shape[0] == 1:  # shared by all items
        return keras.ops.take(x[0], indices, axis=0)
    indices = keras.ops.reshape(indices, (*keras.ops.shape(indices), *[1] * (len(x.shape) - 2)))
    return keras.ops.take_along_axis(x, indices, axis=1)


def generate_anchors(sizes, strides, ratios, grids):
    """Returns the anchors of a feature pyramid.

    Args:
        sizes: for each level one or several sizes in pixels, the square root of an anchor's area.
        strides: stride of each level in pixels.
        ratios: aspect ratios, height over width.
        grids: `(rows, columns)` of each level.

    Returns:
        NumPy float32 `(anchors, 4)`: level by level, row by row, cell by cell, size by size,
        ratio by ratio, each centered on its cell. Some extend beyond the image.

    Raises:
        UsageError: the numbers of sizes, grids and strides differ, or a grid is not of a fixed
            size.
    """
    if not len(sizes) == len(strides) == len(grids):
        raise UsageError(
            f"anchors need a size and a grid per stride; got {len(sizes)} sizes, {len(strides)} "
            f"strides, {len(grids)} grids"
        )
    if any(None in tuple(grid) for grid in grids):
        raise UsageError("anchors need images of a fixed size; pass input_shape")
    found = []
    for size, stride, (rows, columns) in zip(sizes, strides, grids, strict=True):
        size, roots = np.reshape(size, (-1, 1)), np.sqrt(np.asarray(ratios, "float64"))
        halves = np.stack([size / roots, size * roots], axis=-1).reshape(-1, 2) / 2
        y, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
        centres = (np.stack([x, y], axis=-1).reshape(-1, 1, 2) + 0.5) * stride
        found.append(np.concatenate([centres - halves, centres + halves], axis=-1).reshape(-1, 4))
    return np.concatenate(found).astype("float32")


def _to_cxcywh(boxes):
    """Returns centers and sizes (width, height) of boxes, each `(..., 2)`."""
    boxes = keras.ops.convert_to_tensor(boxes)
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) / 2, high - low
