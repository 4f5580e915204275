"""Does `zoo rank` say what fine-tuning would? python benchmarks/rank_order.py --weights MODEL=FILE

Four backbones on two data sets: the accuracy of `zoo rank` (a linear probe, cross-validated on
1,000 images) beside that of a fine-tune by the default plan (5 epochs of the same 1,000 images,
tested on 1,000 others), each at 96 pixels, or 32 for the network of 32 pixels.

ImageNet's weights are Keras's (`resnet50.imagenet`, `mobilenet_025.imagenet`) and torchvision's
(`vgg16.torch_imagenet`), by `--weights MODEL=FILE` or fetched.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import tasks
from tasks.advice import rank
from tasks.engine import trainer

SIZES = {
    "resnet50.imagenet": 96,
    "mobilenet_025.imagenet": 96,
    "vgg16.torch_imagenet": 96,
    "resnet20.cifar10": 32,
}
DATASETS = ("tfds:cifar10", "tfds:fashion_mnist")
IMAGES = 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--weights", action="append", default=[], metavar="MODEL=FILE")
    parser.add_argument("--data-dir", default="", help="where TFDS keeps the data sets")
    parser.add_argument("--datasets", nargs="*", default=list(DATASETS))
    parser.add_argument("--epochs", type=int, default=5)
    args = parser.parse_args()
    files = dict(text.split("=", 1) for text in args.weights)
    for dataset in args.datasets:
        print(f"{dataset:<24} probe  +-     seconds  fine-tuned  seconds", flush=True)
        rows = [compared(name, dataset, files, args) for name in SIZES]
        probed, tuned = (np.array(column) for column in zip(*rows, strict=True))
        same = sum(
            (probed[a] > probed[b]) == (tuned[a] > tuned[b])
            for a in range(len(rows))
            for b in range(a)
        )
        print(f"pairs in the same order: {same} of {len(rows) * (len(rows) - 1) // 2}", flush=True)


def compared(name, dataset, files, args):
    """Returns the accuracies of a probe and of a fine-tune, and prints them."""
    (found,) = rank.rank(
        dataset,
        [name],
        weights=files,
        data_dir=args.data_dir or None,
        split=f"train[:{IMAGES}]",
        image_size=SIZES[name],
    )
    task = tasks.get("classification")(
        model=name,
        weights=files.get(name, ""),
        dataset=dataset,
        data_dir=args.data_dir,
        train_split=f"train[:{IMAGES}]",
        validation_split="none",
        test_split="test[:1000]",
        image_size=SIZES[name],
        epochs=args.epochs,
    )
    with tempfile.TemporaryDirectory() as folder:
        figures = trainer.train(task, Path(folder) / "run")["figures"]
    print(
        f"{name:<24} {found.accuracy:.3f}  {found.error:.3f} {found.seconds:>8.1f} "
        f"{figures['accuracy']:>11.3f} {figures['seconds']:>8.1f}",
        flush=True,
    )
    return found.accuracy, figures["accuracy"]


if __name__ == "__main__":
    main()
