"""Metrics of the ranking of examples by the probability of a class: AUROC and precision-recall."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.report import confidence_intervals, svg
from tasks.report.axes import nice_axis
from tasks.report.formatting import escape
from tasks.report.plot_area import PlotArea
from zoo.lazy import np

MAX_CELLS = 200_000  # examples times classes, above which there is no interval
MAX_CURVES = 8  # of the classes with the most examples


def ranking_metrics(probabilities, labels, *, seed: int) -> dict[str, float]:
    """Returns `auroc` and `average_precision` with the ends of their 95% bootstrap intervals.

    With two classes they are those of the second class; with more, they are means over the classes
    that have examples, one against the others. They are left out if there is only one class.

    Args:
        probabilities: `(examples, classes)`.
        labels: Class indices `(examples,)`.
        seed: The seed of the bootstrap.
    """
    columns = _columns(probabilities, labels)
    if not columns:
        return {}
    count, found = len(labels), {}
    for name, formula in (("auroc", weighted_auroc), ("average_precision", weighted_precision)):

        def measure(counts, formula=formula):
            return np.mean([formula(*column, counts) for column in columns], axis=0)

        value = float(measure(np.ones((1, count)))[0])
        ends = (np.nan, np.nan)
        if count * len(columns) <= MAX_CELLS:
            with np.errstate(invalid="ignore"):  # a resample without one of the classes is NaN
                ends = confidence_intervals.bootstrap_interval(
                    measure, count, seed=seed, bounds=confidence_intervals.UNIT_BOUNDS
                )
        found |= confidence_intervals.with_interval(name, value, ends)
    return found


def weighted_auroc(scores, positive, counts):
    """Returns the area under the ROC curve of each row of `counts`; NaN without a class.

    It is the probability that a positive example has a higher score than a negative one, where
    equal scores count one half.

    Args:
        scores: `(examples,)`.
        positive: bool `(examples,)`.
        counts: How often each example occurs, `(rows, examples)`.
    """
    positives, negatives = _by_score(scores, positive, counts)
    below = np.cumsum(negatives, axis=1) - negatives / 2
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    return np.divide(
        (positives * below).sum(axis=1), pairs, out=np.full(len(counts), np.nan), where=pairs > 0
    )


def weighted_precision(scores, positive, counts):
    """Returns the average precision of each row, as `sklearn.metrics.average_precision_score`.

    Args:
        scores, positive, counts: As in `weighted_auroc`.
    """
    positives, negatives = (x[:, ::-1] for x in _by_score(scores, positive, counts))
    hits, total = np.cumsum(positives, axis=1), np.cumsum(positives + negatives, axis=1)
    precision = np.divide(hits, total, out=np.zeros_like(hits), where=total > 0)
    have, every = positives.sum(axis=1), (positives * precision).sum(axis=1)
    return np.divide(every, have, out=np.full(len(counts), np.nan), where=have > 0)


def curve(scores, positive):
    """Returns recall and precision at each score as a threshold, the highest score first."""
    ones = np.ones((1, len(scores)))
    positives, negatives = (x[0, ::-1] for x in _by_score(scores, positive, ones))
    hits, total = np.cumsum(positives), np.cumsum(positives + negatives)
    return hits / max(hits[-1], 1), hits / total


def curves_figure(probabilities, labels, classes: Sequence[str]) -> str:
    """Returns a plot of precision by recall of each class against the others, as HTML."""
    labels = np.asarray(labels)
    chosen = [1] if len(classes) == 2 else range(len(classes))
    present = [index for index in chosen if 0 < (labels == index).sum() < len(labels)]
    present = sorted(present, key=lambda index: -(labels == index).sum())[:MAX_CURVES]
    if not present:
        return ""
    axis = nice_axis([0.0, 1.0], as_percent=True)
    area = PlotArea(axis, axis)
    parts, legend = area.grid("recall"), []
    for number, index in enumerate(present):
        recall, precision = curve(probabilities[:, index], labels == index)
        kept = np.unique(np.linspace(0, len(recall) - 1, 400).astype(int))
        points = [area.to_pixels(*x) for x in zip(recall[kept], precision[kept], strict=True)]
        parts.append(svg.polyline([area.to_pixels(0, precision[0]), *points], kind=f"run{number}"))
        legend.append(
            f'<span><svg width="18" height="10" aria-hidden="true">'
            f'<path class="line run{number}" d="M0 5H18"/></svg>{escape(classes[index])}</span>'
        )
    drawn = area.to_svg(parts, "precision by recall")
    return f'<div class="panel"><p>precision {"".join(legend)}</p>{drawn}</div>'


def _columns(probabilities, labels):
    """Returns `(scores, positive)` of the classes that have examples, and of which others have."""
    labels = np.asarray(labels)
    wanted = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    scores = np.nan_to_num(probabilities)
    pairs = [(scores[:, index], labels == index) for index in wanted]
    return [(score, positive) for score, positive in pairs if 0 < positive.sum() < len(labels)]


def _by_score(scores, positive, counts):
    """Returns the positive and the negative examples per distinct score, `(rows, scores)`."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])
    drawn = counts[:, order].astype("float64")
    marks = positive[order]
    return np.add.reduceat(drawn * marks, starts, 1), np.add.reduceat(drawn * ~marks, starts, 1)
