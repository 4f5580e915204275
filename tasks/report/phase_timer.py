"""Where the time of a run goes, over all processes that had a part in it."""

from __future__ import annotations

import time

PREPARATION = "preparation"  # data, model and compilation, before a stage of the plan
FEATURES = "features"  # of frozen layers, computed once
TRAINING = "training"
VALIDATION = "validation"
CHECKPOINTS = "checkpoints"
EVALUATION = "evaluation"  # of the finished model on the test split, and its saving


class PhaseTimer:
    """Adds what passed since the last look to a part of the run.

    The sum is what a user waited, but for what a process that was killed did after its last
    checkpoint.

    Args:
        state: the `resume.RunState`, whose `times` it keeps.
        since: when the run was asked for, by `time.perf_counter`.
    """

    def __init__(self, state, since=None):
        self.state, self.since = state, time.perf_counter() if since is None else since
        if not state.times and state.weights:  # of a version that did not keep them
            state.times = {TRAINING: sum(row["seconds"] for row in state.history) + state.seconds}

    def lap(self, part):
        """Counts the time since the last lap as that of a part."""
        now = time.perf_counter()
        self._add(part, now - self.since)
        self.since = now

    def move(self, seconds, part, other):
        """Counts some seconds of a part as those of another."""
        if seconds:
            self._add(part, -seconds)
            self._add(other, seconds)

    def _add(self, part, seconds):
        self.state.times[part] = max(0.0, self.state.times.get(part, 0.0) + seconds)
