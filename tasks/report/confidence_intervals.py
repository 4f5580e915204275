"""Bootstrap confidence intervals of metrics over the examples of a test split.

A resample draws as many examples as there are, with replacement, and computes the metric again; the
interval contains the central `level` of the resamples (percentile bootstrap; Efron, 1979). It
covers the choice of test images, not the variation between training runs.

If all resamples are equal, as for a single image, they carry no information. Then the fraction of
examples that may differ is bounded as by Clopper and Pearson (1934), and these may have any value
of the metric: this is exact for a mean and an estimate for other metrics. A metric without bounds
then has no interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tasks.report.formatting import display_name, format_value, is_percentage
from zoo.lazy import np

NUM_RESAMPLES = 1000
RELATIVE_TOLERANCE = 1e-9  # within which resamples count as equal, because of rounding
_MAX_DRAWS_PER_BLOCK = 2**21  # examples; bounds the memory
WIDE = 0.1  # width of an interval from which it is stated before the metric
UNIT_BOUNDS = (0.0, 1.0)  # of most metrics


def mean_interval(
    values, *, seed: int, level: float = 0.95, resamples: int = NUM_RESAMPLES, bounds=None
):
    """Returns the confidence interval `(low, high)` of a mean.

    The sum of values that are all 0 or 1 is resampled directly, as a binomial variable. 24 correct
    of 24 are not certainty: if all values are equal, an exact bound is returned.

    Args:
        values: `(examples,)`, such as whether each prediction is correct.
        seed: The seed of the resamples.
        level: The confidence level.
        resamples: The number of resamples.
        bounds: The smallest and the largest possible value, if known.
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
    """Returns the confidence interval `(low, high)` of any metric.

    Args:
        measure: A function of how often each example is drawn, integers `(rows, count)` whose
            rows sum to `count`, that returns the metric of each row `(rows,)`. Rows for which it
            is NaN are ignored.
        count: The number of examples.
        seed: The seed of the resamples.
        level: The confidence level.
        resamples: The number of resamples.
        bounds: The smallest and the largest possible value, if known.

    Returns:
        The ends of the interval; NaN if there is none.
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
    """Returns a metric and the ends of its interval by name, without ends that are NaN."""
    known = {} if np.isnan(ends).any() else dict(zip(("low", "high"), ends, strict=True))
    return {name: value, **{f"{name}_{end}": each for end, each in known.items()}}


def _resample_counts(random, rows, count):
    """Returns how often each of `count` examples is drawn in each resample, `(rows, count)`."""
    drawn = random.integers(0, count, (rows, count))
    drawn += count * np.arange(rows)[:, None]
    return np.bincount(drawn.reshape(-1), minlength=rows * count).reshape(rows, count)


def wide_interval(figures: Mapping[str, float]) -> str:
    """Returns the interval of the first metric as text if it is wide, as for few test images.

    Args:
        figures: Metrics in [0, 1] by name, with `NAME_low` and `NAME_high` of some.

    Returns:
        Text such as `Accuracy from 61.20% to 88.90% (95% interval, of few test images)`, or `""`
        if the interval is narrower than `WIDE` or there is none.
    """
    for name in figures:
        low, high = (figures.get(f"{name}_{end}") for end in ("low", "high"))
        if low is None or high is None:
            continue
        if high - low < WIDE or not is_percentage(name):
            return ""
        ends = f"{format_value(name, low)} to {format_value(name, high)}"
        title = display_name(name)
        return f"{title[0].upper()}{title[1:]} from {ends} (95% interval, of few test images)"
    return ""


def _degenerate_interval(value, count, level, bounds):
    """Returns the interval of a metric whose resamples are all equal."""
    if bounds is None:
        return float("nan"), float("nan")
    different = 1 - ((1 - level) / 2) ** (1 / count)  # largest fraction of examples
    return tuple(float(value + different * (bound - value)) for bound in bounds)


def _percentile_interval(figures, level):
    ends = ((1 - level) / 2, (1 + level) / 2)
    figures = figures[~np.isnan(figures)]
    low, high = np.quantile(figures, ends) if len(figures) else (np.nan, np.nan)
    return float(low), float(high)
