"""The training callback: checkpoints, history, TensorBoard, early stopping, progress."""

from __future__ import annotations

import math
import sys
import time

from tasks.distributed import strategies
from tasks.engine import resume
from tasks.report import formatting, phase_timer, tensorboard
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras, np

tqdm = LazyModule("tqdm")

LOG_DIR = "logs"

# Called with the history after each epoch is saved; an exception ends the run.
epoch_listeners = []
# `keras.callbacks.Callback` objects that `fit` calls after the one of this module.
keras_callbacks = []


class DivergenceError(UsageError):
    """A metric or a weight is no longer finite."""


class TrainingCallback:
    """Saves checkpoints and history during training, and validates after each epoch.

    Args:
        task: The `tasks.Task` being trained.
        run: Its `training_run.TrainingRun`.
        out: The run folder.
        state: Its `resume.RunState`.
        process_group: The processes that train together, a `process_group.SingleProcess` for
            one; only the chief writes files.
        since: The time at which the run was started, by `time.perf_counter`; now by default.
    """

    def __init__(self, task, run, out, state, process_group=strategies.SINGLE_PROCESS, since=None):
        self.clock = phase_timer.PhaseTimer(state, since)
        self.task, self.run, self.out, self.state = task, run, out, state
        self.process_group = process_group
        self.prepared_stage = self.bar = self.started = self.saved = None
        self.metrics = {}  # restored, of the part of an epoch that an earlier process trained
        self.stopping = (
            False  # set by a signal handler: save a checkpoint as soon as possible, and stop
        )
        self.events = (
            tensorboard.SummaryWriter(out / LOG_DIR, state.history) if process_group.chief else None
        )

    def finished(self):
        """Returns whether all epochs are trained or early stopping applies."""
        patience = self.task.patience
        waited = self.state.epoch - self.state.best
        stage = self.prepared_stage
        stopped = stage is not None and stage.training_model.stop_training
        return (
            self.state.epoch >= self.task.epochs or stopped or bool(patience and waited >= patience)
        )

    def to_keras(self):
        """Returns a Keras callback that calls this one."""
        return keras.callbacks.LambdaCallback(
            on_epoch_begin=self.begin, on_train_batch_end=self.step, on_epoch_end=self.end
        )

    def start_stage(self, prepared_stage, seconds):
        """Starts a stage that took `seconds` to prepare, possibly in the middle of an epoch."""
        self.prepared_stage = prepared_stage
        self.state.seconds += seconds
        self.clock.lap(phase_timer.PREPARATION)
        self.clock.move(self.run.feature_seconds, phase_timer.PREPARATION, phase_timer.FEATURES)
        self.run.feature_seconds = 0.0
        if self.state.step >= prepared_stage.pipeline.steps:  # saved so by earlier versions
            raise UsageError(
                f"{self.state.path} resumes after step {self.state.step} of an epoch that has "
                f"{prepared_stage.pipeline.steps}; start again with another --out"
            )
        training_model = prepared_stage.training_model
        # Some metrics create their variables at the first batch.
        if f"metrics/{len(training_model.metrics_variables)}" in self.metrics:
            batches = prepared_stage.pipeline.epoch(self.state.epoch, self.state.step)
            images, labels = next(iter(batches))
            training_model.test_on_batch(images, labels)

    def begin(self, epoch, logs):
        """Starts or resumes the clock, the progress bar and the metrics of an epoch."""
        self.started = self.saved = time.perf_counter()
        if self.metrics:
            resume.assign_values(
                self.prepared_stage.training_model.metrics_variables, self.metrics, "metrics"
            )
            self.metrics = {}
        self.start, self.before = self.state.step, self.state.seconds
        self.run.set_rate_factor(epoch, self.state.history)
        self.bar = tqdm.tqdm(
            desc=f"epoch {epoch + 1}/{self.task.epochs}",
            total=self.prepared_stage.pipeline.steps,
            initial=self.start,
            leave=False,
            disable=None,
        )

    def step(self, number, logs):
        """Saves a checkpoint after a step, counted from 0, if one is due.

        With several steps per execution Keras reports only the last of them.
        """
        # Keras counts the last execution of an epoch in full, even if it has fewer steps.
        done = min(self.start + number + 1, self.prepared_stage.pipeline.steps)
        self.bar.update(done - self.bar.n)
        if done == self.prepared_stage.pipeline.steps:
            return  # `end` follows and saves a checkpoint
        # Clocks and signals differ between processes, which therefore agree at common steps.
        sync_step = done % self.process_group.sync_interval == 0
        stopping = sync_step and self.process_group.any(self.stopping)
        due = self._steps_due(done) or (sync_step and self.process_group.any(self._time_due()))
        if stopping or due:
            self._save_step_checkpoint(done)
        if stopping:
            raise KeyboardInterrupt

    def end(self, epoch, logs):
        """Validates and records a completed epoch."""
        prepared_stage = self.prepared_stage
        done = prepared_stage.pipeline.steps - self.start
        rate = done * prepared_stage.pipeline.size / (time.perf_counter() - self.started)
        self.bar.close()
        self.clock.lap(phase_timer.TRAINING)
        row = {"epoch": epoch + 1, **{key: float(value) for key, value in logs.items()}}
        _check_finite(row, row["epoch"])
        with self.run.alone(prepared_stage):
            self.state.take(self.process_group.broadcast(lambda: self._validate(row, rate)))
        self.clock.lap(phase_timer.CHECKPOINTS)
        for watch in epoch_listeners:
            watch(self.state.history)
        if self.process_group.any(self.stopping):
            raise KeyboardInterrupt

    def print_status(self, line):
        """Prints a status line, on the chief only."""
        if self.process_group.chief:
            print_status(line)

    def _validate(self, row, rate):
        """Validates an epoch, given the beginning of its history row; returns the new state."""
        prepared_stage = self.prepared_stage
        with self.run.ema_weights(row["epoch"] - 1):
            figures = self.task.validate(
                prepared_stage.model, prepared_stage.data, self.events, row["epoch"]
            )
        self.clock.lap(phase_timer.VALIDATION)
        row |= {f"val_{key}": value for key, value in figures.items()}
        weights = {
            f"the largest weight of {v.path}": _max_abs(v) for v in self.run.updated_variables
        }
        _check_finite({**row, **weights}, row["epoch"])
        seconds = self._seconds()
        row |= {"learning_rate": self._rate(), "seconds": seconds, "images_per_second": rate}
        self._save_epoch(row)
        self.events.scalars(row)
        print_status(formatting.epoch_line(row, self.task.curves, self.task.epochs))
        return self.state.facts()

    def _steps_due(self, done):
        """Returns whether a checkpoint is due after `done` steps."""
        steps = self.task.checkpoint_steps
        return bool(steps) and done - self.state.step >= steps

    def _time_due(self):
        """Returns whether a checkpoint is due by time."""
        if self.task.checkpoint_steps or not self.task.checkpoint_minutes:
            return False
        return time.perf_counter() - self.saved >= 60 * self.task.checkpoint_minutes

    def _save_step_checkpoint(self, done):
        """Writes a checkpoint after `done` steps of an epoch."""
        self.clock.lap(phase_timer.TRAINING)
        training_model = self.prepared_stage.training_model
        if keras.backend.backend() == "jax":
            training_model.jax_state_sync()
        self.state.step, self.state.seconds = done, self._seconds()

        def save():
            metrics = resume.variable_values(training_model.metrics_variables, "metrics")
            with self.process_group.critical_section():
                self.state.save({**self.run.arrays(), **metrics}, keep=self.task.keep_checkpoints)
            return self.state.facts()

        with self.run.alone(self.prepared_stage):
            self.state.take(self.process_group.broadcast(save))
        self.saved = time.perf_counter()
        self.clock.lap(phase_timer.CHECKPOINTS)

    def _save_epoch(self, row):
        state = self.state
        best = state.history[state.best - 1] if state.best else None
        better = best is None or self.task.better(row, best)
        state.history.append(row)
        state.epoch, state.step, state.seconds = row["epoch"], 0, 0.0
        with self.process_group.critical_section():
            state.save(self.run.arrays(), better=better, keep=self.task.keep_checkpoints)
            resume.write_history(self.out, state.history)

    def _seconds(self):
        return self.before + time.perf_counter() - self.started

    def _rate(self):
        return float(
            keras.ops.convert_to_numpy(self.prepared_stage.training_model.optimizer.learning_rate)
        )


def _check_finite(values, epoch):
    """Raises `DivergenceError` if a value, by name, is not finite after an epoch."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise DivergenceError(
                f"{'the loss' if name == 'loss' else name} is {value} in epoch {epoch}: it was "
                "not saved; start again with a lower --learning-rate and another --out"
            )


def _max_abs(variable):
    """Returns the largest absolute value of a variable, or NaN if it contains NaN."""
    if not keras.backend.is_float_dtype(variable.dtype):
        return 0.0
    values = keras.ops.convert_to_numpy(variable)
    with np.errstate(invalid="ignore"):
        return float(max(values.max(initial=0), -values.min(initial=0)))


def print_status(line):
    """Prints a status line to standard error; standard output is for results."""
    print(line, file=sys.stderr, flush=True)
