"""What is measured of a classifier: its figures, its confusion matrix, its worst mistakes.

Logits are `(examples, classes)`, labels `(examples,)` whole numbers from 0; everything is computed
in float64. The order of classes is the same everywhere: the larger logit first, and of equal
logits the class with the lower number. An example with a NaN among its logits has no prediction:
it is wrong at every rank and its loss is NaN.
"""

from __future__ import annotations

from tasks.classification import calibration
from tasks.classification import multilabel as several
from tasks.classification.multilabel import multilabel_metrics
from tasks.report import confidence_intervals, cross_entropy
from zoo.errors import UsageError
from zoo.lazy import np

BALANCED_METRICS = ("balanced_accuracy", "macro_f1")  # figures in which each class weighs the same
IMBALANCE_RATIO = 3  # times the examples of the smallest class from which these come first


def summary(logits, labels) -> dict[str, float]:
    """Measures a classifier by the kind of its labels: `classification`, or `multilabel` where each
    example has a row of 1 and 0."""
    return (
        multilabel_metrics(logits, labels)
        if np.ndim(labels) == 2
        else classification_metrics(logits, labels)
    )


def metrics_with_intervals(logits, labels, *, seed: int) -> dict[str, float]:
    """Measures a classifier for its report: `summary`, and how far to trust the first figure.

    Returns:
        The figures of `summary`, and with them `accuracy_low` and `accuracy_high`, or `map_low`
        and `map_high`: the ends of a bootstrap interval over the examples, at 95%. With accuracy
        also `majority_share`, the accuracy of always predicting the most frequent class. Where the
        largest class has `IMBALANCED` times the examples of the smallest, or more, the figures
        that weigh classes alike, `BALANCED`, come first.
    """
    figures = summary(logits, labels)
    if "map" in figures:
        name, ends = "map", several.map_interval(logits, labels, seed=seed)
        return {**confidence_intervals.with_interval(name, figures.pop(name), ends), **figures}
    ends = confidence_intervals.mean_interval(_ranks(*_validated(logits, labels)) < 1, seed=seed)
    counts = np.unique(np.asarray(labels), return_counts=True)[1]
    first = confidence_intervals.with_interval("accuracy", figures.pop("accuracy"), ends)
    first["majority_share"] = float(counts.max() / counts.sum())
    balanced = {name: figures.pop(name) for name in BALANCED_METRICS}
    if counts.max() >= IMBALANCE_RATIO * counts.min():
        return {**balanced, **first, **figures}
    return {**first, **balanced, **figures}


def deduplicated_metrics(logits, labels, copies) -> dict[str, float]:
    """Measures a classifier without the test images that are near copies of training images.

    Args:
        logits, labels: of all test images.
        copies: positions of the near copies among them.

    Returns:
        `deduplicated_accuracy` or `deduplicated_map`; nothing where there are no copies, or nothing
        else to measure.
    """
    labels = np.asarray(labels)
    kept = np.setdiff1d(np.arange(len(labels)), copies)
    if len(kept) in (0, len(labels)) or (labels.ndim == 2 and not labels[kept].any()):
        return {}
    figures = summary(np.asarray(logits)[kept], labels[kept])
    name = "map" if labels.ndim == 2 else "accuracy"
    return {f"deduplicated_{name}": figures[name]}


def classification_metrics(logits, labels) -> dict[str, float]:
    """Measures what every classifier reports.

    Returns:
        `accuracy` and, where there are more than 5 classes, `top5_accuracy` as shares in [0, 1];
        `balanced_accuracy`, the mean recall of the classes that have an example, and `macro_f1`,
        the mean F1 of the classes that have an example or a prediction, as scikit-learn has them;
        `loss`, the mean cross-entropy of the softmax in nats, without label smoothing; `ece`, the
        expected calibration error of the first class's probability, NaN if the loss is.

    Raises:
        UsageError: If there is no example, or a label has no logit of its own.
    """
    logits, labels = _validated(logits, labels)
    ranks = _ranks(logits, labels)
    figures = {"accuracy": float(np.mean(ranks < 1))}
    if logits.shape[1] > 5:
        figures["top5_accuracy"] = float(np.mean(ranks < 5))
    figures |= _balanced_metrics(
        confusion_matrix(labels, predictions(logits), logits.shape[1]), labels
    )
    figures["loss"] = float(np.mean(cross_entropy.softmax_cross_entropy(logits, labels)))
    return figures | {"ece": calibration.expected_calibration_error(confidences(logits), ranks < 1)}


