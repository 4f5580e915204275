"""Classification losses: one formula per name, on logits, with class weights."""

from __future__ import annotations

from zoo.lazy import keras, np

LOSS_NAMES = ("cross_entropy", "focal", "squared_error")


def classification_loss(name, *, multi_label=False, smoothing=0.0, gamma=2.0, class_weights=None):
    """Returns the loss of logits against one-hot labels, or multi-hot ones.

    Args:
        name: `cross_entropy`; `focal` (Lin et al., 2017), which counts what is already known
            `(1 - p) ** gamma` times; or `squared_error` of the probabilities, whose gradient
            vanishes where the model is sure and wrong: to see why it is not used.
        multi_label: whether several classes may be true at once, or none: a sigmoid per class
            in place of a softmax over them.
        smoothing: share of a label that is spread over all classes (Szegedy et al., 2016).
        gamma: of `focal`.
        class_weights: float `(num_classes,)` by which the loss on examples of a class counts,
            or `None`.

    Returns:
        A function of labels and logits, both `(batch, num_classes)`, to losses `(batch,)`.
    """
    formula = _sigmoid_terms if multi_label else _softmax_terms
    weights = None if class_weights is None else np.asarray(class_weights, "float32")

    def loss(labels, logits):
        ops = keras.ops
        labels = ops.cast(labels, logits.dtype)
        if weights is None:
            scale = 1.0
        else:  # by what an example is, before its label is smoothed
            scale = labels * weights + (1 - labels) if multi_label else labels @ weights[:, None]
        smooth = smoothing / (2 if multi_label else labels.shape[-1])
        labels = labels * (1 - smoothing) + smooth
        return ops.sum(scale * formula(name, labels, logits, gamma), axis=-1)

    loss.__name__ = name
    return loss


def balanced_class_weights(labels, num_classes):
    """Returns the weights that make classes count alike, however many examples they have.

    Args:
        labels: int `(count,)`, or multi-hot `(count, num_classes)`.
        num_classes: the number of classes.

    Returns:
        float32 `(num_classes,)`: `count / (num_classes * examples)` of each class, so that the
        mean weight of an example is 1 (King & Zeng, 2001; scikit-learn's `balanced`); for
        multi-hot labels the examples without the class per example with it.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2:
        present = np.maximum(labels.sum(axis=0), 1)
        return ((len(labels) - present) / present).clip(1e-3).astype("float32")
    present = np.maximum(np.bincount(labels, minlength=num_classes), 1)
    return (len(labels) / (num_classes * present)).astype("float32")


def _softmax_terms(name, labels, logits, gamma):
    """Returns each class's part of the loss where one class is true."""
    ops = keras.ops
    log_p = ops.log_softmax(logits, axis=-1)
    p = ops.exp(log_p)
    return {
        "cross_entropy": lambda: -labels * log_p,
        "focal": lambda: -labels * (1 - p) ** gamma * log_p,
        "squared_error": lambda: (labels - p) ** 2 / labels.shape[-1],
    }[name]()


def _sigmoid_terms(name, labels, logits, gamma):
    """Returns each class's part of the loss where several may be true; their mean is the loss."""
    ops = keras.ops
    p = ops.sigmoid(logits)
    yes, no = ops.log_sigmoid(logits), ops.log_sigmoid(-logits)
    parts = {
        "cross_entropy": lambda: -labels * yes - (1 - labels) * no,
        "focal": lambda: -labels * (1 - p) ** gamma * yes - (1 - labels) * p**gamma * no,
        "squared_error": lambda: (labels - p) ** 2,
    }[name]()
    return parts / labels.shape[-1]
