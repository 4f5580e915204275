"""What happens after each epoch: checkpoint, history, TensorBoard, early stopping, a line."""

from __future__ import annotations

import math
import sys
import time

from tasks.engine import clock, distribute, resume
from tasks.report import events
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras, np

tqdm = LazyModule("tqdm")

LOGS = "logs"

watchers = []  # called with the history after each epoch is saved; what one raises ends the run


class Diverged(UsageError):
    """A figure or a weight is not a finite number any more."""


class Recorder:
    """Keeps a run's state on disk in step with its model.

    Args:
        task: the `tasks.Task` being trained.
        course: its `course.Course`.
        out: the run's folder.
        state: its `resume.State`.
        team: the processes that train it, a `crew.Alone`; the chief alone writes files.
        since: when the run was asked for, by `time.perf_counter`; now by default.
    """

    def __init__(self, task, course, out, state, team=distribute.ALONE, since=None):
        self.clock = clock.Clock(state, since)
        self.task, self.course, self.out, self.state, self.team = task, course, out, state, team
        self.lesson = self.bar = self.started = self.saved = None
        self.metrics = {}  # of the part of an epoch that an earlier process did
        self.stopping = False  # set from outside: save as soon as that can be, and stop
        self.events = events.Events(out / LOGS, state.history) if team.chief else None

    def finished(self):
        """Tells whether there is nothing left to train."""
        patient = self.task.patience
        waited = self.state.epoch - self.state.best
        return self.state.epoch >= self.task.epochs or bool(patient and waited >= patient)

    def callback(self):
        """Returns the Keras callback that calls this recorder."""
        return keras.callbacks.LambdaCallback(
            on_epoch_begin=self.begin, on_train_batch_end=self.step, on_epoch_end=self.end
        )

    def take_up(self, lesson, seconds):
        """Turns to a lesson that took some seconds to prepare, perhaps amid an epoch."""
        self.lesson = lesson
        self.state.seconds += seconds
        self.clock.lap(clock.PREPARATION)
        self.clock.move(self.course.featuring, clock.PREPARATION, clock.FEATURES)
        self.course.featuring = 0.0
        if self.state.step >= lesson.stream.steps:  # as earlier versions saved it
            raise UsageError(
                f"{self.state.path} goes on after step {self.state.step} of an epoch that has "
                f"{lesson.stream.steps}; start again with another --out"
            )
        if f"metrics/{len(lesson.learner.metrics_variables)}" in self.metrics:  # a batch makes more
            images, labels = next(iter(lesson.stream.epoch(self.state.epoch, self.state.step)))
            lesson.learner.test_on_batch(images, labels)

    def begin(self, epoch, logs):
        """Starts or takes up the epoch's clock, bar and metrics."""
        self.started = self.saved = time.perf_counter()
        if self.metrics:
            resume.assign(self.lesson.learner.metrics_variables, self.metrics, "metrics")
            self.metrics = {}
        self.start, self.before = self.state.step, self.state.seconds
        self.course.rescale(epoch, self.state.history)
        self.bar = tqdm.tqdm(
            desc=f"epoch {epoch + 1}/{self.task.epochs}",
            total=self.lesson.stream.steps,
            initial=self.start,
            leave=False,
            disable=None,
        )

    def step(self, number, logs):
        """Follows a step, counted from 0, before which some may have passed unseen."""
        # Keras counts the last call of an epoch as whole, though fewer steps may be left for it.
        done = min(self.start + number + 1, self.lesson.stream.steps)
        self.bar.update(done - self.bar.n)
        if done == self.lesson.stream.steps:
            return  # the epoch's end is near, and saves more
        asked = done % self.team.talks == 0  # what clocks and signals say is not the same to all
        stopping = asked and self.team.any(self.stopping)
        if stopping or self._enough(done) or (asked and self.team.any(self._late())):
            self._save_inside(done)
        if stopping:
            raise KeyboardInterrupt

    def end(self, epoch, logs):
        """Validates and records a completed epoch."""
        lesson = self.lesson
        done = lesson.stream.steps - self.start
        rate = done * lesson.stream.size / (time.perf_counter() - self.started)
        self.bar.close()
        self.clock.lap(clock.TRAINING)
        row = {"epoch": epoch + 1, **{key: float(value) for key, value in logs.items()}}
        _check_finite(row, row["epoch"])
        with self.course.alone(lesson):
            self.state.take(self.team.told(lambda: self._judged(row, rate)))
        self.clock.lap(clock.CHECKPOINTS)
        for watch in watchers:
            watch(self.state.history)
        if self.team.any(self.stopping):
            raise KeyboardInterrupt

    def say(self, line):
        """Tells a person how a run goes, once for all processes."""
        if self.team.chief:
            say(line)

    def _judged(self, row, rate):
        """Validates an epoch whose row of the history begins so; returns the state after it."""
        lesson = self.lesson
        with self.course.averaged(row["epoch"] - 1):
            figures = self.task.validate(lesson.model, lesson.data, self.events, row["epoch"])
        self.clock.lap(clock.VALIDATION)
        row |= {f"val_{key}": value for key, value in figures.items()}
        weights = {f"the largest weight of {v.path}": _largest(v) for v in self.course.changing}
        _check_finite({**row, **weights}, row["epoch"])
        seconds = self._seconds()
        row |= {"learning_rate": self._rate(), "seconds": seconds, "images_per_second": rate}
        self._keep(row)
        self.events.scalars(row)
        say(_line(row, self.task))
        return self.state.facts()

    def _enough(self, done):
        """Tells whether so many steps were done that a checkpoint is due."""
        steps = self.task.checkpoint_steps
        return bool(steps) and done - self.state.step >= steps

    def _late(self):
        """Tells whether so much time has passed that a checkpoint is due."""
        if self.task.checkpoint_steps or not self.task.checkpoint_minutes:
            return False
        return time.perf_counter() - self.saved >= 60 * self.task.checkpoint_minutes

    def _save_inside(self, done):
        """Writes a checkpoint after some steps of an epoch."""
        self.clock.lap(clock.TRAINING)
        learner = self.lesson.learner
        if keras.backend.backend() == "jax":
            learner.jax_state_sync()
        self.state.step, self.state.seconds = done, self._seconds()

        def save():
            metrics = resume.values(learner.metrics_variables, "metrics")
            with self.team.busy():
                self.state.save({**self.course.arrays(), **metrics}, keep=self.task.keep)
            return self.state.facts()

        with self.course.alone(self.lesson):
            self.state.take(self.team.told(save))
        self.saved = time.perf_counter()
        self.clock.lap(clock.CHECKPOINTS)

    def _keep(self, row):
        state = self.state
        best = state.history[state.best - 1] if state.best else None
        better = best is None or self.task.better(row, best)
        state.history.append(row)
        state.epoch, state.step, state.seconds = row["epoch"], 0, 0.0
        with self.team.busy():
            state.save(self.course.arrays(), better=better, keep=self.task.keep)
            resume.write_history(self.out, state.history)

    def _seconds(self):
        return self.before + time.perf_counter() - self.started

    def _rate(self):
        return float(keras.ops.convert_to_numpy(self.lesson.learner.optimizer.learning_rate))


