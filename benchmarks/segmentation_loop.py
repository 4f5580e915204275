"""Compares the trainer on masks with plain `model.fit`: python benchmarks/segmentation_loop.py

The same network, optimizer, schedule, batch size, precision (float32), images and masks in memory,
alternating in one process: a plain `compile` and `fit(images, masks)` with the defaults of Keras
(with XLA, also on a CPU), the same with `jit_compile=False`, and the trainer of the zoo, whose
cross-entropy ignores pixels labeled 255. A figure is images per second of the best epoch except
the first, which compiles; the last column is ours relative to the better of the two others.
Validation is excluded.

Measured on 2 cores of an AMD EPYC with AVX-512, TensorFlow 2.21, Keras 3.15.1:

    unet             26.5         46.3       47.5   1.03
    segnet           54.8         52.5       52.5   0.96
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import loops

import tasks
import zoo

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
    print(loops.HEAD)
    for name in args.models:
        loops.show(name, measure(name), digits=1)


def measure(name):
    """Returns images per second of plain `fit`, of `fit` without XLA, and of the zoo."""
    images, epochs, rounds = CASES[name]
    task = tasks.get("segmentation")(
        model=name,
        train_split=f"train[:{images}]",
        validation_split="none",
        test_split="test[:4]",
        plan="scratch",
        weights="random",
        loss="cross_entropy",
        augment="none",
        epochs=epochs,
        precision="float32",
    )
    data = task.load()
    return loops.compare(task, lambda jit: plain(task, data, jit), rounds)


def plain(task, data, jit):
    """Trains with plain Keras; returns images per second of all epochs except the first."""
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
    return loops.fit(model, images, masks, task)


if __name__ == "__main__":
    main()
