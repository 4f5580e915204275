"""Classification metrics, the confusion matrix and the worst mistakes.

Logits are `(examples, classes)`, labels are integers `(examples,)`. Everything is computed in
float64. Classes are ranked by descending logit; ties go to the class with the lower index. An
example with a NaN among its logits has no prediction: it is wrong at every rank and its loss is
NaN.
"""

from __future__ import annotations

from tasks.classification import calibration
from tasks.classification.multilabel import map_interval, multilabel_metrics
from tasks.report import confidence_intervals, cross_entropy
from tasks.report.evaluation_report import deduplicated_metric
from zoo.errors import UsageError
from zoo.lazy import LazyModule, np

agreement = LazyModule("tasks.classification.agreement")
ranking = LazyModule("tasks.classification.ranking")

BALANCED_METRICS = ("balanced_accuracy", "macro_f1")  # means over classes
IMBALANCE_RATIO = 3  # largest to smallest class from which the balanced metrics come first


def summary(logits, labels) -> dict[str, float]:
    """Computes `classification_metrics`, or `multilabel_metrics` if labels are multi-hot."""
    return (
        multilabel_metrics(logits, labels)
        if np.ndim(labels) == 2
        else classification_metrics(logits, labels)
    )


def metrics_with_intervals(logits, labels, *, seed: int) -> dict[str, float]:
    """Computes the metrics of a report: `summary` and an interval for its first metric.

    Args:
        logits: `(examples, classes)`.
        labels: `(examples,)`, or multi-hot `(examples, classes)`.
        seed: The seed of the bootstrap.

    Returns:
        The metrics of `summary`, and `accuracy_low` and `accuracy_high`, or `map_low` and
        `map_high`: the ends of a 95% bootstrap interval over the examples. With accuracy also
        `majority_share`, the accuracy of always predicting the most frequent class, and the metrics
        of `agreement` and `ranking` with their intervals. Where the largest class has at least
        `IMBALANCE_RATIO` times the examples of the smallest, `BALANCED_METRICS` come first.
    """
    figures = summary(logits, labels)
    if "map" in figures:
        ends = map_interval(logits, labels, seed=seed)
        return {**confidence_intervals.with_interval("map", figures.pop("map"), ends), **figures}
    ends = confidence_intervals.mean_interval(_ranks(*_validated(logits, labels)) < 1, seed=seed)
    counts = np.unique(np.asarray(labels), return_counts=True)[1]
    first = confidence_intervals.with_interval("accuracy", figures.pop("accuracy"), ends)
    first["majority_share"] = float(counts.max() / counts.sum())
    balanced = {name: figures.pop(name) for name in BALANCED_METRICS}
    num_classes = np.shape(logits)[1]
    figures |= agreement.agreement_metrics(predictions(logits), labels, num_classes, seed=seed)
    figures |= ranking.ranking_metrics(softmax(np.asarray(logits)), labels, seed=seed)
    if counts.max() >= IMBALANCE_RATIO * counts.min():
        return {**balanced, **first, **figures}
    return {**first, **balanced, **figures}


def deduplicated_metrics(logits, labels, copies) -> dict[str, float]:
    """Computes the first metric without the test images that are near copies of training images.

    Args:
        logits, labels: Of all test images.
        copies: The indices of the near copies.

    Returns:
        A dict with `deduplicated_accuracy` or `deduplicated_map`, as `deduplicated_metric` returns.
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    name = "map" if labels.ndim == 2 else "accuracy"

    def measure(kept):
        labelled = labels.ndim == 1 or labels[kept].any()
        return summary(logits[kept], labels[kept])[name] if labelled else np.nan

    return deduplicated_metric(name, len(labels), copies, measure)


def classification_metrics(logits, labels) -> dict[str, float]:
    """Computes the metrics that every single-label classifier reports.

    Args:
        logits: `(examples, classes)`.
        labels: Integers `(examples,)`.

    Returns:
        `accuracy` and, with more than 5 classes, `top5_accuracy`, in [0, 1]; `balanced_accuracy`,
        the mean recall over classes with an example, and `macro_f1`, the mean F1 over classes with
        an example or a prediction, as in scikit-learn; `loss`, the mean softmax cross-entropy in
        nats, without label smoothing; `ece`, the expected calibration error, NaN if the loss is.

    Raises:
        UsageError: There is no example, or a label is not a class of the model.
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
    """Returns `BALANCED_METRICS`; an example without a prediction counts as wrong."""
    hits, predicted = matrix.diagonal(), matrix.sum(axis=0)
    support = np.bincount(labels, minlength=len(matrix))
    present, defined = support > 0, support + predicted > 0
    return {
        "balanced_accuracy": float(np.mean(hits[present] / support[present])),
        "macro_f1": float(np.mean(2 * hits[defined] / (support + predicted)[defined])),
    }


