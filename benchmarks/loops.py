"""Shared by the benchmarks of training loops: timed epochs of `fit` and of the zoo."""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras

from tasks.engine import recipes, resume


def compare(task, plain, rounds):
    """Returns the images per second of a plain fit, of one without XLA, and of the zoo.

    Each is the best epoch of some rounds, in which they take turns.

    Args:
        task: what the zoo trains.
        plain: trains as a Keras user does, with `jit_compile` as it is given; returns what `fit`
            does.
        rounds: how many.
    """
    rates = [[], [], []]
    for _ in range(rounds):
        rates[0] += plain("auto")
        rates[1] += plain(False)
        rates[2] += zoo(task)
    return [max(found) for found in rates]


def show(name, rates, digits=0):
    """Prints a row of the table whose head is `HEAD`."""
    plain, without, ours = rates
    print(
        f"{name:<10} {plain:>10,.{digits}f} {without:>12,.{digits}f} {ours:>10,.{digits}f}   "
        f"{ours / max(plain, without):.2f}",
        flush=True,
    )


HEAD = f"{'images/s':<10} {'fit':>10} {'fit, no XLA':>12} {'zoo':>10}   zoo / better fit"


def fit(model, inputs, targets, task):
    """Fits a compiled model; returns images per second of all epochs except the first."""
    clock = Clock()
    model.fit(
        inputs,
        targets,
        batch_size=task.batch_size,
        epochs=task.epochs,
        callbacks=[
            keras.callbacks.LambdaCallback(on_epoch_begin=clock.start, on_epoch_end=clock.stop)
        ],
        verbose=0,
    )
    return [len(targets) / seconds for seconds in clock.seconds[1:]]


def zoo(task):
    """Trains with the zoo; returns images per second of all epochs except the first."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        resume.claim_folder(out, task)
        words = ["scripts", "train", "--recipe", str(out / recipes.RECIPE), "--out", str(out)]
        subprocess.run([sys.executable, "-m", *words], check=True, stdout=subprocess.DEVNULL)
        with open(out / "history.csv") as file:
            return [float(row["images_per_second"]) for row in csv.DictReader(file)][1:]


class Clock:
    """Measures epochs."""

    def __init__(self):
        self.seconds = []

    def start(self, epoch, logs):
        """Starts the clock."""
        self.started = time.perf_counter()

    def stop(self, epoch, logs):
        """Records the elapsed time."""
        self.seconds.append(time.perf_counter() - self.started)
