"""Metadata of the weights that torchvision publishes.

URLs and metrics are from the source of torchvision 0.29. The eight hexadecimal digits in a file
name are a prefix of its SHA-256; tables of models have the whole digest where it is known.
"""

from __future__ import annotations

from zoo.weights import Weights

BASE_URL = "https://download.pytorch.org/models/"


def pretrained(stem, digest, accuracy, top5_accuracy, *, resized=256, **facts):
    """Returns the `Weights` of one file.

    Args:
        stem: the file name without the digits: `resnet18`.
        digest: its SHA-256, or the eight digits.
        accuracy: top-1 accuracy on the ImageNet validation images, in [0, 1].
        top5_accuracy: top-5 accuracy likewise.
        resized: length of the shorter side before the crop, in pixels.
        **facts: other attributes of `Weights`.
    """
    return Weights(
        source=f"{BASE_URL}{stem}-{digest[:8]}.pth",
        digest=digest,
        figures={"accuracy": accuracy, "top5_accuracy": top5_accuracy},
        **{
            "classes": "imagenet",
            "preprocessing": "torch",
            "resize": "crop",
            "licence": "BSD 3-Clause (torchvision)",
            "protocol": f"ImageNet validation: shorter side resized to {resized}, bilinear, "
            "center crop of 224, as torchvision states it",
            **facts,
        },
    )
