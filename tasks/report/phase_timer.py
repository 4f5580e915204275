"""The time of each phase of a run, summed over the processes that resumed it."""

from __future__ import annotations

import time

PREPARATION = "preparation"  # data, model and compilation, before a stage of the plan
FEATURES = "features"  # of frozen layers, computed once
TRAINING = "training"
VALIDATION = "validation"
CHECKPOINTS = "checkpoints"
EVALUATION = "evaluation"  # of the finished model on the test split, and its saving


class PhaseTimer:
    """Attributes the time since its last call to a phase of the run.

    The sum of all phases is the time that the user waited, without the work of a killed process
    after its last checkpoint.

    Args:
        state: the `resume.RunState`, whose `times` it updates.
        since: the time at which the run was started, by `time.perf_counter`; now by default.
    """

    def __init__(self, state, since=None):
        self.state, self.since = state, time.perf_counter() if since is None else since
        if not state.times and state.weights:  # written by a version without `times`
            state.times = {TRAINING: sum(row["seconds"] for row in state.history) + state.seconds}

    def lap(self, phase):
        """Adds the time since the last call to a phase."""
        now = time.perf_counter()
        self._add(phase, now - self.since)
        self.since = now

    def move(self, seconds, phase, other):
        """Moves some seconds from a phase to another one."""
        if seconds:
            self._add(phase, -seconds)
            self._add(other, seconds)

    def _add(self, phase, seconds):
        self.state.times[phase] = max(0.0, self.state.times.get(phase, 0.0) + seconds)
