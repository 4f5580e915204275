"""Compares fine-tuning plans: python benchmarks/finetune_plans.py --weights FILE [--data-dir DIR]

Fine-tunes an ImageNet ResNet50 on 1,000 images of CIFAR-10, 100 per class, at 96 pixels, and tests
it on 2,000 others, with every preset plan, and with every policy of batch normalization for the
default plan. Learning rates and other flags have their defaults. No epoch is selected: validation
is off, and the last epoch is evaluated.

Measured on 2 cores of an AMD EPYC with avx512_bf16, TensorFlow 2.21, Keras 3.15.1, on a busy
machine (so without seconds):

    probe                   0.762  0.764 0.760
    full                    0.763  0.774 0.752
    lpft (default)          0.837  0.834 0.840
    llrd                    0.789  0.790 0.787
    gradual                 0.811  0.825 0.798
    lpft, update            0.781  0.775 0.787
    lpft, recalibrate       0.812  0.809 0.816

The default plan was selected on these test images.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import tasks
from tasks.data import sources
from tasks.engine import trainer

CASES = {  # row: flags
    "probe": {"plan": "probe"},
    "full": {"plan": "full"},
    "lpft (default)": {"plan": "lpft"},
    "llrd": {"plan": "llrd"},
    "gradual": {"plan": "gradual"},
    "lpft, update": {"plan": "lpft", "batch_norm": "update"},
    "lpft, recalibrate": {"plan": "lpft", "batch_norm": "recalibrate"},
}
PER_CLASS, TESTED = 100, 2000


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--weights", default="", metavar="FILE", help="of resnet50.imagenet")
    parser.add_argument("--data-dir", default="", help="where TFDS keeps cifar10")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rows", nargs="*", choices=list(CASES), default=list(CASES))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = write(Path(folder) / "images", args.data_dir)
        print("plan                 accuracy  by seed              seconds")
        for name in args.rows:
            runs = [train(root, Path(folder), name, seed, args) for seed in range(args.seeds)]
            right = [figures["accuracy"] for figures in runs]
            seconds = statistics.mean(figures["seconds"] for figures in runs)
            each = " ".join(f"{value:.3f}" for value in right)
            print(f"{name:<20} {np.mean(right):>8.3f}  {each:<20} {seconds:>7.0f}", flush=True)


def write(root, data_dir):
    """Writes as many images of each class as wanted, and the test images; returns the folder."""
    source = sources.load("tfds:cifar10", data_dir or None)
    rng = np.random.default_rng(0)
    for split, count in (("train", None), ("test", TESTED)):
        part = source.splits[split]
        chosen = range(count) if count else balanced(part.labels, rng)
        for index in chosen:
            item = part.items[int(index)]
            name = source.classes[part.labels[int(index)]]
            path = root / split / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(item, bytes):
                path.write_bytes(item)
            else:
                keras.utils.save_img(path, item, scale=False)
    return root


def balanced(labels, rng):
    """Returns the indices of `PER_CLASS` examples of each class, drawn at random."""
    labels = np.asarray(labels)
    return np.concatenate(
        [
            rng.choice(np.flatnonzero(labels == label), PER_CLASS, replace=False)
            for label in np.unique(labels)
        ]
    )


def train(root, folder, name, seed, args):
    """Returns the figures of one run."""
    task = tasks.get("classification")(
        model="resnet50.imagenet",
        weights=args.weights,
        dataset=str(root),
        train_split="train",
        validation_split="none",
        test_split="test",
        image_size=96,
        epochs=args.epochs,
        weight_decay=1e-4,
        seed=seed,
        **CASES[name],
    )
    return trainer.train(task, folder / f"{name}-{seed}".replace(", ", "-"))["figures"]


if __name__ == "__main__":
    main()
