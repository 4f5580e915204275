"""Losses of boxes and of their classes, as weighted sums per image.

All take float32 tensors and one weight per box, 0 for a box that is not trained on, and return
`(batch,)`.
"""

from __future__ import annotations

from zoo.lazy import keras


def smooth_l1(targets, deltas, weights, *, beta=1.0):
    """Returns the smooth L1 loss, quadratic below `beta` and linear above.

    Girshick, Fast R-CNN (2015), equation 3, divided by `beta` as in later implementations, so that
    it is `|x| - beta / 2` above `beta`, and the L1 loss for `beta=0`.

    Args:
        targets, deltas: `(batch, boxes, 4)`.
        weights: `(batch, boxes)`.
        beta: the absolute difference at which the loss becomes linear, 0 or more.
    """
    ops = keras.ops
    difference = ops.abs(deltas - targets)
    if beta:
        difference = ops.where(
            difference < beta, 0.5 * difference * difference / beta, difference - 0.5 * beta
        )
    return ops.sum(ops.sum(difference, axis=-1) * weights, axis=-1)


def softmax_cross_entropy(labels, logits, weights):
    """Returns the cross-entropy of boxes with one class each.

    Args:
        labels: int32 `(batch, boxes)`.
        logits: `(batch, boxes, classes)`.
        weights: `(batch, boxes)`.
    """
    ops = keras.ops
    log_p = ops.log_softmax(logits, axis=-1)
    one_hot = ops.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return -ops.sum(ops.sum(one_hot * log_p, axis=-1) * weights, axis=-1)


def binary_cross_entropy(targets, logits, weights):
    """Returns the binary cross-entropy, summed over boxes and classes.

    Args:
        targets: `(batch, boxes, classes)`, 1 where a box is of a class, else 0.
        logits: `(batch, boxes, classes)`.
        weights: `(batch, boxes)`.
    """
    ops = keras.ops
    losses = targets * ops.softplus(-logits) + (1 - targets) * ops.softplus(logits)
    return ops.sum(ops.sum(losses, axis=-1) * weights, axis=-1)


def focal_loss(targets, logits, weights, *, alpha=0.25, gamma=2.0):
    """Returns the focal loss (Lin et al., 2017, equation 5), summed over boxes and classes.

    Args:
        targets: `(batch, boxes, classes)`, 1 where a box is of a class, else 0.
        logits: `(batch, boxes, classes)`.
        weights: `(batch, boxes)`.
        alpha: weight of positive targets; negative ones have `1 - alpha`.
        gamma: the focusing parameter; the larger, the less well-classified boxes contribute.
    """
    ops = keras.ops
    # -log(p) is softplus(-logit), and 1 - p is exp(-softplus(logit)): nothing overflows.
    minus_log_not_p, minus_log_p = ops.softplus(logits), ops.softplus(-logits)
    positive = alpha * targets * ops.exp(-gamma * minus_log_not_p) * minus_log_p
    negative = (1 - alpha) * (1 - targets) * ops.exp(-gamma * minus_log_p) * minus_log_not_p
    return ops.sum(ops.sum(positive + negative, axis=-1) * weights, axis=-1)
