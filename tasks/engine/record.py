"""What happens after each epoch: checkpoint, history, TensorBoard, early stopping, a line."""

from __future__ import annotations

import math
import shutil
import sys
import time

from tasks.engine import resume
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras, tf

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
        steps: optimiser steps in an epoch.
        size: examples in a step.
    """

    def __init__(self, task, model, data, out, state, steps, size):
        self.task, self.model, self.data, self.out, self.state = task, model, data, out, state
        self.steps, self.size = steps, size
        self.bar = self.started = None
        self.events = _events(out / LOGS, state.history)

    def finished(self):
        """Tells whether there is nothing left to train."""
        patient = self.task.patience
        waited = self.state.epoch - self.state.best
        return self.state.epoch >= self.task.epochs or bool(patient and waited >= patient)

    def callback(self):
        """Returns the Keras callback that calls this recorder."""
        hooks = {"on_epoch_begin": self.begin, "on_epoch_end": self.end}
        if sys.stderr.isatty():  # a bar costs a wait for the device after each step
            hooks["on_train_batch_end"] = lambda batch, logs: self.bar.update()
        return keras.callbacks.LambdaCallback(**hooks)

    def begin(self, epoch, logs):
        """Starts the epoch's clock and bar."""
        self.started = time.perf_counter()
        label = f"epoch {epoch + 1}/{self.task.epochs}"
        self.bar = tqdm.tqdm(desc=label, total=self.steps, leave=False, disable=None)

    def end(self, epoch, logs):
        """Validates and records a completed epoch."""
        rate = self.steps * self.size / (time.perf_counter() - self.started)
        self.bar.close()
        row = {"epoch": epoch + 1, **{key: float(value) for key, value in logs.items()}}
        if not math.isfinite(row["loss"]):
            raise UsageError(
                f"the loss is {row['loss']} in epoch {epoch + 1}: nothing was saved of it; start "
                "again with a lower --learning-rate and another --out"
            )
        figures = self.task.validate(self.model, self.data)
        row |= {f"val_{key}": value for key, value in figures.items()}
        seconds = time.perf_counter() - self.started
        row |= {"learning_rate": self._rate(), "seconds": seconds, "images_per_second": rate}
        self._keep(row)
        _write(self.events, row)
        say(_line(row, self.task.epochs))
        if self.finished():
            self.model.stop_training = True

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


def _events(folder, history):
    """Starts TensorBoard's files anew from the history, so that no epoch is missing or double."""
    shutil.rmtree(folder, ignore_errors=True)
    writer = tf.summary.create_file_writer(str(folder))
    for row in history:
        _write(writer, row)
    return writer


def _write(writer, row):
    """Writes an epoch's scalars; `tf.summary.scalar` would need the `tensorboard` package."""
    metadata = tf.compat.v1.SummaryMetadata(
        plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
    )
    with writer.as_default():
        for key, value in row.items():
            if key != "epoch":
                value = tf.constant(value, tf.float32)
                tf.summary.write(key, value, step=row["epoch"], metadata=metadata)
    writer.flush()
