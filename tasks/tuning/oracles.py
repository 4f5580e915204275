"""Oracles of keras-tuner that can be killed and resumed at any time, and the base of others.

keras-tuner 1.4.8 overwrites its state in place, in one file per trial and one for the rest; loses
the running trials if it is killed between two of these files, and the position of a grid search;
treats a seed of 0 as no seed; ends a search after a few failures; and its Bayesian optimization
may propose the same values again and again. The classes here fix each of these.
"""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path

import keras_tuner

from tasks.tuning import median_stopping, state_files, trials_table
from zoo.errors import UsageError

SCORE = "score"
FINAL_EPOCH = "last"  # metric that marks the last epoch, after which a trial cannot be stopped
RUNNING, IDLE, STOPPED = "RUNNING", "IDLE", "STOPPED"  # statuses of a trial in keras-tuner
COMPLETED, FAILED, INVALID = "COMPLETED", "FAILED", "INVALID"
FINISHED = (COMPLETED, FAILED)
BAYESIAN_REQUIREMENTS = (
    "bayesian needs scikit-learn and SciPy; install them with: pip install 'keras-zoo[tune]'"
)


def objective():
    """Returns the objective of all oracles: the score of a trial, maximized."""
    return keras_tuner.Objective(SCORE, "max")


def oracle_arguments(space, trials, seed):
    """Returns the common keyword arguments of the oracles of keras-tuner."""
    return {
        "objective": objective(),
        "hyperparameters": space.hyperparameters(),
        "allow_new_entries": False,
        "seed": seed + 1,  # keras-tuner treats 0 as no seed
        "max_consecutive_failed_trials": sys.maxsize,
    }


class CheckpointMixin:
    """Saves the state of an oracle atomically in one file, so that a search can be resumed.

    Must precede a `keras_tuner.Oracle` in the bases of a class.

    Attributes:
        path: path of the file; `None` to save nothing.
        warm_up: number of epochs before the median rule can stop a trial; 0 to stop none.
        stopped_early: ids of the trials that the median rule has stopped.
    """

    path = None
    warm_up = 0
    supports_early_stopping = True  # whether its trials can be compared epoch by epoch

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.stopped_early = []
        self.verbose = 0

    def save_to(self, out):
        """Saves the state in a folder from now on, and restores a state that is there."""
        self.path = Path(out) / trials_table.ORACLE_FILE
        if self.path.exists():
            self.reload()

    def save(self):
        """Writes the state and all trials atomically."""
        if self.path:
            trials = [trial.get_state() for trial in self.trials.values()]
            state_files.write(self.path, {"oracle": self.get_state(), "trials": trials})

    def reload(self):
        """Restores the last state; trials that were interrupted are retried first."""
        found = state_files.read(self.path, oracle=dict, trials=list)
        make = keras_tuner.engine.trial.Trial.from_state
        with state_files.reported_damage(self.path):
            self.trials = {_checked_id(state): make(state) for state in found["trials"]}
            self.set_state(found["oracle"])
        self.ongoing_trials = {}
        unfinished = [name for name, trial in self.trials.items() if trial.status not in FINISHED]
        self._retry_queue = unfinished[::-1]  # retried from the end

    def requeue(self, trial_id):
        """Queues a trial whose worker is lost, for the next worker."""
        owners = [k for k, trial in self.ongoing_trials.items() if trial.trial_id == trial_id]
        for tuner in owners:
            self.ongoing_trials.pop(tuner)
            self.tuner_ids.discard(tuner)
        if owners:
            self._retry_queue.append(trial_id)
            self.save()

    def retries(self):
        """Returns the ids of the trials that are queued for a retry."""
        return [*self._retry_queue]

    def update_trial(self, trial_id, metrics, step=0):
        """Records the score of an epoch; returns the trial, with status STOPPED to stop it."""
        trial = self.trials[trial_id]
        if step not in epoch_scores(trial):
            trial = super().update_trial(trial_id, {SCORE: metrics[SCORE]}, step)
        if (
            self.warm_up
            and self.supports_early_stopping
            and FINAL_EPOCH not in metrics
            and trial_id not in self.stopped_early
        ):
            others = [t for t in self.trials.values() if t.status == COMPLETED]
            others = [
                [*epoch_scores(t).values()] for t in others if t.trial_id not in self.stopped_early
            ]
            if median_stopping.should_stop([*epoch_scores(trial).values()], others, self.warm_up):
                self.stopped_early.append(trial_id)
        trial.status = STOPPED if trial_id in self.stopped_early else RUNNING
        return trial

    def is_done(self):
        """Returns whether no trial is running or queued for a retry."""
        return not self.ongoing_trials and not self._retry_queue

    def get_state(self):
        """Returns the state of the oracle without the trials."""
        return super().get_state() | {"lagging": self.stopped_early}

    def set_state(self, state):
        """Restores the state of the oracle."""
        super().set_state(state)
        self.stopped_early = state["lagging"]

    def _save_trial(self, trial):
        """Does nothing: `save` writes all trials into one file."""


