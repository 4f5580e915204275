"""Which boxes learn from which objects: matched by overlap, and sampled by given priorities.

Everything is batched and of fixed shape, in `keras.ops`. Places that hold no object, or no box,
are told by masks.
"""

from __future__ import annotations

from zoo.lazy import keras
from zoo.parts import boxes

POSITIVE, NEGATIVE, IGNORED = 1, 0, -1
_HASH_MULTIPLIERS = (
    0x7FEB352D,
    0x846CA68B - 2**32,
)  # of an integer hash of two rounds (Wellons, "lowbias32")
_HASH_INCREMENT = 0x9E3779B9 - 2**32  # 2**32 / golden ratio, from one place to the next


def match(overlaps, present, high_threshold, low_threshold, *, allow_low_quality_matches=False):
    """Tells which boxes are objects, which are ground, and which object each is nearest to.

    Args:
        overlaps: float `(batch, boxes, objects)`, intersection over union.
        present: bool `(batch, objects)`; `False` where there is no object.
        high_threshold: overlap from which a box is an object.
        low_threshold: overlap below which it is ground; in between it is ignored.
        allow_low_quality_matches: whether the boxes that overlap an object most are it in any
            case, however little
            that is, so that no object goes without.

    Returns:
        int32 `(batch, boxes)` of `POSITIVE`, `NEGATIVE` and `IGNORED`, and int32 `(batch, boxes)`,
        the object that each box overlaps most, the first of equals.
    """
    ops = keras.ops
    overlaps = ops.where(present[:, None, :], overlaps, -1.0)
    best = ops.max(overlaps, axis=-1)
    objects = ops.cast(ops.argmax(overlaps, axis=-1), "int32")
    positive = best >= high_threshold
    if allow_low_quality_matches:
        most = ops.max(overlaps, axis=1, keepdims=True)
        positive = positive | ops.any((overlaps >= most) & (overlaps > 0), axis=-1)
    assignments = ops.where(best < low_threshold, NEGATIVE, IGNORED)
    return ops.cast(ops.where(positive, POSITIVE, assignments), "int32"), objects


def random_uniform(seeds, count):
    """Returns random numbers in [0, 1), the same for the same seeds on every machine.

    Args:
        seeds: int32 `(batch,)`.
        count: how many for each.

    Returns:
        float32 `(batch, count)`.
    """
    ops = keras.ops
    x = seeds[:, None] + (ops.arange(count, dtype="int32") + 1) * _HASH_INCREMENT
    x = _xorshift(x, 16) * _HASH_MULTIPLIERS[0]
    x = _xorshift(x, 15) * _HASH_MULTIPLIERS[1]
    x = _xorshift(x, 16)
    return ops.cast(_logical_right_shift(x, 8), "float32") / 2**24  # what float32 can tell apart


def sample_boxes(assignments, priorities, count, positive_fraction):
    """Chooses the boxes of each image that learn.

    Args:
        assignments: int32 `(batch, boxes)`, as `match` returns them.
        priorities: float32 `(batch, boxes)` in [0, 1), random.
        count: how many boxes of an image learn, at most.
        positive_fraction: the share of `count` that objects may have; ground fills up what is left.

    Returns:
        int32 `(batch, count)`, the chosen boxes, objects first, and bool `(batch, count)`:
        `False` where there were not so many.
    """
    ops = keras.ops
    objects = ops.where(assignments == POSITIVE, 2.0 + priorities, boxes.PADDING_SCORE)
    ground = ops.where(assignments == NEGATIVE, 1.0 + priorities, boxes.PADDING_SCORE)
    best = (
        boxes.top_scores(objects, max(1, round(count * positive_fraction))),
        boxes.top_scores(ground, count),
    )
    keys, places = (ops.concatenate(parts, axis=1) for parts in zip(*best, strict=True))
    keys, order = boxes.top_scores(keys, count)
    return boxes.gather(places, order), keys > boxes.PADDING_SCORE


def _xorshift(x, places):
    return keras.ops.bitwise_xor(x, _logical_right_shift(x, places))


def _logical_right_shift(x, places):
    """Shifts int32 numbers to the right as if they had no sign."""
    return keras.ops.bitwise_and(keras.ops.right_shift(x, places), 2 ** (32 - places) - 1)
