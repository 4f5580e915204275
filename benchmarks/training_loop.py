"""Compares the trainer with plain `model.fit`: python benchmarks/training_loop.py [--data-dir DIR]

The same network, optimizer, schedule, batch size, precision (float32) and images in memory, each
loop alternating: a plain `compile` and `fit(images, labels)` with the defaults of Keras (with XLA,
also on a CPU), the same with `jit_compile=False`, and `zoo train` with its defaults, in a process
of its own. A figure is images per second of the best epoch except the first, which compiles; the
last column is ours relative to the better of the two others.

Images are those of `tfds:fashion_mnist` with `--data-dir`, else of `fashion_sample`, whose epochs
are so short that their start-up counts.

Measured on 2 cores of an AMD EPYC with AVX-512, TensorFlow 2.21, Keras 3.15.1, with `--data-dir`,
in several runs, as the speed of that machine varied:

    lenet5     11,486  10,342  22,170  1.93
    convnet     1,115   1,177   1,144  0.97        1,048   1,032     963  0.92
                  964     936   1,022  1.06
    resnet50        8       5       9  1.18

Alternating single rounds with `fit`, `convnet` is neither slower nor faster: the medians of 12
rounds of 60 steps were 38 ms (`fit`) and 42 (ours), the minima 34 and 31.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import loops

import tasks
import zoo

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
    print(loops.HEAD)
    for name in args.models:
        loops.show(name, measure(name, args.data_dir))


def measure(name, data_dir):
    """Returns images per second of plain `fit`, of `fit` without XLA, and of the zoo."""
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
        weight_decay=1e-4,
        precision="float32",
    )
    data = task.load()
    return loops.compare(task, lambda jit: plain(task, data, jit), rounds)


def plain(task, data, jit):
    """Trains with plain Keras; returns images per second of all epochs except the first."""
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
    return loops.fit(model, images, labels, task)


if __name__ == "__main__":
    main()
