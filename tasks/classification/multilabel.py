"""Metrics of multi-label classification: average precision, F1, exact match.

Logits are `(examples, classes)`, labels multi-hot of the same shape. A class is predicted where
its sigmoid exceeds 0.5, that is where its logit is positive. A logit of NaN ranks below every
other logit and predicts nothing; the loss is then NaN.
"""

from __future__ import annotations

from tasks.report import confidence_intervals, cross_entropy
from zoo.errors import UsageError
from zoo.lazy import np

RESAMPLES = 200  # few, as each resample of the mean average precision is a pass over all logits


def multilabel_metrics(logits, labels) -> dict[str, float]:
    """Computes the metrics that every multi-label classifier reports.

    Args:
        logits: `(examples, classes)`.
        labels: Multi-hot, of the same shape.

    Returns:
        `map`, the mean over classes of the average precision; `micro_f1`, the F1 over all labels;
        `macro_f1`, the mean over classes of the F1; `exact_match`, the share of examples with
        every label correct; `loss`, the mean binary cross-entropy in nats. Means over classes
        exclude classes without a positive example.

    Raises:
        UsageError: There is no example or no positive one, or the shapes differ.
    """
    logits, labels = _validated(logits, labels)
    predicted = logits > 0
    present = labels.any(axis=0)
    both, either = (predicted & labels).sum(axis=0), predicted.sum(axis=0) + labels.sum(axis=0)
    return {
        "map": float(np.mean(_average_precisions(logits, labels)[present])),
        "micro_f1": float(2 * both.sum() / either.sum()),
        "macro_f1": float(np.mean(2 * both[present] / either[present])),
        "exact_match": float(np.mean((predicted == labels).all(axis=1))),
        "loss": float(np.mean(cross_entropy.sigmoid_cross_entropy(logits, labels))),
    }


def per_class_metrics(logits, labels) -> list[dict]:
    """Computes the metrics of each class.

    Args:
        logits: `(examples, classes)`.
        labels: Multi-hot, of the same shape.

    Returns:
        One dict per class: `ap`, the average precision, `None` without a positive example;
        `precision`, `recall` and `f1` in [0, 1], 0 where undefined; `support`, the number of
        positive examples.
    """
    logits, labels = _validated(logits, labels)
    predicted = logits > 0
    hits, num_predicted, support = (x.sum(axis=0) for x in (predicted & labels, predicted, labels))
    precisions = _average_precisions(logits, labels)
    return [
        {
            "ap": float(precisions[index]) if support[index] else None,
            "precision": float(hits[index] / max(num_predicted[index], 1)),
            "recall": float(hits[index] / max(support[index], 1)),
            "f1": float(2 * hits[index] / max(num_predicted[index] + support[index], 1)),
            "support": int(support[index]),
        }
        for index in range(labels.shape[1])
    ]


def worst_mistakes(logits, labels, count: int):
    """Returns the indices of at most `count` examples with a wrong label, largest loss first.

    A loss of NaN counts as infinite.
    """
    logits, labels = _validated(logits, labels)
    wrong = np.flatnonzero(((logits > 0) != labels).any(axis=1))
    losses = cross_entropy.sigmoid_cross_entropy(logits[wrong], labels[wrong])
    order = np.argsort(-np.where(np.isnan(losses), np.inf, losses), kind="stable")
    return wrong[order[:count]]


def map_interval(logits, labels, *, seed: int) -> tuple[float, float]:
    """Returns the 95% bootstrap interval `(low, high)` of the mean average precision.

    A class without a positive example in a resample is excluded from the mean of that resample.
    """
    logits, labels = _validated(logits, labels)
    orders = [_descending_order(column) for column in logits.T]

    def mean_average_precisions(counts):
        columns = zip(logits.T, labels.T, orders, strict=True)
        precisions = np.stack([_weighted_average_precision(*column, counts) for column in columns])
        valid = ~np.isnan(precisions)
        with np.errstate(invalid="ignore"):  # a resample without any positive example
            return np.where(valid, precisions, 0).sum(axis=0) / valid.sum(axis=0)

    options = {"seed": seed, "resamples": RESAMPLES, "bounds": confidence_intervals.UNIT_BOUNDS}
    return confidence_intervals.bootstrap_interval(mean_average_precisions, len(logits), **options)


def _average_precisions(logits, labels):
    """Returns the average precision of each class `(classes,)`, NaN without a positive example."""
    counts = np.ones((1, len(logits)), np.int64)
    columns = zip(logits.T, labels.T, strict=True)
    return np.array(
        [_weighted_average_precision(x, y, _descending_order(x), counts)[0] for x, y in columns]
    )


def _descending_order(logits):
    return np.argsort(-np.where(np.isnan(logits), -np.inf, logits), kind="stable")


def _weighted_average_precision(logits, labels, order, counts):
    """Returns the average precision of one class in each resample `(resamples,)`.

    It is the sum over thresholds of the precision times the increase in recall: the mean over
    positive examples of the precision among examples with an equal or larger logit.

    Args:
        logits, labels: Of one class, `(examples,)`.
        order: The indices that sort the logits in descending order.
        counts: How often each resample contains each example, `(resamples, examples)`.
    """
    sorted_logits = np.where(np.isnan(logits), -np.inf, logits)[order]
    last_tied = np.searchsorted(-sorted_logits, -sorted_logits, side="right") - 1
    positives = np.flatnonzero(labels[order])
    if not len(positives):
        return np.full(len(counts), np.nan)
    counts = counts[:, order]
    num_predicted = counts.cumsum(axis=1)[:, last_tied[positives]]
    positive_counts = counts[:, positives]
    cumulative = positive_counts.cumsum(axis=1)
    # Includes all positive examples with the same logit.
    hits = cumulative[:, np.searchsorted(positives, last_tied[positives], side="right") - 1]
    with np.errstate(invalid="ignore"):
        gains = positive_counts * hits / np.maximum(num_predicted, 1)
        return gains.sum(axis=1) / cumulative[:, -1]


def _validated(logits, labels):
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape:
        raise UsageError(
            f"got logits of shape {logits.shape} and labels of shape {labels.shape}; "
            "expected (examples, classes) for both"
        )
    if not labels.any():
        raise UsageError("no example of the split has a label to evaluate; choose another split")
    return logits, labels.astype(bool)
