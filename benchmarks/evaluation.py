"""Compares evaluation by the fastest runtime with `model.predict`.

    python benchmarks/evaluation.py --weights resnet50_imagenet.weights.h5

All compute the logits of the same images of `shapes` in memory, in batches of 32: `predict` is
`model.predict` as it is; `no XLA` the same without XLA, which is faster on a CPU; `zoo` is what
`zoo evaluate` and the final report run, including conversion and comparison with Keras. The table
has seconds, images per second, the ratio to `predict`, and the number of images whose class is
another, which must be 0. With random weights classes are close to each other, so that Keras
repeats many images.

Measured on 2 cores of an Intel Xeon with AVX-512, TensorFlow 2.21, Keras 3.15.1:

               seconds  images/s  ratio  other class
    predict       42.6      48.1   1.00            0
    no XLA        41.0      49.9   1.04            0
    zoo           28.6      71.5   1.49            0
"""

from __future__ import annotations

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import zoo
from tasks.data import batches, sources
from tasks.data.decoding import decode
from tasks.inference import batched_outputs

BATCH_SIZE = 32
SPLIT, RESIZE = "train", "stretch"

METHODS = {
    "predict": lambda model, examples, **options: model.predict(
        examples.pixels, verbose=0, **options
    ),
    "no XLA": batches.predict,
    "zoo": batched_outputs.predict,
}


def main():
    """Prints a row per method."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="resnet50.imagenet")
    parser.add_argument("--weights", help="file of weights; the published ones by default")
    parser.add_argument("--image-size", type=int, default=160)
    parser.add_argument("--images", type=int, default=2048, help="of shapes")
    args = parser.parse_args()
    shape = (args.image_size, args.image_size, 3)
    model = zoo.build(args.model, input_shape=shape, weights=args.weights)
    split = sources.load("shapes").splits[SPLIT].take(range(args.images))
    examples = decode(split, shape, RESIZE)
    print(f"{'':<9}{'seconds':>9}{'images/s':>10}{'ratio':>7}{'other class':>13}")
    reference = rate = None
    for name, predict in METHODS.items():
        start = time.perf_counter()
        classes = np.argmax(predict(model, examples, batch_size=BATCH_SIZE), -1)
        seconds = time.perf_counter() - start
        if reference is None:
            reference, rate = classes, len(classes) / seconds
        others = int((classes != reference).sum())
        ratio = len(classes) / seconds / rate
        print(f"{name:<9}{seconds:>9.1f}{len(classes) / seconds:>10.1f}{ratio:>7.2f}{others:>13}")


if __name__ == "__main__":
    main()
