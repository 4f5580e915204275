"""What detectors are taught by: losses of boxes and of their classes, as sums over an image.

All take float32 and one factor for each box, 0 where it does not learn, and return `(batch,)`.
"""

from __future__ import annotations

from zoo.lazy import keras


def smooth_l1(targets, deltas, weights, *, beta=1.0):
    """Returns the sum of a loss that is square up to `beta` and straight from there.

    Girshick, Fast R-CNN (2015), equation 3; divided by `beta`, as usual since, so that it is the
    absolute difference less `beta / 2` far out, and the absolute difference itself for 0.

    Args:
        targets, deltas: `(batch, boxes, 4)`.
        weights: `(batch, boxes)`.
        beta: not negative.
    """
    ops = keras.ops
    difference = ops.abs(deltas - targets)
    if beta:
        difference = ops.where(
            difference < beta, 0.5 * difference * difference / beta, difference - 0.5 * beta
        )
    return ops.sum(ops.sum(difference, axis=-1) * weights, axis=-1)


def softmax_cross_entropy(labels, logits, weights):
    """Returns the sum of the cross-entropy of boxes of one class each.

    Args:
        labels: int32 `(batch, boxes)`.
        logits: `(batch, boxes, classes)`.
        weights: `(batch, boxes)`.
    """
    ops = keras.ops
    log_p = ops.log_softmax(logits, axis=-1)
    true = ops.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return -ops.sum(ops.sum(true * log_p, axis=-1) * weights, axis=-1)


def binary_cross_entropy(targets, logits, weights):
    """Returns the sum of the binary cross-entropy over all boxes and classes.

    Args:
        targets: `(batch, boxes, classes)`, 1 where a box is of a class, else 0.
        logits: likewise.
        weights: `(batch, boxes)`.
    """
    ops = keras.ops
    losses = targets * ops.softplus(-logits) + (1 - targets) * ops.softplus(logits)
    return ops.sum(ops.sum(losses, axis=-1) * weights, axis=-1)


def focal_loss(targets, logits, weights, *, alpha=0.25, gamma=2.0):
    """Returns the sum of the focal loss (Lin et al., 2017, equation 5) over all boxes and classes.

    Args:
        targets: `(batch, boxes, classes)`, 1 where a box is of a class, else 0.
        logits: likewise.
        weights: `(batch, boxes)`.
        alpha: the share of what is true; `1 - alpha` is that of what is not.
        gamma: how little the known counts.
    """
    ops = keras.ops
    # -log(p) is softplus(-logit), and 1 - p is exp(-softplus(logit)): nothing overflows.
    no, yes = ops.softplus(logits), ops.softplus(-logits)
    true = alpha * targets * ops.exp(-gamma * no) * yes
    false = (1 - alpha) * (1 - targets) * ops.exp(-gamma * yes) * no
    return ops.sum(ops.sum(true + false, axis=-1) * weights, axis=-1)
