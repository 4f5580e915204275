"""Oracles of keras-tuner that can be killed at any moment, and what ours have in common.

keras-tuner 1.4.8 writes its state over the old one, in one file for each trial and one for the
rest; forgets the trials that were under way when it was killed between two of them, and where a
grid search was; takes a seed of 0 for none; ends a search after some failures; and Bayesian
optimisation may propose the same values again and again. Here each of these is mended.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import keras_tuner

from tasks.tuning import median_stopping
from zoo.atomic_files import atomic_write
from zoo.errors import UsageError

SCORE = "score"
FINAL_EPOCH = (
    "last"  # what comes with the score of the last epoch, after which there is nothing to stop
)
RUNNING, IDLE, STOPPED = "RUNNING", "IDLE", "STOPPED"  # keras-tuner's words for a trial
COMPLETED, FAILED, INVALID = "COMPLETED", "FAILED", "INVALID"
FINISHED = (COMPLETED, FAILED)
BAYESIAN_REQUIREMENTS = "bayesian needs scikit-learn and SciPy, by: pip install 'keras-zoo[tune]'"


def objective():
    """Returns what all oracles maximise: the score of a trial."""
    return keras_tuner.Objective(SCORE, "max")


def oracle_arguments(space, trials, seed):
    """Returns the arguments that every oracle of keras-tuner has, by name."""
    return {
        "objective": objective(),
        "hyperparameters": space.hyperparameters(),
        "allow_new_entries": False,
        "seed": seed + 1,  # which 0 would leave to chance
        "max_consecutive_failed_trials": sys.maxsize,
    }


class CheckpointMixin:
    """Keeps an oracle's state in one file, so that a search can be killed at any moment.

    It goes before a `keras_tuner.Oracle` among the bases of a class.

    Attributes:
        path: of the file; nothing is kept where it is `None`.
        warm_up: epochs after which trials that lag are stopped, or 0 for never.
        lagging: the trials that were told to stop, by id.
    """

    path = None
    warm_up = 0
    supports_early_stopping = True  # whether trials of this oracle may be compared epoch by epoch

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.lagging = []
        self.verbose = 0

    def keep(self, out):
        """Keeps the state in a folder, and takes up what is there."""
        self.path = Path(out) / "oracle.json"
        if self.path.exists():
            self.reload()

    def save(self):
        """Writes the state and all trials, in one step."""
        if self.path:
            trials = [trial.get_state() for trial in self.trials.values()]
            with atomic_write(self.path) as partial:
                partial.write_text(json.dumps({"oracle": self.get_state(), "trials": trials}))

    def reload(self):
        """Takes up the state that was written last; trials that were cut short come first."""
        found = json.loads(self.path.read_text())
        make = keras_tuner.engine.trial.Trial.from_state
        self.trials = {state["trial_id"]: make(state) for state in found["trials"]}
        self.set_state(found["oracle"])
        self.ongoing_trials = {}
        unfinished = [name for name, trial in self.trials.items() if trial.status not in FINISHED]
        self._retry_queue = unfinished[::-1]  # of which the last one is taken first

    def requeue(self, trial_id):
        """Gives a trial, of which nobody hears any more, to the next one who asks."""
        tuner_ids_of_trial = [
            k for k, trial in self.ongoing_trials.items() if trial.trial_id == trial_id
        ]
        for tuner in tuner_ids_of_trial:
            self.ongoing_trials.pop(tuner)
            self.tuner_ids.discard(tuner)
        if tuner_ids_of_trial:
            self._retry_queue.append(trial_id)
            self.save()

    def retries(self):
        """Returns the ids of the trials that wait for somebody to try them again."""
        return [*self._retry_queue]

    def update_trial(self, trial_id, metrics, step=0):
        """Takes the score of an epoch; returns the trial, with status STOPPED if it lags."""
        trial = self.trials[trial_id]
        if step not in epoch_scores(trial):
            trial = super().update_trial(trial_id, {SCORE: metrics[SCORE]}, step)
        if (
            self.warm_up
            and self.supports_early_stopping
            and FINAL_EPOCH not in metrics
            and trial_id not in self.lagging
        ):
            others = [t for t in self.trials.values() if t.status == COMPLETED]
            others = [[*epoch_scores(t).values()] for t in others if t.trial_id not in self.lagging]
            if median_stopping.should_stop([*epoch_scores(trial).values()], others, self.warm_up):
                self.lagging.append(trial_id)
        trial.status = STOPPED if trial_id in self.lagging else RUNNING
        return trial

    def is_done(self):
        """Tells whether nobody tries anything and nothing waits to be tried again."""
        return not self.ongoing_trials and not self._retry_queue

    def get_state(self):
        """Returns what is kept, besides the trials."""
        return super().get_state() | {"lagging": self.lagging}

    def set_state(self, state):
        """Takes up what was kept."""
        super().set_state(state)
        self.lagging = state["lagging"]

    def _save_trial(self, trial):
        """Writes no file for each trial: `save` has them all."""


class SearchOracle(CheckpointMixin, keras_tuner.Oracle):
    """What oracles of ours derive from: they say what to try, in keras-tuner's `populate_space`.

    Args:
        space: a `space.SearchSpace`.
        trials: how many there may be.
        seed: of the choices that the oracle makes.
        task: the `tasks.Task` that every trial starts from.
    """

    def __init__(self, space, *, trials, seed, task):
        super().__init__(max_trials=trials, **oracle_arguments(space, trials, seed))
        self.space, self.task = space, task


class Random(CheckpointMixin, keras_tuner.oracles.RandomSearchOracle):
    """Tries values at random."""

    def __init__(self, space, *, trials, seed, task):
        super().__init__(max_trials=trials, **oracle_arguments(space, trials, seed))


class Grid(CheckpointMixin, keras_tuner.oracles.GridSearchOracle):
    """Tries all combinations.

    Args:
        space, trials, seed, task: as of the others.
        points: values of a range that is no list, its ends among them.
    """

    def __init__(self, space, *, trials, seed, task, points=5):
        super().__init__(
            max_trials=trials, **oracle_arguments(space.discretized(points), trials, seed)
        )

    def populate_space(self, trial_id):
        """Returns the next combination, for which nobody need wait: the space does not grow."""
        answer = super().populate_space(trial_id)
        if answer["status"] == RUNNING:
            self._populate_next.append(trial_id)
        return answer

    def set_state(self, state):
        """Takes up what was kept, and finds its place in the grid by what has been tried."""
        super().set_state(state)
        self._ordered_ids = type(self._ordered_ids)()
        for name in self.start_order:
            self._ordered_ids.insert(name)
        self._populate_next = self.start_order[-1:]


class Hyperband(CheckpointMixin, keras_tuner.oracles.HyperbandOracle):
    """Tries many for a few epochs, and the best of them for more (Li et al., 2018).

    Args:
        space, trials, seed, task: as of the others; the task's epochs are the most that one has.
        factor: by which epochs grow and trials shrink from round to round.
        iterations: how often to go through all brackets; 0: until the trials are used up.
    """

    supports_early_stopping = False  # its rounds do that

    def __init__(self, space, *, trials, seed, task, factor=3, iterations=0):
        if factor < 2 or iterations < 0:
            raise UsageError(
                "hyperband takes a factor of 2 or more and iterations of 0 or more, not "
                f"{factor} and {iterations}"
            )
        super().__init__(
            max_epochs=task.epochs,
            factor=factor,
            hyperband_iterations=iterations or sys.maxsize,
            **oracle_arguments(space, trials, seed),
        )
        self.max_trials = trials


class Bayesian(CheckpointMixin, keras_tuner.oracles.BayesianOptimizationOracle):
    """Tries what a Gaussian process of the scores so far holds for promising.

    Args:
        space, trials, seed, task: as of the others.
        first: trials at random before; 0 for three for each range.
        beta: how much what is unknown counts beside what is good.
    """

    def __init__(self, space, *, trials, seed, task, first=0, beta=2.6):
        try:
            super().__init__(
                max_trials=trials,
                num_initial_points=first or None,
                beta=beta,
                **oracle_arguments(space, trials, seed),
            )
        except ImportError as error:
            raise UsageError(BAYESIAN_REQUIREMENTS) from error

    def populate_space(self, trial_id):
        """Returns what to try next, never the same twice."""
        with warnings.catch_warnings():  # of a fit that is as good as it gets
            warnings.simplefilter("ignore")
            answer = super().populate_space(trial_id)
        if answer["status"] == RUNNING and self._duplicate(answer["values"]):
            values = self._random_values()
            answer = {"status": RUNNING if values else STOPPED, "values": values}
        return answer

    def get_state(self):
        """Returns what is kept, besides the trials."""
        name, numbers, *rest = self._random_state.get_state()
        return super().get_state() | {"chance": [name, numbers.tolist(), *rest]}

    def set_state(self, state):
        """Takes up what was kept."""
        super().set_state(state)
        self._random_state.set_state(tuple(state["chance"]))


def epoch_scores(trial):
    """Returns the scores of a trial by epoch, in order."""
    known = trial.metrics.metrics.get(SCORE)
    return {one.step: one.mean() for one in known.get_history()} if known else {}
