"""Classification losses on logits, with label smoothing and class weights."""

from __future__ import annotations

from zoo.lazy import keras, np

LOSS_NAMES = ("cross_entropy", "focal", "squared_error")


def classification_loss(name, *, multi_label=False, smoothing=0.0, gamma=2.0, class_weights=None):
    """Returns the loss function of logits and one-hot or multi-hot labels.

    Args:
        name: `cross_entropy`; `focal` (Lin et al., 2017), which multiplies the cross-entropy by
            `(1 - p) ** gamma`; or `squared_error` of the probabilities. The gradient of the last
            vanishes where the model is confident and wrong; it is here to demonstrate that.
        multi_label: Whether an image may have any number of classes: a sigmoid per class instead
            of a softmax over the classes.
        smoothing: The share of a label that is spread over all classes, in [0, 1] (Szegedy et
            al., 2016).
        gamma: The focusing parameter of `focal`.
        class_weights: float `(num_classes,)`, the factor of the loss on examples of each class,
            or `None` for no weighting.

    Returns:
        A function of labels and logits, both `(batch, num_classes)`, that returns losses
        `(batch,)`.
    """
    formula = _sigmoid_terms if multi_label else _softmax_terms
    weights = None if class_weights is None else np.asarray(class_weights, "float32")

    def loss(labels, logits):
        ops = keras.ops
        labels = ops.cast(labels, logits.dtype)
        if weights is None:
            scale = 1.0
        else:  # by the labels before smoothing
            scale = labels * weights + (1 - labels) if multi_label else labels @ weights[:, None]
        smooth = smoothing / (2 if multi_label else labels.shape[-1])
        labels = labels * (1 - smoothing) + smooth
        return ops.sum(scale * formula(name, labels, logits, gamma), axis=-1)

    loss.__name__ = name
    return loss


def balanced_class_weights(labels, num_classes):
    """Returns class weights that are inversely proportional to the class frequencies.

    Args:
        labels: int `(count,)`, or multi-hot `(count, num_classes)`.
        num_classes: The number of classes.

    Returns:
        float32 `(num_classes,)`: `count / (num_classes * class_count)`, so that the mean weight
        of an example is 1 (King & Zeng, 2001; scikit-learn's `balanced`). For multi-hot labels,
        the ratio of negative to positive examples of each class.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2:
        present = np.maximum(labels.sum(axis=0), 1)
        return ((len(labels) - present) / present).clip(1e-3).astype("float32")
    present = np.maximum(np.bincount(labels, minlength=num_classes), 1)
    return (len(labels) / (num_classes * present)).astype("float32")


def _softmax_terms(name, labels, logits, gamma):
    """Returns the term of each class in the single-label loss, `(batch, num_classes)`."""
    ops = keras.ops
    log_p = ops.log_softmax(logits, axis=-1)
    p = ops.exp(log_p)
    return {
        "cross_entropy": lambda: -labels * log_p,
        "focal": lambda: -labels * (1 - p) ** gamma * log_p,
        "squared_error": lambda: (labels - p) ** 2 / labels.shape[-1],
    }[name]()


def _sigmoid_terms(name, labels, logits, gamma):
    """Returns the term of each class in the multi-label loss, which is a mean over classes."""
    ops = keras.ops
    p = ops.sigmoid(logits)
    log_p, log_not_p = ops.log_sigmoid(logits), ops.log_sigmoid(-logits)
    terms = {
        "cross_entropy": lambda: -labels * log_p - (1 - labels) * log_not_p,
        "focal": lambda: -labels * (1 - p) ** gamma * log_p - (1 - labels) * p**gamma * log_not_p,
        "squared_error": lambda: (labels - p) ** 2,
    }[name]()
    return terms / labels.shape[-1]
