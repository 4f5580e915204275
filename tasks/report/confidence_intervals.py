"""How far a figure may be trusted: bootstrap intervals over the examples of a test split.

A resample draws as many examples as there are, with replacement, and measures them anew; the
interval holds the middle `level` of what resamples show (Efron, 1979, percentiles). It says what
other test images of the same kind would have changed, and nothing of another training run.

Where all resamples are alike, as those of a single image are, they say nothing. Then the share of
examples that may be different is bounded as Clopper and Pearson (1934) do, and these may have any
figure that there is: of a mean that is exact, of other figures an estimate. A figure without
bounds has no interval then.
"""

from __future__ import annotations

from collections.abc import Callable

from zoo.lazy import np

NUM_RESAMPLES = 1000
RELATIVE_TOLERANCE = 1e-9  # of their size by which figures may differ by rounding
_MAX_DRAWS_PER_BLOCK = 2**21  # examples; keeps memory flat


UNIT_BOUNDS = (0.0, 1.0)  # between which most figures lie


def mean_interval(
    values, *, seed: int, level: float = 0.95, resamples: int = NUM_RESAMPLES, bounds=None
):
    """Returns the interval `(low, high)` of a mean.

    Values that are all 0 or 1 are resampled as what their sum then is, a binomial number, at no
    cost. 24 right of 24 are not certainty: where all values are alike an exact bound is given.

    Args:
        values: `(examples,)`, such as whether each prediction is right.
        seed: of the resamples; the same one gives the same interval.
        level: share of the resamples between the ends.
        resamples: how many to draw.
        bounds: the least and the largest value that there is, if known.
    """
    values = np.asarray(values, dtype=np.float64)
    count, total = len(values), values.sum()
    if not np.isin(values, (0, 1)).all():
        options = {"seed": seed, "level": level, "resamples": resamples, "bounds": bounds}
        return bootstrap_interval(lambda counts: counts @ values / count, count, **options)
    if total in (0, count):
        return _degenerate_interval(total / count, count, level, bounds or UNIT_BOUNDS)
    drawn = np.random.default_rng(seed).binomial(count, total / count, resamples) / count
    return _percentile_interval(drawn, level)


def bootstrap_interval(
    measure: Callable,
    count: int,
    *,
    seed: int,
    level: float = 0.95,
    resamples: int = NUM_RESAMPLES,
    bounds=None,
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
        bounds: the least and the largest figure that there is, if known.

    Returns:
        The ends; NaN where there are none.
    """
    random = np.random.default_rng(seed)
    max_rows = max(1, _MAX_DRAWS_PER_BLOCK // count)
    blocks = [min(max_rows, resamples - first) for first in range(0, resamples, max_rows)]
    found = np.concatenate([measure(_resample_counts(random, rows, count)) for rows in blocks])
    low, high = _percentile_interval(found, level)
    if high - low <= RELATIVE_TOLERANCE * max(abs(low), abs(high)):  # also 0 and 0; not NaN
        return _degenerate_interval(low, count, level, bounds)
    return low, high


def with_interval(name: str, value: float, ends) -> dict[str, float]:
    """Returns a figure and the ends of its interval by name, without ends that are NaN."""
    known = {} if np.isnan(ends).any() else dict(zip(("low", "high"), ends, strict=True))
    return {name: value, **{f"{name}_{end}": each for end, each in known.items()}}


def _resample_counts(random, rows, count):
    """Returns how often each of `count` examples is drawn in some resamples `(rows, count)`."""
    drawn = random.integers(0, count, (rows, count))
    drawn += count * np.arange(rows)[:, None]
    return np.bincount(drawn.reshape(-1), minlength=rows * count).reshape(rows, count)


def _degenerate_interval(value, count, level, bounds):
    """Returns the interval of a figure whose resamples are all alike."""
    if bounds is None:
        return float("nan"), float("nan")
    different = 1 - ((1 - level) / 2) ** (1 / count)  # share of examples, at most
    return tuple(float(value + different * (bound - value)) for bound in bounds)


def _percentile_interval(figures, level):
    ends = ((1 - level) / 2, (1 + level) / 2)
    figures = figures[~np.isnan(figures)]
    low, high = np.quantile(figures, ends) if len(figures) else (np.nan, np.nan)
    return float(low), float(high)
