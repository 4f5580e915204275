"""Warnings for models that are no better than a prediction that ignores the image."""

from __future__ import annotations

from tasks.report.formatting import format_value


def compare_to_baseline(name, metric, figures, baseline, description):
    """Compares a metric, and the low end of its interval, with a baseline.

    Args:
        name: The key of the metric in `figures`, such as `accuracy`.
        metric: The name of the metric in the warning.
        figures: Metrics by name, with `NAME_low` if there is an interval.
        baseline: The value of the metric for a prediction that ignores the image.
        description: The baseline in words.

    Returns:
        A list of at most one warning.
    """
    if figures[name] <= baseline:
        how = "no better than"
    elif figures.get(f"{name}_low", figures[name]) <= baseline:
        how = "not reliably better than"
    else:
        return []
    return [f"the {metric} of {format_value(name, figures[name])} is {how} {description}"]
