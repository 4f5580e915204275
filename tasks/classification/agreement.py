"""Agreement of predictions and labels beyond chance: MCC and Cohen's kappa, with intervals.

The Matthews correlation coefficient of several classes is that of Gorodkin (2004); kappa is that of
Cohen (1960). Both are 1 for perfect predictions and 0 for those that do not depend on the labels;
where they are undefined, as for a single predicted class, they are 0.
"""

from __future__ import annotations

from tasks.report import confidence_intervals
from zoo.lazy import np

BOUNDS = (-1.0, 1.0)
MAX_CELLS = 2_000_000  # examples times classes, above which there is no interval


def agreement_metrics(predictions, labels, num_classes: int, *, seed: int) -> dict[str, float]:
    """Returns `mcc` and `kappa` with the ends of their 95% bootstrap intervals.

    Args:
        predictions: Class indices `(examples,)`; -1, no prediction, is a class of its own.
        labels: Class indices `(examples,)`.
        num_classes: The number of classes.
        seed: The seed of the bootstrap.
    """
    classes = np.arange(-1, num_classes)
    predicted, true = (np.asarray(x)[:, None] == classes for x in (predictions, labels))
    predicted, true, count = predicted.astype("float64"), true.astype("float64"), len(labels)
    hits = (np.asarray(predictions) == np.asarray(labels)).astype("float64")
    found = {}
    for name, formula in (("mcc", _mcc), ("kappa", _kappa)):

        def measure(counts, formula=formula):
            return formula(counts @ hits, counts @ predicted, counts @ true, count)

        value = float(measure(np.ones((1, count)))[0])
        ends = (np.nan, np.nan)
        if predicted.size <= MAX_CELLS:
            ends = confidence_intervals.bootstrap_interval(measure, count, seed=seed, bounds=BOUNDS)
        found |= confidence_intervals.with_interval(name, value, ends)
    return found


def _mcc(hits, predicted, true, count):
    """Returns the coefficient of each row from counts per class `(rows, classes)`."""
    covariance = hits * count - (predicted * true).sum(axis=1)
    spread = (count**2 - (predicted**2).sum(axis=1)) * (count**2 - (true**2).sum(axis=1))
    return _ratio(covariance, np.sqrt(np.maximum(spread, 0)))


def _kappa(hits, predicted, true, count):
    expected = (predicted * true).sum(axis=1) / count**2
    return _ratio(hits / count - expected, 1 - expected)


def _ratio(above, below):
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)
