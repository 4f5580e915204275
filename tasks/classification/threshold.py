"""The decision threshold of a binary classifier with the lowest cost on validation images."""

from __future__ import annotations

import math
import re

from zoo.errors import UsageError
from zoo.lazy import np

LAYER = "threshold"  # the name of the layer that shifts the logits


def parse_costs(text):
    """Returns the costs of a false positive and a false negative from `FP:FN`, such as `1:5`.

    Raises:
        UsageError: The text is no pair of positive numbers.
    """
    number = r"(\d+(?:\.\d*)?|\.\d+)"
    match = re.fullmatch(f"{number}:{number}", text)
    costs = tuple(map(float, match.groups())) if match else ()
    if not costs or min(costs) <= 0:
        raise UsageError(
            f"--error-costs takes the costs of a false positive and a false negative, such as 1:5, "
            f"not {text!r}"
        )
    return costs


def best_shift(logits, labels, costs) -> float:
    """Returns the difference of the logits above which the second class costs the least.

    Among thresholds of equal cost it is the nearest to `log(FP / FN)`, which is optimal for
    calibrated probabilities.

    Args:
        logits: `(examples, 2)` of validation images.
        labels: 0 or 1, `(examples,)`.
        costs: Those of a false positive and a false negative.

    Raises:
        UsageError: A class has no example.
    """
    labels = np.asarray(labels)
    if len(np.unique(labels)) < 2:
        raise UsageError("--error-costs needs validation images of both classes")
    margins = np.asarray(logits, np.float64) @ [-1, 1]
    values = np.unique(margins)
    middles = (values[:-1] + values[1:]) / 2
    optimum = math.log(costs[0] / costs[1])
    candidates = np.r_[min(values[0], optimum) - 1, middles, max(values[-1], optimum) + 1, optimum]
    losses = [mean_cost(margins - shift, labels, costs) for shift in candidates]
    best = candidates[np.isclose(losses, min(losses), rtol=1e-12, atol=0)]
    return float(best[np.argmin(np.abs(best - optimum))])


def mean_cost(margins, labels, costs) -> float:
    """Returns the mean cost per example of predicting the second class for positive margins."""
    predicted = np.asarray(margins) > 0
    labels = np.asarray(labels).astype(bool)
    wrong = costs[0] * (predicted & ~labels) + costs[1] * (~predicted & labels)
    return float(wrong.mean())
