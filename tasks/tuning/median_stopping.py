"""Early stopping of trials by the median rule of Google Vizier (Golovin et al., 2017)."""

from __future__ import annotations

import statistics

MIN_COMPLETED_TRIALS = 3  # completed trials that the median needs


def should_stop(trial_scores, completed_scores, warm_up):
    """Returns whether to stop a trial because its scores are below the median.

    True if its best score so far is below the median of the running averages of the completed
    trials up to the same epoch. Trials that ended before that epoch do not count.

    Args:
        trial_scores: scores of the trial, one per epoch so far; higher is better.
        completed_scores: the scores of each completed trial.
        warm_up: number of epochs before a trial can be stopped.
    """
    epochs = len(trial_scores)
    averages = [
        sum(scores[:epochs]) / epochs for scores in completed_scores if len(scores) >= epochs
    ]
    if epochs < max(1, warm_up) or len(averages) < MIN_COMPLETED_TRIALS:
        return False
    return max(trial_scores) < statistics.median(averages)