def _balanced_metrics(matrix, labels):
    """Returns `BALANCED` of a confusion matrix; an example without a prediction is wrong."""
    hits, predicted = matrix.diagonal(), matrix.sum(axis=0)
    support = np.bincount(labels, minlength=len(matrix))
    present, known = support > 0, support + predicted > 0
    return {
        "balanced_accuracy": float(np.mean(hits[present] / support[present])),
        "macro_f1": float(np.mean(2 * hits[known] / (support + predicted)[known])),
    }


def softmax(logits):
    """Returns the softmax of the last axis: same shape, rows that add up to 1."""
    with np.errstate(invalid="ignore"):
        powers = np.exp(cross_entropy.shift_logits(logits))
        return powers / powers.sum(axis=-1, keepdims=True)


def confidences(logits):
    """Returns the probability of the first class of each row `(examples,)`, NaN where one is."""
    return softmax(logits).max(axis=-1)


def predictions(logits):
    """Returns the number of the first class of each row `(examples,)`, -1 for a row with a NaN."""
    logits = np.asarray(logits, dtype=np.float64)
    return np.where(np.isnan(logits).any(axis=1), -1, logits.argmax(axis=1))


def confusion_matrix(labels, predictions, num_classes: int):
    """Counts who was taken for whom.

    An example without a prediction (-1) is in no cell.

    Returns:
        Counts as int64 `(num_classes, num_classes)`: a row is a true class, a column a prediction.

    Raises:
        UsageError: If a label or a prediction is no class.
    """
    labels = np.asarray(labels).astype(np.int64)
    predictions = np.asarray(predictions).astype(np.int64)
    _check_range("label", labels, 0, num_classes)
    _check_range("prediction", predictions, -1, num_classes)
    valid = predictions >= 0
    cells = labels[valid] * num_classes + predictions[valid]
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def per_class_metrics(matrix) -> list[dict]:
    """Measures each class of a confusion matrix.

    Returns:
        A dict for each class: `precision`, `recall` and `f1` in [0, 1], 0 where undefined (a class
        that is never predicted or never there), and `support`, the number of its examples.
    """
    matrix = np.asarray(matrix)
    rows = zip(matrix.diagonal(), matrix.sum(axis=0), matrix.sum(axis=1), strict=True)
    return [
        {
            "precision": float(hits / max(predicted, 1)),
            "recall": float(hits / max(support, 1)),
            "f1": float(2 * hits / max(predicted + support, 1)),
            "support": int(support),
        }
        for hits, predicted, support in rows
    ]


def worst_mistakes(logits, labels, count: int):
    """Returns the indices of at most `count` wrong predictions, the largest loss first.

    A loss of NaN counts as infinite; equal losses stay in the order of the examples.
    """
    logits, labels = _validated(logits, labels)
    wrong = np.flatnonzero(_ranks(logits, labels) > 0)
    losses = cross_entropy.softmax_cross_entropy(logits[wrong], labels[wrong])
    order = np.argsort(-np.where(np.isnan(losses), np.inf, losses), kind="stable")
    return wrong[order[:count]]


def _ranks(logits, labels):
    """Returns how many classes come before the true one `(examples,)`; all of them for a NaN."""
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    earlier = np.arange(logits.shape[1]) < labels[:, None]
    ranks = ((logits > own) | ((logits == own) & earlier)).sum(axis=1)
    return np.where(np.isnan(logits).any(axis=1), logits.shape[1], ranks)


def _validated(logits, labels):
    logits = np.asarray(logits, dtype=np.float64)
    labels = np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise UsageError(
            f"got logits of shape {logits.shape} and labels of shape {labels.shape}; "
            "needed (examples, classes) and (examples,)"
        )
    if not len(labels):
        raise UsageError("no example to measure: the split is empty; name another or a larger one")
    labels = labels.astype(np.int64)
    _check_range("label", labels, 0, logits.shape[1])
    return logits, labels


def _check_range(what, values, low, num_classes):
    wrong = values[(values < low) | (values >= num_classes)]
    if len(wrong):
        raise UsageError(
            f"got the {what} {wrong[0]}, needed 0 to {num_classes - 1}: "
            f"the model has {num_classes} classes; set --num-classes to that of the data set"
        )
