"""Which trials lag behind: the median rule of Google Vizier (Golovin et al., 2017)."""

from __future__ import annotations

import statistics

MIN_COMPLETED_TRIALS = 3  # completed trials that a median is taken of


def should_stop(trial_scores, completed_scores, warm_up):
    """Tells whether a trial lags behind those that are complete, and may as well be stopped.

    It does if its best score so far is below the median of the running averages of the others up
    to the same epoch. Trials that ended before that epoch are not asked.

    Args:
        trial_scores: scores of the trial, one for each of its epochs so far; the larger the better.
        completed_scores: the same of each trial that is complete.
        warm_up: epochs after which a trial is judged first.
    """
    epochs = len(trial_scores)
    averages = [
        sum(scores[:epochs]) / epochs for scores in completed_scores if len(scores) >= epochs
    ]
    if epochs < max(1, warm_up) or len(averages) < MIN_COMPLETED_TRIALS:
        return False
    return max(trial_scores) < statistics.median(averages)
