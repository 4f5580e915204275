"""What happens after each epoch: checkpoint, history, TensorBoard, early stopping, a line."""

from __future__ import annotations

import math
import sys
import time

from tasks.engine import optimize, resume
from tasks.report import events
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras

tqdm = LazyModule("tqdm")

LOGS = "logs"


class Recorder:
    """Keeps a run's state on disk in step with its model.

    Args:
        task: the `tasks.Task` being trained.
        model: the compiled `keras.Model` that `fit` is called on.
        data: what the task loaded.
        out: the run's folder.
        state: its `resume.State`.
        stream: what `task.training` returned.
    """

    def __init__(self, task, model, data, out, state, stream):
        self.task, self.model, self.data, self.out, self.state = task, model, data, out, state
        self.stream = stream
        self.bar = self.started = None
        self.events = events.Events(out / LOGS, state.history)

    def finished(self):
        """Tells whether there is nothing left to train."""
        patient = self.task.patience
        waited = self.state.epoch - self.state.best
        return self.state.epoch >= self.task.epochs or bool(patient and waited >= patient)

    def callback(self):
        """Returns the Keras callback that calls this recorder."""
        hooks = {"on_epoch_begin": self.begin, "on_epoch_end": self.end}
        if sys.stderr.isatty():  # a bar costs a wait for the device after each step
            hooks["on_train_batch_end"] = self.step
        return keras.callbacks.LambdaCallback(**hooks)

    def begin(self, epoch, logs):
        """Starts the epoch's clock and bar."""
        self.started = time.perf_counter()
        label = f"epoch {epoch + 1}/{self.task.epochs}"
        self.bar = tqdm.tqdm(desc=label, total=self.stream.steps, leave=False, disable=None)

    def step(self, number, logs):
        """Moves the bar to a step, counted from 0, of which some may have passed unseen."""
        self.bar.update(number + 1 - self.bar.n)

    def end(self, epoch, logs):
        """Validates and records a completed epoch."""
        rate = self.stream.steps * self.stream.size / (time.perf_counter() - self.started)
        self.bar.close()
        row = {"epoch": epoch + 1, **{key: float(value) for key, value in logs.items()}}
        if not math.isfinite(row["loss"]):
            raise UsageError(
                f"the loss is {row['loss']} in epoch {epoch + 1}: nothing was saved of it; start "
                "again with a lower --learning-rate and another --out"
            )
        with optimize.averaged(self.model):
            figures = self.task.validate(self.model, self.data, self.events, epoch + 1)
        row |= {f"val_{key}": value for key, value in figures.items()}
        seconds = time.perf_counter() - self.started
        row |= {"learning_rate": self._rate(), "seconds": seconds, "images_per_second": rate}
        self._keep(row)
        self.events.scalars(row)
        say(_line(row, self.task.epochs))

    def _keep(self, row):
        state = self.state
        best = state.history[state.best - 1] if state.best else None
        better = best is None or self.task.better(row, best)
        state.history.append(row)
        state.epoch = row["epoch"]
        state.save(self.model, better=better)
        resume.write_history(self.out, state.history)

    def _rate(self):
        return float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))


def say(line):
    """Tells a person how a run goes; results go to standard output, this does not."""
    print(line, file=sys.stderr, flush=True)


def _line(row, epochs):
    """Writes one epoch as a line: `epoch 2/8  loss 0.41  accuracy 0.87 ...  12 s`."""
    shown = [key for key in row if key.endswith(("loss", "accuracy"))]
    figures = "  ".join(f"{key} {row[key]:.4f}" for key in shown)
    return f"epoch {row['epoch']}/{epochs}  {figures}  {row['seconds']:.1f} s"