def _check_finite(values, epoch):
    """Raises `Diverged` if one of the values by name, after an epoch, is not a finite number."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise Diverged(
                f"{'the loss' if name == 'loss' else name} is {value} in epoch {epoch}: nothing "
                "was saved of it; start again with a lower --learning-rate and another --out"
            )


def _largest(variable):
    """Returns the largest absolute value of a variable, NaN if one of its values is."""
    if not keras.backend.is_float_dtype(variable.dtype):
        return 0.0
    values = keras.ops.convert_to_numpy(variable)
    with np.errstate(invalid="ignore"):
        return float(max(values.max(initial=0), -values.min(initial=0)))


def say(line):
    """Tells a person how a run goes; results go to standard output, this does not."""
    print(line, file=sys.stderr, flush=True)


def _line(row, task):
    """Writes one epoch as a line: `epoch 2/8  loss 0.41  accuracy 0.87 ...  12 s`.

    It tells losses, accuracies, and what else the task draws.
    """
    shown = [
        key
        for key in row
        if key.endswith(("loss", "accuracy")) or key.removeprefix("val_") in task.curves
    ]
    figures = "  ".join(f"{key} {row[key]:.4f}" for key in shown)
    return f"epoch {row['epoch']}/{task.epochs}  {figures}  {row['seconds']:.1f} s"
