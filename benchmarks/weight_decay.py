"""Compares weight decays of AdamW: python benchmarks/weight_decay.py

Trains from random weights on the first 1,000 training images of `fashion_sample`, which comes with
the package, and tests on its test images. Other flags have their defaults; no epoch is selected.

Measured on 2 cores of an AMD EPYC with AVX2, TensorFlow 2.21, Keras 3.15.1:

    model        decay  accuracy    loss  accuracy by seed
    convnet     0.0001     0.815   0.524  0.824 0.806
    convnet       0.05     0.811   0.523  0.819 0.804
    convnet        0.5     0.812   0.516  0.822 0.802
    vit_tiny    0.0001     0.759   0.695  0.755 0.763
    vit_tiny      0.05     0.756   0.677  0.751 0.760
    vit_tiny       0.5     0.758   0.681  0.755 0.761
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tasks
from tasks.engine import trainer

MODELS = {  # flags of each
    "convnet": {},
    "vit_tiny": {"model_options": "{depth: 3}", "image_size": 32},  # of a multiple of 16 pixels
}
DECAYS = (1e-4, 0.05, 0.5)
DATA = {
    "dataset": "fashion_sample",
    "train_split": "train[:1000]",
    "validation_split": "none",
    "optimizer": "adamw",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="*", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    print(f"{'model':<10} {'decay':>7} {'accuracy':>9} {'loss':>7}  accuracy by seed")
    for name in args.models:
        for decay in DECAYS:
            runs = [train(name, decay, seed, args.epochs) for seed in range(args.seeds)]
            accuracies = [figures["accuracy"] for figures in runs]
            loss = statistics.mean(figures["loss"] for figures in runs)
            each = " ".join(f"{value:.3f}" for value in accuracies)
            mean = statistics.mean(accuracies)
            print(f"{name:<10} {decay:>7} {mean:>9.3f} {loss:>7.3f}  {each}", flush=True)


def train(name, decay, seed, epochs):
    """Returns the figures of a run on the test images."""
    task = tasks.get("classification")(
        model=name,
        weight_decay=decay,
        seed=seed,
        epochs=epochs,
        **MODELS[name],
        **DATA,
    )
    with tempfile.TemporaryDirectory() as folder:
        return trainer.train(task, folder)["figures"]


if __name__ == "__main__":
    main()
