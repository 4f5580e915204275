"""What is measured where an image may have any number of labels: precision class by class.

Logits are `(examples, classes)`, labels the same shape, 1 where the image has the label. A class
is said of an image where its sigmoid exceeds 0.5, so where its logit is positive. A NaN among the
logits is below every other logit and says nothing; the loss is then NaN.
"""

from __future__ import annotations

from tasks.report import confidence_intervals, cross_entropy
from zoo.errors import UsageError
from zoo.lazy import np

RESAMPLES = 200  # of the mean average precision, whose every resample costs a pass over all logits


def multilabel_metrics(logits, labels) -> dict[str, float]:
    """Measures what every classifier of several labels reports.

    Returns:
        `map`, the mean of the classes' average precision; `micro_f1`, the F1 of all labels
        together; `macro_f1`, the mean of the classes' F1; `exact_match`, the share of examples
        with every label right; `loss`, the mean binary cross-entropy in nats. Means over classes
        leave out those without a positive example.

    Raises:
        UsageError: If there is no example or no positive one, or the shapes differ.
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
    """Measures each class.

    Returns:
        A dict for each class: `ap`, its average precision, `None` if no example has it;
        `precision`, `recall` and `f1` in [0, 1], 0 where undefined; `support`, the number of its
        examples.
    """
    logits, labels = _validated(logits, labels)
    predicted = logits > 0
    hits, num_predicted, support = (
        (x).sum(axis=0) for x in (predicted & labels, predicted, labels)
    )
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
    """Returns the indices of at most `count` examples with a wrong label, largest loss first."""
    logits, labels = _validated(logits, labels)
    wrong = np.flatnonzero(((logits > 0) != labels).any(axis=1))
    losses = cross_entropy.sigmoid_cross_entropy(logits[wrong], labels[wrong])
    order = np.argsort(-np.where(np.isnan(losses), np.inf, losses), kind="stable")
    return wrong[order[:count]]


def map_interval(logits, labels, *, seed: int) -> tuple[float, float]:
    """Returns the bootstrap interval `(low, high)` of the mean average precision, at 95%.

    A resample without a positive example of a class leaves the class out of its mean.
    """
    logits, labels = _validated(logits, labels)
    orders = [_descending_order(column) for column in logits.T]

    def measure(times):
        columns = zip(logits.T, labels.T, orders, strict=True)
        precisions = np.stack([_weighted_average_precision(*column, times) for column in columns])
        known = ~np.isnan(precisions)
        with np.errstate(invalid="ignore"):  # a resample without any positive example
            return np.where(known, precisions, 0).sum(axis=0) / known.sum(axis=0)

    options = {"seed": seed, "resamples": RESAMPLES, "bounds": confidence_intervals.UNIT_BOUNDS}
    return confidence_intervals.bootstrap_interval(measure, len(logits), **options)


def _average_precisions(logits, labels):
    """Returns the average precision of each class `(classes,)`, NaN without a positive example."""
    once = np.ones((1, len(logits)), np.int64)
    columns = zip(logits.T, labels.T, strict=True)
    return np.array(
        [_weighted_average_precision(x, y, _descending_order(x), once)[0] for x, y in columns]
    )


def _descending_order(logits):
    return np.argsort(-np.where(np.isnan(logits), -np.inf, logits), kind="stable")


def _weighted_average_precision(logits, labels, order, times):
    """Returns the average precision of one class in resamples `(some,)`.

    It is the sum over thresholds of precision times the recall that this threshold gains, so the
    mean over positive examples of the precision among those with no smaller a logit.
    """
    sizes = np.where(np.isnan(logits), -np.inf, logits)[order]
    last = np.searchsorted(-sizes, -sizes, side="right") - 1  # of the examples of equal logits
    places = np.flatnonzero(labels[order])
    if not len(places):
        return np.full(len(times), np.nan)
    drawn = times[:, order]
    above = drawn.cumsum(axis=1)[:, last[places]]
    gained = drawn[:, places]
    counted = gained.cumsum(axis=1)
    # The positive examples up to the last one of equal logits.
    hits = counted[:, np.searchsorted(places, last[places], side="right") - 1]
    with np.errstate(invalid="ignore"):
        return (gained * hits / np.maximum(above, 1)).sum(axis=1) / counted[:, -1]


def _validated(logits, labels):
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape:
        raise UsageError(
            f"got logits of shape {logits.shape} and labels of shape {labels.shape}; "
            "needed (examples, classes) of both"
        )
    if not labels.any():
        raise UsageError("no label to measure: no example of the split has any; name another one")
    return logits, labels.astype(bool)
