"""Warnings where a model is no better than a prediction that ignores the image."""

from __future__ import annotations

from tasks.report.formatting import format_value


def compare_to_baseline(name, words, figures, baseline, answer):
    """Compares a metric, and the low end of its interval, with a baseline.

    Args:
        name: key of the metric in `figures`, such as `accuracy`.
        words: what the metric is called in the warning.
        figures: metrics by name, with `NAME_low` where there is an interval.
        baseline: value of the same metric for a prediction that ignores the image.
        answer: that prediction, in words.

    Returns:
        At most one warning, in a list.
    """
    if figures[name] <= baseline:
        how = "no better than"
    elif figures.get(f"{name}_low", figures[name]) <= baseline:
        how = "not reliably better than"
    else:
        return []
    return [f"the {words} of {format_value(name, figures[name])} is {how} {answer}"]
