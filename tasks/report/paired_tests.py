"""Paired comparisons of two models that were evaluated on the same images.

An interval of a difference over the same images is narrower than the intervals of both figures
suggest, because images that are hard for both models cancel. Like the other intervals, it covers
the choice of test images, not the variation between training runs.
"""

from __future__ import annotations

import math

from tasks.report import confidence_intervals
from zoo.lazy import np


def mcnemar_exact(first_only: int, second_only: int) -> float:
    """Returns the two-sided p-value of McNemar's exact test (McNemar, 1947).

    Under the null hypothesis, an image that one of two classifiers gets right is equally likely to
    be one of either: the counts have a binomial distribution with a probability of 1/2.

    Args:
        first_only: The number of images that only the first classifier gets right.
        second_only: The number of images that only the second gets right.
    """
    count, fewer = first_only + second_only, min(first_only, second_only)
    term = total = 1
    for successes in range(1, fewer + 1):
        term = term * (count - successes + 1) // successes  # a binomial coefficient
        total += term
    return min(1.0, float(_ratio(2 * total, 2**count)))


def paired_difference(first, second, *, seed: int) -> dict[str, float]:
    """Returns the mean difference `second - first` and its 95% paired bootstrap interval.

    Args:
        first, second: Values of two models for the same images, `(images,)`. Images for which one
            of them is NaN are left out.
        seed: The seed of the resamples.

    Returns:
        `images`, the number of images that count; `difference`, NaN without any; and `low` and
        `high`, `None` where there is no interval. With values that are all 0 or 1 also
        `first_only` and `second_only`, the numbers of images for which only one is 1, and
        `p_value`, that of `mcnemar_exact`.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    valid = np.isfinite(first) & np.isfinite(second)
    first, second = first[valid], second[valid]
    if not len(first):
        return {"images": 0, "difference": math.nan, "low": None, "high": None}
    binary = bool(np.isin([first, second], (0, 1)).all())
    bounds = (-1.0, 1.0) if binary else None
    low, high = confidence_intervals.mean_interval(second - first, seed=seed, bounds=bounds)
    found = {
        "images": len(first),
        "difference": float(np.mean(second - first)),
        "low": None if math.isnan(low) else low,
        "high": None if math.isnan(high) else high,
    }
    if binary:
        found["first_only"] = int((first > second).sum())
        found["second_only"] = int((second > first).sum())
        found["p_value"] = mcnemar_exact(found["first_only"], found["second_only"])
    return found


def _ratio(part, whole):
    """Returns the quotient of two integers that may be too large for floats."""
    shift = max(0, whole.bit_length() - 1000)
    return (part >> shift) / (whole >> shift)