def softmax(logits):
    """Returns the softmax over the last axis, of the same shape."""
    with np.errstate(invalid="ignore"):
        powers = np.exp(cross_entropy.shift_logits(logits))
        return powers / powers.sum(axis=-1, keepdims=True)


def confidences(logits):
    """Returns the probability of the predicted class `(examples,)`, NaN if a logit is NaN."""
    return softmax(logits).max(axis=-1)


def predictions(logits):
    """Returns the index of the predicted class `(examples,)`, -1 if a logit is NaN."""
    logits = np.asarray(logits, dtype=np.float64)
    return np.where(np.isnan(logits).any(axis=1), -1, logits.argmax(axis=1))


def confusion_matrix(labels, predictions, num_classes: int):
    """Returns the confusion matrix.

    An example without a prediction (-1) is not counted.

    Args:
        labels, predictions: Class indices `(examples,)`.
        num_classes: The number of classes.

    Returns:
        int64 `(num_classes, num_classes)`: rows are true classes, columns predicted classes.

    Raises:
        UsageError: A label or a prediction is out of range.
    """
    labels = np.asarray(labels).astype(np.int64)
    predictions = np.asarray(predictions).astype(np.int64)
    _check_range("label", labels, 0, num_classes)
    _check_range("prediction", predictions, -1, num_classes)
    valid = predictions >= 0
    cells = labels[valid] * num_classes + predictions[valid]
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def per_class_metrics(matrix) -> list[dict]:
    """Computes the metrics of each class from a confusion matrix.

    Args:
        matrix: `(classes, classes)`: rows are true classes, columns predicted classes.

    Returns:
        One dict per class: `precision`, `recall` and `f1` in [0, 1], 0 where undefined (a class
        without predictions or without examples), and `support`, the number of its examples.
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
    """Returns the indices of at most `count` wrong predictions, largest loss first.

    A loss of NaN counts as infinite. Ties stay in the order of the examples.
    """
    logits, labels = _validated(logits, labels)
    wrong = np.flatnonzero(_ranks(logits, labels) > 0)
    losses = cross_entropy.softmax_cross_entropy(logits[wrong], labels[wrong])
    order = np.argsort(-np.where(np.isnan(losses), np.inf, losses), kind="stable")
    return wrong[order[:count]]


def _ranks(logits, labels):
    """Returns the rank of the true class `(examples,)`, 0 for the first; last if a logit is NaN."""
    true = np.take_along_axis(logits, labels[:, None], axis=1)
    earlier = np.arange(logits.shape[1]) < labels[:, None]
    ranks = ((logits > true) | ((logits == true) & earlier)).sum(axis=1)
    return np.where(np.isnan(logits).any(axis=1), logits.shape[1], ranks)


def _validated(logits, labels):
    logits = np.asarray(logits, dtype=np.float64)
    labels = np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise UsageError(
            f"got logits of shape {logits.shape} and labels of shape {labels.shape}; "
            "expected (examples, classes) and (examples,)"
        )
    if not len(labels):
        raise UsageError("no example to evaluate: the split is empty; choose another split")
    labels = labels.astype(np.int64)
    _check_range("label", labels, 0, logits.shape[1])
    return logits, labels


def _check_range(name, values, low, num_classes):
    wrong = values[(values < low) | (values >= num_classes)]
    if len(wrong):
        raise UsageError(
            f"got the {name} {wrong[0]}, expected 0 to {num_classes - 1}: the model has "
            f"{num_classes} classes; set --num-classes to the number of classes of the data set"
        )
