"""Search that samples the ranges, then shrinks them around the best trials, round by round."""

from __future__ import annotations

import math

from tasks.tuning import oracles
from tasks.tuning.space import Choices
from zoo.errors import UsageError
from zoo.lazy import np

NUM_ROUNDS = 4  # by default, which determines the number of trials per round
MIN_ROUND_SIZE = 4  # trials per round, by default
SHRINK_FACTOR = 0.6  # maximum width of a range after a round, relative to before
MAX_ATTEMPTS = 20  # to sample values that were not tried, before the search ends


class Shrinking(oracles.SearchOracle):
    """Searches ranges that shrink from round to round.

    Each round samples the current ranges with a Latin hypercube, on a log scale where the range
    has one. After the round, each range shrinks to the interval that the best trials so far
    cover, plus a margin of half the mean distance between the samples of a round on each side, and
    to at most `SHRINK_FACTOR` of its width; choices shrink to those of the best trials. The search
    ends after the maximum number of trials, or when each range is narrower than `width` times its
    initial width and each choice is made.

    Args:
        space, trials, seed, task: as for `oracles.SearchOracle`.
        share: number of best trials to keep, as a fraction of the trials of a round; at least 2
            are kept.
        round_size: number of trials per round; 0 for a quarter of all trials, and at least 4.
        width: width of a range, relative to its initial width and on its scale, below which it is
            not searched further.
    """

    def __init__(self, space, *, trials, seed, task, share=0.3, round_size=0, width=0.02):
        if not (0 < share < 1 and 0 <= width < 1 and round_size >= 0):
            raise UsageError(
                "the share and width of shrinking must be between 0 and 1, its round_size 0 or "
                f"more, not {share}, {width} and {round_size}"
            )
        super().__init__(space, trials=trials, seed=seed, task=task)
        self.share, self.width = share, width
        self.round_size = round_size or max(MIN_ROUND_SIZE, math.ceil(trials / NUM_ROUNDS))
        self.bounds = {name: _full_range(span) for name, span in space.ranges.items()}
        self.rounds = [[]]  # the trial ids of each round

    def populate_space(self, trial_id):
        """Returns the next values of the round, or of the next round if this one is complete."""
        ended = [i for i in self.rounds[-1] if self.trials[i].status in oracles.FINISHED]
        if len(ended) >= self.round_size:
            self.bounds = self._shrink_bounds()
            self.rounds.append([])
        values = None if self._has_converged() else self._propose_untried()
        if values is None:
            waiting = bool(self.ongoing_trials)  # running trials may shrink the ranges
            return {"status": oracles.IDLE if waiting else oracles.STOPPED, "values": None}
        self.rounds[-1].append(trial_id)
        return {"status": oracles.RUNNING, "values": values}

    def get_state(self):
        """Returns the state of the oracle without the trials."""
        own = {"box": self.bounds, "rounds": self.rounds, "round_size": self.round_size}
        return super().get_state() | own

    def set_state(self, state):
        """Restores the state of the oracle."""
        super().set_state(state)
        self.bounds, self.rounds = state["box"], state["rounds"]
        self.round_size = state["round_size"]

    def _propose_untried(self):
        """Returns the next values that were not tried yet, or `None` if none is found."""
        number = len(self.rounds[-1])
        for attempt in range(MAX_ATTEMPTS):
            first = attempt == 0 and number < self.round_size
            positions = (
                self._latin_hypercube(number) if first else self._uniform_sample(number, attempt)
            )
            values = {name: self._value(name, position) for name, position in positions.items()}
            if not self._duplicate(values):
                return values
        return None

    def _latin_hypercube(self, number):
        """Returns the positions within the ranges, in [0, 1], of a trial of the round."""
        rng = np.random.default_rng([self.seed, len(self.rounds)])
        size = self.round_size
        rows = {name: (rng.permutation(size) + rng.random(size)) / size for name in self.bounds}
        return {name: float(row[number]) for name, row in rows.items()}

    def _uniform_sample(self, *position):
        rng = np.random.default_rng([self.seed, len(self.rounds), *position])
        return {name: float(rng.random()) for name in self.bounds}

    def _value(self, name, position):
        span = self.bounds[name]
        if isinstance(self.space.ranges[name], Choices):
            return span[min(len(span) - 1, int(position * len(span)))]
        return self.space.value_at(name, span[0] + position * (span[1] - span[0]))

    def _shrink_bounds(self):
        """Returns the bounds around the best trials so far."""
        done = [t for t in self.trials.values() if t.status == oracles.COMPLETED]
        best = sorted(done, key=lambda trial: trial.score, reverse=True)
        elite = best[: max(2, round(self.share * self.round_size))]
        if not elite:
            return self.bounds
        return {name: self._shrink_range(name, elite) for name in self.bounds}

    def _shrink_range(self, name, elite):
        values = [trial.hyperparameters.values[name] for trial in elite]
        before = self.bounds[name]
        if isinstance(self.space.ranges[name], Choices):
            return [choice for choice in before if choice in values] or before
        positions = [self.space.position_of(name, value) for value in values]
        margin = (before[1] - before[0]) / self.round_size / 2
        low, high = min(positions) - margin, max(positions) + margin
        max_width = SHRINK_FACTOR * (before[1] - before[0])
        if high - low > max_width:  # keep the best value, as close to the middle as possible
            low = min(max(low, positions[0] - max_width / 2), high - max_width)
            high = low + max_width
        return [max(before[0], low), min(before[1], high)]

    def _has_converged(self):
        """Returns whether every range and choice has shrunk to its minimum."""
        choices = {k: v for k, v in self.space.ranges.items() if isinstance(v, Choices)}
        return all(
            len(span) == 1 if name in choices else span[1] - span[0] < self.width
            for name, span in self.bounds.items()
        )


def _full_range(span):
    return list(span.values) if isinstance(span, Choices) else [0.0, 1.0]
