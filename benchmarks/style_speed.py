"""Measures both methods of style transfer: python benchmarks/style_speed.py

Optimizes one image of 256 pixels with `gatys` and its defaults (300 evaluations of L-BFGS), trains
`fast_style` on patches for the same style with its defaults (2,000 steps of 4 patches of 128
pixels), and then times one forward pass over a 256 x 256 image, as `zoo predict` runs it: the
median of several, after a warm-up. All in one process, one after the other. For the published
figures:

    python benchmarks/style_speed.py --content china.jpg --style 436535.jpg --photos FOLDER \\
        --backbone vgg16.imagenet

where `china.jpg` is from scikit-learn, 436535 the number of van Gogh's "Wheat Field with Cypresses"
in the Metropolitan Museum's collection (public domain), and `--weights FILE` replaces the published
weights. Measured on 2 cores of an AMD EPYC with avx512_bf16, TensorFlow 2.21, Keras 3.15.1, VGG16
of torchvision and seven training photos: `gatys` 51 s of training, 64 s from start to report;
`fast_style` 743 s of training; one forward pass 0.065 s, a 788th of the time of `gatys`. Losses:

    gatys       style 0.9595 -> 0.0712 (30 steps) -> 0.0161 (300)   content 0.73 -> 0.59
    fast_style  style 1.0804 -> 0.7746 (200 steps) -> 0.7015 (2,000) content 0.72 -> 0.85

Without flags it runs offline, with synthetic images and the packaged network. The run folders stay
under `--out`, so that an interrupted run resumes; `picture.png` in each is the result.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tasks
from tasks.data import image_io
from tasks.deploy import model_loader
from tasks.engine import trainer
from tasks.inference import runtimes
from tasks.inference.predictor import InputImage
from tasks.style_transfer import style_images

PASSES = 11
SIDE = 256
LOSSES = ("style_loss", "content_loss", "variation")


def main():
    """Prints the times and losses of both methods."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--content", default="hills", help="content image")
    parser.add_argument("--style", default="mosaic", help="style image")
    parser.add_argument("--photos", default="shapes", help="folder of training images")
    parser.add_argument(
        "--backbone", default="resnet20.cifar10", help="network of the perceptual losses"
    )
    parser.add_argument("--weights", default="", help="file of its weights")
    parser.add_argument("--out", default="runs/style_speed", help="folder of both runs")
    parser.add_argument("--epochs", type=int, default=0, help="other than the task's default")
    args = parser.parse_args()
    flags = {"content": args.content, "style": args.style}
    flags |= {"backbone": args.backbone, "backbone_weights": args.weights}
    if args.epochs:
        flags["epochs"] = args.epochs
    slow = train_method("gatys", flags, Path(args.out))
    train_method("fast_style", {**flags, "dataset": args.photos}, Path(args.out))
    once = forward_seconds(Path(args.out) / "fast_style", args.content)
    print(f"fast_style, one pass over {SIDE} x {SIDE} pixels: {once:.3f} s")
    print(f"gatys takes {slow / once:,.0f} times as long")


def train_method(model, flags, out):
    """Runs a method, unless it has run; prints its figures and returns its seconds."""
    start = time.perf_counter()
    task = tasks.get("style_transfer")(model=model, image_size=SIDE, **flags)
    figures = trainer.train(task, out / model)["figures"]
    total = time.perf_counter() - start
    with open(out / model / "history.csv") as file:
        rows = list(csv.DictReader(file))
    seconds = sum(float(row["seconds"]) for row in rows)
    print(f"{model}: {seconds:.0f} s of training, {total:.0f} s from start to report")
    for name in LOSSES:
        values = "  ".join(f"{float(row[f'val_{name}']):.4f}" for row in rows)
        print(f"  {name:<13} after each epoch  {values}", flush=True)
    print(f"  style_loss    of the content image  {figures['style_loss_before']:.4f}")
    return seconds


def forward_seconds(run, content):
    """Returns the seconds of one forward pass of a run's model over a square image."""
    predictor = model_loader.load_predictor(run)
    pixels = image_io.read_image(style_images.read(content), (SIDE, SIDE, 3), "crop")

    def start(model, images):
        return runtimes.create_predict_function("keras", model, images, count=PASSES)

    run_model = predictor.prepare([InputImage(Path("content"), pixels, "content")], start)
    seconds = []
    for _ in range(PASSES + 1):
        begun = time.perf_counter()
        predictor.stylize(pixels, run_model)
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds[1:])


if __name__ == "__main__":
    main()
