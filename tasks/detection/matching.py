"""Assigns boxes to ground truth objects by overlap, and samples the boxes to train on.

Everything is batched and of fixed shape, in `keras.ops`. Masks mark the rows that hold no object
or no box.
"""

from __future__ import annotations

from zoo.lazy import keras
from zoo.parts import boxes

POSITIVE, NEGATIVE, IGNORED = 1, 0, -1
# Multipliers of an integer hash of two rounds (Wellons, "lowbias32").
_HASH_MULTIPLIERS = (0x7FEB352D, 0x846CA68B - 2**32)
_HASH_INCREMENT = 0x9E3779B9 - 2**32  # 2**32 / golden ratio, from one index to the next


def match(overlaps, present, high_threshold, low_threshold, *, allow_low_quality_matches=False):
    """Assigns each box to an object, to the background, or to neither.

    Args:
        overlaps: float `(batch, boxes, objects)`, intersection over union (IoU).
        present: bool `(batch, objects)`; `False` for padding.
        high_threshold: IoU from which a box is positive.
        low_threshold: IoU below which a box is negative (background). Boxes in between are
            ignored.
        allow_low_quality_matches: whether the boxes with the highest IoU for an object are
            positive even if that IoU is low, so that each object has a positive box.

    Returns:
        int32 `(batch, boxes)` of `POSITIVE`, `NEGATIVE` and `IGNORED`, and int32 `(batch, boxes)`,
        the index of the object with the highest IoU, the first of ties.
    """
    ops = keras.ops
    overlaps = ops.where(present[:, None, :], overlaps, -1.0)
    best = ops.max(overlaps, axis=-1)
    objects = ops.cast(ops.argmax(overlaps, axis=-1), "int32")
    positive = best >= high_threshold
    if allow_low_quality_matches:
        best_of_object = ops.max(overlaps, axis=1, keepdims=True)
        positive = positive | ops.any((overlaps >= best_of_object) & (overlaps > 0), axis=-1)
    assignments = ops.where(best < low_threshold, NEGATIVE, IGNORED)
    return ops.cast(ops.where(positive, POSITIVE, assignments), "int32"), objects


def random_uniform(seeds, count):
    """Returns random numbers in [0, 1) that depend on the seeds alone, on every backend.

    Args:
        seeds: int32 `(batch,)`.
        count: the number of random numbers per seed.

    Returns:
        float32 `(batch, count)`.
    """
    ops = keras.ops
    x = seeds[:, None] + (ops.arange(count, dtype="int32") + 1) * _HASH_INCREMENT
    x = _xorshift(x, 16) * _HASH_MULTIPLIERS[0]
    x = _xorshift(x, 15) * _HASH_MULTIPLIERS[1]
    x = _xorshift(x, 16)
    return ops.cast(_logical_right_shift(x, 8), "float32") / 2**24  # float32 has 24 bits


def sample_boxes(assignments, priorities, count, positive_fraction):
    """Samples the boxes of each image to train on.

    Args:
        assignments: int32 `(batch, boxes)`, from `match`.
        priorities: float32 `(batch, boxes)` in [0, 1), random; the highest are sampled.
        count: the maximum number of boxes per image.
        positive_fraction: the maximum share of positive boxes in `count`. Negative boxes fill the
            remainder.

    Returns:
        int32 `(batch, count)`, indices of the sampled boxes, positive ones first, and bool
        `(batch, count)`, `False` for padding where fewer boxes are available.
    """
    ops = keras.ops
    positive = ops.where(assignments == POSITIVE, 2.0 + priorities, boxes.PADDING_SCORE)
    negative = ops.where(assignments == NEGATIVE, 1.0 + priorities, boxes.PADDING_SCORE)
    best = (
        boxes.top_scores(positive, max(1, round(count * positive_fraction))),
        boxes.top_scores(negative, count),
    )
    scores, indices = (ops.concatenate(parts, axis=1) for parts in zip(*best, strict=True))
    scores, order = boxes.top_scores(scores, count)
    return boxes.gather(indices, order), scores > boxes.PADDING_SCORE


def _xorshift(x, bits):
    return keras.ops.bitwise_xor(x, _logical_right_shift(x, bits))


def _logical_right_shift(x, bits):
    """Shifts int32 numbers to the right without extending the sign."""
    return keras.ops.bitwise_and(keras.ops.right_shift(x, bits), 2 ** (32 - bits) - 1)
