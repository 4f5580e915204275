"""Cross-entropy of each example from logits, computed without overflow."""

from __future__ import annotations

from zoo.lazy import np


def softmax_cross_entropy(logits, labels):
    """Returns the cross-entropy of each example `(examples,)` in nats.

    Args:
        logits: `(examples, classes)`; NaN or positive infinity makes the result NaN.
        labels: Class indices `(examples,)`.
    """
    log_odds = shift_logits(logits)
    own = np.take_along_axis(log_odds, np.asarray(labels, np.int64)[:, None], axis=1)[:, 0]
    with np.errstate(invalid="ignore"):
        return np.log(np.exp(log_odds).sum(axis=1)) - own


def sigmoid_cross_entropy(logits, labels):
    """Returns the mean binary cross-entropy of each example `(examples,)` in nats.

    Args:
        logits: `(examples, classes)`.
        labels: `(examples, classes)`, 1 where the example has the label.
    """
    logits = np.asarray(logits, dtype=np.float64)
    signed = np.where(labels, -logits, logits)
    with np.errstate(invalid="ignore"):
        return np.logaddexp(0, signed).mean(axis=1)


def shift_logits(logits):
    """Returns the logits minus the largest of their row, so that `exp` does not overflow."""
    logits = np.asarray(logits, dtype=np.float64)
    with np.errstate(invalid="ignore"):  # infinity minus infinity is NaN, as intended
        return logits - logits.max(axis=-1, keepdims=True)
