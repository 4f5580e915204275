"""How far a figure may be trusted: bootstrap intervals over the examples of a test split.

A resample draws as many examples as there are, with replacement, and measures them anew; the
interval holds the middle `level` of what resamples show (Efron, 1979, percentiles). It says what
other test images of the same kind would have changed, and nothing of another training run.
"""

from __future__ import annotations

from collections.abc import Callable

from zoo.lazy import np

RESAMPLES = 1000
_DRAWN_AT_ONCE = 2**21  # examples; keeps memory flat


def mean(values, *, seed: int, level: float = 0.95, resamples: int = RESAMPLES):
    """Returns the interval `(low, high)` of a mean.

    Values that are all 0 or 1 are resampled as what their sum then is, a binomial number, at no
    cost. Where they are all alike no resample could differ; the exact bound of Clopper and
    Pearson (1934) stands in for what is unknown, so that 24 right of 24 are not certainty.

    Args:
        values: `(examples,)`, such as whether each prediction is right.
        seed: of the resamples; the same one gives the same interval.
        level: share of the resamples between the ends.
        resamples: how many to draw.
    """
    values = np.asarray(values, dtype=np.float64)
    count, total = len(values), values.sum()
    if not np.isin(values, (0, 1)).all():
        options = {"seed": seed, "level": level, "resamples": resamples}
        return bootstrap(lambda times: times @ values / count, count, **options)
    if total in (0, count):
        unknown = ((1 - level) / 2) ** (1 / count)
        return (unknown, 1.0) if total else (0.0, 1 - unknown)
    drawn = np.random.default_rng(seed).binomial(count, total / count, resamples) / count
    return _middle(drawn, level)


def bootstrap(
    measure: Callable, count: int, *, seed: int, level: float = 0.95, resamples: int = RESAMPLES
):
    """Returns the interval `(low, high)` of any figure.

    Args:
        measure: Takes how often each example is drawn, whole numbers `(some, count)` with rows
            that add up to `count`, and returns the figure of each row `(some,)`; a row without
            such a figure is NaN, and left out.
        count: How many examples there are.
        seed: of the resamples; the same one gives the same interval.
        level: share of the resamples between the ends.
        resamples: how many to draw.
    """
    random = np.random.default_rng(seed)
    most = max(1, _DRAWN_AT_ONCE // count)
    blocks = [min(most, resamples - first) for first in range(0, resamples, most)]
    return _middle(np.concatenate([measure(_times(random, rows, count)) for rows in blocks]), level)


def _times(random, rows, count):
    """Returns how often each of `count` examples is drawn in some resamples `(rows, count)`."""
    drawn = random.integers(0, count, (rows, count))
    drawn += count * np.arange(rows)[:, None]
    return np.bincount(drawn.reshape(-1), minlength=rows * count).reshape(rows, count)


def _middle(figures, level):
    ends = ((1 - level) / 2, (1 + level) / 2)
    figures = figures[~np.isnan(figures)]
    low, high = np.quantile(figures, ends) if len(figures) else (np.nan, np.nan)
    return float(low), float(high)
