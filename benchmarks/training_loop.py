"""Our trainer against a plain `model.fit`: python benchmarks/training_loop.py [--data-dir DIR]

The same network, optimiser, schedule, batch size, precision (float32) and images in memory, each
loop in turn, in one process: a plain `compile` and `fit(images, labels)` as Keras
does them by default (which is with XLA, also on a CPU), the same with `jit_compile=False`, and
the zoo's trainer with its defaults. A figure is images per second of the best epoch but the
first, which compiles; the last column is ours over the better of the two others.

Images are Fashion-MNIST's, of `tfds:fashion_mnist` where `--data-dir` says where it is, else of
`fashion_sample`, whose epochs are so short that starting them counts.

Measured on 2 cores of an AMD EPYC with AVX-512, TensorFlow 2.21, Keras 3.15.1, with `--data-dir`,
in three runs, for the speed of that machine varied:

    lenet5     12,365  11,010  16,092  1.30       10,239  11,436  16,531  1.45
               12,593  12,879  16,194  1.26
    convnet                                        1,115   1,177   1,144  0.97
    resnet50        8       5       9  1.18
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

CASES = {  # model: batch size, most images in an epoch, epochs in a round, rounds
    "lenet5": (32, 60_000, 4, 3),
    "convnet": (32, 6_000, 3, 3),
    "resnet50": (16, 96, 4, 1),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--data-dir", default="", help="where TFDS keeps fashion_mnist")
    args = parser.parse_args()
    print(f"{'images/s':<10} {'fit':>10} {'fit, no XLA':>12} {'zoo':>10}   zoo / better fit")
    for name in args.models:
        plain, without, ours = measure(name, args.data_dir)
        ratio = ours / max(plain, without)
        print(
            f"{name:<10} {plain:>10,.0f} {without:>12,.0f} {ours:>10,.0f}   {ratio:.2f}", flush=True
        )


def measure(name, data_dir):
    """Returns the images per second of a plain fit, of one without XLA, and of the zoo."""
    batch_size, most, epochs, rounds = CASES[name]
    task = tasks.get("classification")(
        model=name,
        dataset="tfds:fashion_mnist" if data_dir else "fashion_sample",
        data_dir=data_dir,
        train_split=f"train[:{most if data_dir else min(most, 4_000)}]",
        validation_split="none",
        test_split="test[:64]",
        batch_size=batch_size,
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
    images, labels = data.train.pixels, data.train.labels
    model = zoo.build(task.model, input_shape=data.image_shape, num_classes=10)
    steps = len(labels) // task.batch_size * task.epochs
    model.compile(
        keras.optimizers.AdamW(
            keras.optimizers.schedules.CosineDecay(1e-3, steps), weight_decay=task.weight_decay
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=jit,
    )
    clock = Clock()
    model.fit(
        images,
        labels,
        batch_size=task.batch_size,
        epochs=task.epochs,
        callbacks=[
            keras.callbacks.LambdaCallback(on_epoch_begin=clock.go, on_epoch_end=clock.stop)
        ],
        verbose=0,
    )
    return [len(labels) / seconds for seconds in clock.seconds[1:]]


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