class SearchOracle(CheckpointMixin, keras_tuner.Oracle):
    """Base class of oracles that implement `populate_space` of keras-tuner themselves.

    Args:
        space: a `space.SearchSpace`.
        trials: the maximum number of trials.
        seed: the random seed of the oracle.
        task: the base `tasks.Task` of all trials.
    """

    def __init__(self, space, *, trials, seed, task):
        super().__init__(max_trials=trials, **oracle_arguments(space, trials, seed))
        self.space, self.task = space, task


class Random(CheckpointMixin, keras_tuner.oracles.RandomSearchOracle):
    """Random search."""

    def __init__(self, space, *, trials, seed, task):
        super().__init__(max_trials=trials, **oracle_arguments(space, trials, seed))


class Grid(CheckpointMixin, keras_tuner.oracles.GridSearchOracle):
    """Grid search over all combinations.

    Args:
        space, trials, seed, task: as for `SearchOracle`.
        points: number of values per continuous range, including both ends.
    """

    def __init__(self, space, *, trials, seed, task, points=5):
        super().__init__(
            max_trials=trials, **oracle_arguments(space.discretized(points), trials, seed)
        )

    def populate_space(self, trial_id):
        """Returns the next combination without waiting for running trials."""
        response = super().populate_space(trial_id)
        if response["status"] == RUNNING:
            self._populate_next.append(trial_id)
        return response

    def set_state(self, state):
        """Restores the state; the position in the grid follows from the trials."""
        super().set_state(state)
        self._ordered_ids = type(self._ordered_ids)()
        for name in self.start_order:
            self._ordered_ids.insert(name)
        self._populate_next = self.start_order[-1:]


class Hyperband(CheckpointMixin, keras_tuner.oracles.HyperbandOracle):
    """Hyperband: many trials of few epochs, the best of which continue (Li et al., 2018).

    Args:
        space, trials, seed, task: as for `SearchOracle`; `task.epochs` is the maximum per trial.
        factor: factor by which the epochs grow and the trials shrink from round to round.
        iterations: number of passes through all brackets; 0 until `trials` are used up.
    """

    supports_early_stopping = False  # its rounds stop trials already

    def __init__(self, space, *, trials, seed, task, factor=3, iterations=0):
        if factor < 2 or iterations < 0:
            raise UsageError(
                "the factor of hyperband must be 2 or more, its iterations 0 or more, not "
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
    """Bayesian optimization with a Gaussian process of the scores.

    Args:
        space, trials, seed, task: as for `SearchOracle`.
        first: number of random trials before; 0 for three per range.
        beta: weight of exploration (upper confidence bound).
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
        """Returns the next values; never the same values twice."""
        with warnings.catch_warnings():  # of a fit that does not converge further
            warnings.simplefilter("ignore")
            response = super().populate_space(trial_id)
        if response["status"] == RUNNING and self._duplicate(response["values"]):
            values = self._random_values()
            response = {"status": RUNNING if values else STOPPED, "values": values}
        return response

    def get_state(self):
        """Returns the state of the oracle without the trials."""
        name, numbers, *rest = self._random_state.get_state()
        return super().get_state() | {"chance": [name, numbers.tolist(), *rest]}

    def set_state(self, state):
        """Restores the state of the oracle."""
        super().set_state(state)
        self._random_state.set_state(tuple(state["chance"]))


def epoch_scores(trial):
    """Returns the scores of a trial by epoch, in ascending order of epochs."""
    known = trial.metrics.metrics.get(SCORE)
    return {one.step: one.mean() for one in known.get_history()} if known else {}


def _checked_id(state):
    """Returns the id of a trial; raises `ValueError` if it is no number, as it becomes a path."""
    if not re.fullmatch("[0-9]+", state["trial_id"]):
        raise ValueError(f"{state['trial_id']!r:.60} is not the id of a trial")
    return state["trial_id"]
