"""Warnings for models that are no better than a baseline that needs no training."""

from __future__ import annotations

from tasks.report.formatting import format_value


def compare_to_baseline(name, metric, figures, baseline, description, *, lower_is_better=False):
    """Compares a metric, and the worse end of its interval, with a baseline.

    Args:
        name: The key of the metric in `figures`, such as `accuracy`.
        metric: The name of the metric in the warning.
        figures: Metrics by name, with `NAME_low` and `NAME_high` if there is an interval.
        baseline: The value of the metric without training, such as that of a prediction that
            ignores the image.
        description: The baseline in words.
        lower_is_better: Whether lower values of the metric are better.

    Returns:
        A list of at most one warning.
    """
    sign = -1 if lower_is_better else 1
    worse_end = figures.get(f"{name}_{'high' if lower_is_better else 'low'}", figures[name])
    if sign * figures[name] <= sign * baseline:
        how = "no better than"
    elif sign * worse_end <= sign * baseline:
        how = "not reliably better than"
    else:
        return []
    return [f"the {metric} of {format_value(name, figures[name])} is {how} {description}"]
