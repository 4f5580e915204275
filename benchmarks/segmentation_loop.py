"""Our trainer on masks against a plain `model.fit`: python benchmarks/segmentation_loop.py

The same network, optimiser, schedule, batch size, precision (float32), images and masks in memory,
each loop in turn, in one process: a plain `compile` and `fit(images, masks)` as Keras does them by
default (which is with XLA, also on a CPU), the same with `jit_compile=False`, and the zoo's
trainer, whose cross-entropy leaves out what is labelled 255. A figure is images per second
of the best epoch but the first, which compiles; the last column is ours over the better of the
two others. Validation is no part of it.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

import tasks
import zoo
from tasks.engine import trainer

CASES = {  # model: images in an epoch, epochs in a round, rounds
    "unet": (256, 4, 2),
    "segnet": (256, 4, 2),
    "fcn8s": (64, 4, 1),
}


def main():
    """Prints a row for each model."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="*", choices=list(CASES), default=["unet", "segnet"])
    args = parser.parse_args()
    print(f"{'images/s':<10} {'fit':>10} {'fit, no XLA':>12} {'zoo':>10}   zoo / better fit")
    for name in args.models:
        plain, without, ours = measure(name)
        ratio = ours / max(plain, without)
        print(
            f"{name:<10} {plain:>10,.1f} {without:>12,.1f} {ours:>10,.1f}   {ratio:.2f}", flush=True
        )


def measure(name):
    """Returns the images per second of a plain fit, of one without XLA, and of the zoo."""
    images, epochs, rounds = CASES[name]
    task = tasks.get("segmentation")(
        model=name,
        train_split=f"train[:{images}]",
        validation_split="none",
        test_split="test[:4]",
        plan="scratch",
        weights="random",
        loss="cross_entropy",
        epochs=epochs,
        precision="float32",
    )
    data = task.load()
    rates = [[], [], []]
    for _ in range(rounds):
        rates[0] += plain(task, data, jit="auto")
        rates[1] += plain(task, data, jit=False)
        rates[2] += ours(task)
    return [max(found) for found in rates]


def plain(task, data, jit):
    """Trains as a Keras user does; returns the images per second of all epochs but the first."""
    images, masks = data.train.pixels, data.train.labels
    model = zoo.build(
        task.model,
        input_shape=data.image_shape,
        num_classes=len(data.source.classes),
        weights="random",
    )
    steps = len(images) // task.batch_size * task.epochs
    (stage,) = task.stages()
    model.compile(
        keras.optimizers.AdamW(
            keras.optimizers.schedules.CosineDecay(stage.rate, steps),
            weight_decay=task.weight_decay,
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=jit,
    )
    clock = Clock()
    model.fit(
        images,
        masks,
        batch_size=task.batch_size,
        epochs=task.epochs,
        callbacks=[
            keras.callbacks.LambdaCallback(on_epoch_begin=clock.go, on_epoch_end=clock.stop)
        ],
        verbose=0,
    )
    return [len(images) / seconds for seconds in clock.seconds[1:]]


def ours(task):
    """Trains as the zoo does; returns the images per second of all epochs but the first."""
    with tempfile.TemporaryDirectory() as folder:
        trainer.train(task, Path(folder) / "run")
        with open(Path(folder) / "run" / "history.csv") as file:
            return [float(row["images_per_second"]) for row in csv.DictReader(file)][1:]


class Clock:
    """Measures epochs."""

    def __init__(self):
        self.seconds = []

    def go(self, epoch, logs):
        """Starts the clock."""
        self.started = time.perf_counter()

    def stop(self, epoch, logs):
        """Writes down what has passed."""
        self.seconds.append(time.perf_counter() - self.started)


if __name__ == "__main__":
    main()
