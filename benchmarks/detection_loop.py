"""Compares the trainer with plain `model.fit` of a detector: python benchmarks/detection_loop.py

Both use the same training model (inputs include the ground truth, outputs are losses), optimizer,
batch size, precision (float32) and in-memory images. The loops alternate in one process:

- `fit`: a plain `compile` and `fit(inputs, zeros)` without XLA, which makes it faster on a CPU.
  The same batch normalization is frozen, so that both compute the same.
- `zoo`: the trainer with its defaults, which absorbs frozen normalization, and draws the random
  numbers of each epoch in the data pipeline. Checkpoints and validation are excluded.

A figure is images per second of the best epoch except the first, which compiles.

Measured on 2 cores of an AMD EPYC with AVX-512, TensorFlow 2.21, Keras 3.15.1:

    faster_rcnn      40.9     42.2   1.03
    retinanet        37.9     37.7   0.99
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import loops
import numpy as np

import tasks
from tasks.detection import train_model
from tasks.engine import finetune

MODELS = ("faster_rcnn", "retinanet")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--images", type=int, default=256, help="in an epoch")
    parser.add_argument("--epochs", type=int, default=4, help="of each loop")
    parser.add_argument("--rounds", type=int, default=2, help="of the two loops")
    args = parser.parse_args()
    print(f"{'images/s':<12} {'fit':>8} {'zoo':>8}   zoo / fit")
    for name in args.models:
        task = tasks.get("detection")(
            model=name,
            train_split=f"train[:{args.images}]",
            validation_split="none",
            test_split="test[:8]",
            epochs=args.epochs,
            precision="float32",
        )
        rates = [(max(plain(task)), max(loops.zoo(task))) for _ in range(args.rounds)]
        fit, zoo = (max(found) for found in zip(*rates, strict=True))
        print(f"{name:<12} {fit:>8.1f} {zoo:>8.1f}   {zoo / fit:.2f}", flush=True)


def plain(task):
    """Trains with plain Keras; returns images per second of all epochs except the first."""
    data = task.load()
    model = task.build(data)
    finetune.set_trainable(model, *task.stages())
    training_model = task.training_model(model, data)
    count = len(data.train)
    rates = keras.optimizers.schedules.CosineDecay(1e-3, count // task.batch_size * task.epochs)
    optimizer = keras.optimizers.AdamW(
        rates, weight_decay=task.weight_decay, global_clipnorm=task.clip_norm or None
    )
    train_model.compile_losses(training_model, optimizer, jit_compile=False)
    inputs = {
        "image": np.asarray(data.train.pixels),
        "boxes": data.train.boxes,
        "labels": data.train.labels,
        train_model.RANDOM_INPUT: np.random.default_rng(0).random((count, 1), "float32"),
    }
    return loops.fit(training_model, inputs, np.zeros(count, "float32"), task)


if __name__ == "__main__":
    main()
