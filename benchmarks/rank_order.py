"""Compares `zoo rank` with fine-tuning: python benchmarks/rank_order.py --weights MODEL=FILE

Four backbones on two data sets: the accuracy of `zoo rank` (a linear probe, cross-validated on
3,000 images), and that after fine-tuning with the default plan (5 epochs on 1,000 of these images,
tested on 2,000 others), each at 96 pixels, or 32 for the network of 32 pixels.

ImageNet's weights are Keras's (`resnet50.imagenet`, `mobilenet_025.imagenet`) and torchvision's
(`vgg16.torch_imagenet`), by `--weights MODEL=FILE` or fetched.

Measured on 2 cores of an AMD EPYC with avx512_bf16, TensorFlow 2.21, Keras 3.15.1, seed 0, on a
busy machine (so without seconds):

                             CIFAR-10                Fashion-MNIST
                             probe        fine-tuned  probe        fine-tuned
    resnet50.imagenet        0.858 0.003  0.821       0.904 0.003  0.873
    mobilenet_025.imagenet   0.757 0.005  0.700       0.881 0.005  0.822
    vgg16.torch_imagenet     0.839 0.007  0.836       0.908 0.004  0.860
    resnet20.cifar10         0.966 0.002  0.885       0.880 0.006  0.831

After fine-tuning, 5 and 4 of the 6 pairs differ by two standard errors of 2,000 test images, and
the probe orders all of them the same way; of the three others it orders none (VGG16 and ResNet50 on
both sets; MobileNet and `resnet20.cifar10` on Fashion-MNIST). `resnet20.cifar10` was trained on
CIFAR-10, so its probe accuracy there is too high. With 1,000 instead of 3,000 images, the order of
neighbors depends on the sample.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

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
PROBE_IMAGES, TRAIN_IMAGES, TEST_IMAGES = 3000, 1000, 2000  # images
MIN_STANDARD_ERRORS = 2  # of a significant difference between two networks


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
        rows = [measure(name, dataset, files, args) for name in SIZES]
        print(agreement(rows), flush=True)


def agreement(rows):
    """Returns a text on how many significantly different pairs the probe orders the same way.

    Args:
        rows: `(accuracy of the probe, accuracy of the fine-tune)` of each.
    """
    pairs = [(a, b) for a, b in itertools.combinations(rows, 2) if differ_significantly(a[1], b[1])]
    agreed = sum((a[0] > b[0]) == (a[1] > b[1]) for a, b in pairs)
    return f"of {len(pairs)} significantly different pairs, {agreed} in the same order"


def differ_significantly(one, other):
    """Returns whether two accuracies on the test images differ significantly."""
    error = math.sqrt((one * (1 - one) + other * (1 - other)) / TEST_IMAGES)
    return abs(one - other) > MIN_STANDARD_ERRORS * error


def measure(name, dataset, files, args):
    """Returns the accuracy of a probe and that of a fine-tune, and prints them."""
    (found,) = rank.rank(
        dataset,
        [name],
        weights=files,
        data_dir=args.data_dir or None,
        split=f"train[:{PROBE_IMAGES}]",
        images=PROBE_IMAGES,
        image_size=SIZES[name],
    )
    task = tasks.get("classification")(
        model=name,
        weights=files.get(name, ""),
        dataset=dataset,
        data_dir=args.data_dir,
        train_split=f"train[:{TRAIN_IMAGES}]",
        validation_split="none",
        test_split=f"test[:{TEST_IMAGES}]",
        image_size=SIZES[name],
        epochs=args.epochs,
        weight_decay=1e-4,
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
