"""Narrowing: sample the ranges, keep the best share, shrink the ranges around it, and again."""

from __future__ import annotations

import math

from tasks.tuning import oracles
from tasks.tuning.space import Choices
from zoo.errors import UsageError
from zoo.lazy import np

NUM_ROUNDS = 4  # into which the trials are divided where nobody says how large a round is
MIN_ROUND_SIZE = 4  # trials in a round, likewise
SHRINK_FACTOR = 0.6  # the share of a range that is left of it after a round, or less
MAX_ATTEMPTS = 20  # to find values that were not tried, before there are held to be none


class Narrowing(oracles.SearchOracle):
    """Searches ranges that become smaller from round to round.

    The trials of a round are spread over the ranges as they are then, evenly in each (a Latin
    hypercube), on a log scale where the range has one. After it the best share of all trials so
    far is kept: a range becomes what reaches over the kept values and half the mean distance
    of a round's values beyond, at most `SHRINK` of what it was; choices become those of the kept.
    The search ends when the trials are used up, or when each range is narrower than `width` of
    what it was at first and each choice is made.

    Args:
        space, trials, seed, task: as of other oracles.
        share: of a round's trials: so many of the best are kept, but 2 at least.
        round_size: trials in a round; 0: a quarter of all, but 4 at least.
        width: where to stop, as a share of the range at first, on its scale.
    """

    def __init__(self, space, *, trials, seed, task, share=0.3, round_size=0, width=0.02):
        if not (0 < share < 1 and 0 <= width < 1 and round_size >= 0):
            raise UsageError(
                "narrowing takes a share and a width between 0 and 1 and a round_size of 0 or "
                f"more, not {share}, {width} and {round_size}"
            )
        super().__init__(space, trials=trials, seed=seed, task=task)
        self.share, self.width = share, width
        self.round_size = round_size or max(MIN_ROUND_SIZE, math.ceil(trials / NUM_ROUNDS))
        self.bounds = {name: _full_range(span) for name, span in space.ranges.items()}
        self.rounds = [[]]  # ids of the trials of each

    def populate_space(self, trial_id):
        """Returns the next values of the round, or of a narrower one if the round is over."""
        ended = [i for i in self.rounds[-1] if self.trials[i].status in oracles.FINISHED]
        if len(ended) >= self.round_size:
            self.bounds = self._shrink_bounds()
            self.rounds.append([])
        values = None if self._has_converged() else self._propose_untried()
        if values is None:
            waiting = bool(self.ongoing_trials)  # what goes on may move the range
            return {"status": oracles.IDLE if waiting else oracles.STOPPED, "values": None}
        self.rounds[-1].append(trial_id)
        return {"status": oracles.RUNNING, "values": values}

    def get_state(self):
        """Returns what is kept, besides the trials."""
        own = {"box": self.bounds, "rounds": self.rounds, "round_size": self.round_size}
        return super().get_state() | own

    def set_state(self, state):
        """Takes up what was kept."""
        super().set_state(state)
        self.bounds, self.rounds = state["box"], state["rounds"]
        self.round_size = state["round_size"]

    def _propose_untried(self):
        """Returns the values that are next, or others of the box if those were tried."""
        number = len(self.rounds[-1])
        for attempt in range(MAX_ATTEMPTS):
            first = attempt == 0 and number < self.round_size
            places = (
                self._latin_hypercube(number) if first else self._uniform_sample(number, attempt)
            )
            values = {name: self._value(name, place) for name, place in places.items()}
            if not self._duplicate(values):
                return values
        return None

    def _latin_hypercube(self, number):
        """Returns the places in the box, from 0 to 1, of a trial of a round."""
        rng = np.random.default_rng([self.seed, len(self.rounds)])
        size = self.round_size
        rows = {name: (rng.permutation(size) + rng.random(size)) / size for name in self.bounds}
        return {name: float(row[number]) for name, row in rows.items()}

    def _uniform_sample(self, *place):
        rng = np.random.default_rng([self.seed, len(self.rounds), *place])
        return {name: float(rng.random()) for name in self.bounds}

    def _value(self, name, place):
        span = self.bounds[name]
        if isinstance(self.space.ranges[name], Choices):
            return span[min(len(span) - 1, int(place * len(span)))]
        return self.space.at(name, span[0] + place * (span[1] - span[0]))

    def _shrink_bounds(self):
        """Returns the box around the best trials so far."""
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
        places = [self.space.place(name, value) for value in values]
        margin = (before[1] - before[0]) / self.round_size / 2
        low, high = min(places) - margin, max(places) + margin
        max_width = SHRINK_FACTOR * (before[1] - before[0])
        if high - low > max_width:  # what is best stays, as near to the middle as may be
            low = min(max(low, places[0] - max_width / 2), high - max_width)
            high = low + max_width
        return [max(before[0], low), min(before[1], high)]

    def _has_converged(self):
        """Tells whether there is nothing left to narrow."""
        choices = {k: v for k, v in self.space.ranges.items() if isinstance(v, Choices)}
        return all(
            len(span) == 1 if name in choices else span[1] - span[0] < self.width
            for name, span in self.bounds.items()
        )


def _full_range(span):
    return list(span.values) if isinstance(span, Choices) else [0.0, 1.0]
