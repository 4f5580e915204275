"""Benefit of a pretrained backbone with few training images: python benchmarks/few_images.py

Trains segmenters and a detector on the first images of `shapes` at 128 pixels, once with
pretrained and once with random backbones: the same network, images and epochs, and the default plan
and learning rate of the task for each. The figure is mIoU or AP on the 256 test images, one per
seed. ImageNet weights are downloaded from Keras's server, or read from `--resnet50` and `--vgg16`;
`resnet20.cifar10` ships with the package.

Measured on 2 cores of an AMD EPYC with avx512_bf16, TensorFlow 2.21, Keras 3.15.1, `--seeds 1`:

    unet_backbone  resnet20.cifar10       miou     0.568    0.276
    fcn8s          resnet50.imagenet      miou     0.803    0.374
    fcn8s          vgg16.torch_imagenet   miou     0.829    0.417
    faster_rcnn    resnet20.cifar10       ap       0.365    0.226

With 5 images, `--rows resnet20 --images 5 --seeds 1`, on 2 cores of an AMD EPYC with AVX2; the
second line with `--min-steps 1`, one step per epoch:

    unet_backbone  resnet20.cifar10       miou     0.213    0.204
    unet_backbone  resnet20.cifar10       miou     0.099    0.170
"""

from __future__ import annotations

import argparse
import os
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tasks
from tasks.engine import image_task, plans, trainer

ROWS = {  # task, model, backbone, figure
    "resnet20": ("segmentation", "unet_backbone", "resnet20.cifar10", "miou"),
    "resnet50": ("segmentation", "fcn8s", "resnet50.imagenet", "miou"),
    "vgg16": ("segmentation", "fcn8s", "vgg16.torch_imagenet", "miou"),
    "boxes": ("detection", "faster_rcnn", "resnet20.cifar10", "ap"),
}
OPTIONS = {"vgg16": "{hidden: []}"}  # without the two largest layers, which would be random


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--resnet50", default="", help="file of its ImageNet weights")
    parser.add_argument("--vgg16", default="", help="file of its ImageNet weights")
    parser.add_argument("--images", type=int, default=128, help="training images")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument(
        "--min-steps",
        type=int,
        default=plans.MIN_STEPS_PER_EPOCH,
        help="steps per epoch for which a few images are repeated (default: %(default)s)",
    )
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    image_task.BackboneTask.min_steps_per_epoch = args.min_steps
    print(f"{'model':<14} {'backbone':<22} {'figure':<7} {'pretrained':>18} {'random':>18}")
    for row in args.rows:
        _, model, backbone, figure = ROWS[row]
        found = {}
        for start in ("pretrained", "random"):
            flags = {"weights": "random"} if start == "random" else {}
            if start == "pretrained" and row in vars(args):
                flags["backbone_weights"] = vars(args)[row]
            found[start] = [train_figure(row, args, seed, flags) for seed in range(args.seeds)]
        shown = [" ".join(f"{value:.3f}" for value in values) for values in found.values()]
        print(f"{model:<14} {backbone:<22} {figure:<7} {shown[0]:>18} {shown[1]:>18}", flush=True)


def train_figure(row, args, seed, flags):
    """Returns the figure of one training."""
    name, model, backbone, figure = ROWS[row]
    task = tasks.get(name)(
        model=model,
        backbone=backbone,
        model_options=OPTIONS.get(row, ""),
        train_split=f"train[:{args.images}]",
        validation_split="validation[:32]",
        epochs=args.epochs,
        seed=seed,
        **flags,
    )
    with tempfile.TemporaryDirectory() as folder:
        return trainer.train(task, f"{folder}/run")["figures"][figure]


if __name__ == "__main__":
    main()
