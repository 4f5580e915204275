"""Detectors on `shapes` at 128 pixels: python benchmarks/detection_shapes.py [--models ...]

Each model is trained with the defaults of `zoo train detection --model NAME`, which were not tuned
on the test split: 2,048 images, version 1 of `shapes`, 6 classes, seed 0. A row has the average
precision (AP of COCO, and AP at IoU 0.5) on the 256 test images, the 95% confidence interval of
the first, the seconds of training (with validation, without the search for proposals), and the
number of trainable parameters.

With `--speed`, it prints the seconds per image of R-CNN and Faster R-CNN, at 128 and 640 pixels, on
all cores: `search` is selective search by OpenCV, `network` the rest. Weights are random, which
does not change the time except for sorting a few boxes. The number of regions is the same for both
image sizes, unless `--proposals` sets it; the R-CNN of the paper uses 2,000.

Measured on 2 cores of an AMD EPYC with avx512_bf16, TensorFlow 2.21, Keras 3.15.1, one seed:

    model         AP                       AP50    seconds  parameters
    faster_rcnn   0.837 (0.827 to 0.849)   0.994   249      1,536,478
    rcnn          0.843 (0.830 to 0.857)   0.979   576      1,324,495

With proposals, loading and evaluation, `rcnn` takes 761 seconds. Per image:

    seconds           pixels   search  network      all
    rcnn                 128    0.055    0.087    0.142
    faster_rcnn          128    0.000    0.020    0.020
    rcnn                 640    1.174    0.109    1.283
    faster_rcnn          640    0.000    0.187    0.187
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import tasks
import zoo
from tasks.data import batches, shapes
from tasks.detection import selective_search
from tasks.engine import trainer
from zoo import model_files

MODELS = ("faster_rcnn", "retinanet", "fast_rcnn", "rcnn")
COMPARED = ("rcnn", "faster_rcnn")
SIZES = (128, 640)
NUM_TIMED_IMAGES = 5  # images, of which the median is printed


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train-split", default="", help="such as train[:256], to try it out")
    parser.add_argument("--speed", action="store_true", help="seconds for an image, too")
    parser.add_argument(
        "--proposals", type=int, default=selective_search.MAX_PROPOSALS, help="with --speed"
    )
    args = parser.parse_args()
    if args.models:
        print(f"shapes version {shapes.VERSION}, seed {args.seed}")
        print(f"{'model':<12} {'AP':>6} {'95%':>13} {'AP50':>6} {'seconds':>8} {'parameters':>11}")
    for name in args.models:
        print(train_row(name, args.seed, args.train_split), flush=True)
    if args.speed:
        print(f"\n{'seconds per image':<17} {'pixels':>7} {'search':>8} {'network':>8} {'all':>8}")
        for size in SIZES:
            for name in COMPARED:
                search, network = median_seconds(name, size, args.proposals)
                both = search + network
                print(
                    f"{name:<16} {size:>7} {search:>8.3f} {network:>8.3f} {both:>8.3f}", flush=True
                )


def train_row(name, seed, train_split):
    """Trains a model with the defaults of the task; returns its row."""
    task = tasks.get("detection")(model=name, seed=seed, train_split=train_split)
    with tempfile.TemporaryDirectory() as folder:
        found = trainer.train(task, Path(folder) / "run")["figures"]
        model, _ = model_files.load(Path(folder) / "run" / "model.keras")
        parameters = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    interval = f"{found['ap_low']:.3f}-{found['ap_high']:.3f}"
    return (
        f"{name:<12} {found['ap']:>6.3f} {interval:>13} {found['ap50']:>6.3f} "
        f"{found['seconds']:>8.0f} {parameters:>11,}"
    )


def median_seconds(name, size, max_proposals):
    """Returns the median seconds that proposals and the network take for an image of `shapes`."""
    external = "proposals" in zoo.spec(name).inputs
    options = {"proposals": max_proposals} if external else {}
    shape = (size, size, 3)
    model = batches.without_xla(zoo.build(name, num_classes=6, input_shape=shape, **options))
    spent = [[], []]
    for index in range(-1, NUM_TIMED_IMAGES):  # the first compiles
        image = shapes.draw("test", index + 1, image_size=size).image
        started = time.perf_counter()
        given = image[None]
        if external:
            proposals = np.zeros((1, max_proposals, 4), "float32")
            some = selective_search.search_image(image)[:max_proposals]
            proposals[0, : len(some)] = some
            given = {"image": given, "proposals": proposals}
        between = time.perf_counter()
        model.predict_on_batch(given)
        if index >= 0:
            spent[0].append(between - started if external else 0.0)
            spent[1].append(time.perf_counter() - between)
    keras.utils.clear_session()
    return [float(np.median(part)) for part in spent]


if __name__ == "__main__":
    main()
