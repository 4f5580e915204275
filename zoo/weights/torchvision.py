"""What is known of the weights that torchvision publishes.

Addresses and figures are those in the source of torchvision 0.29. The eight digits in the name of a
file begin its SHA-256; the whole digest stands in a table of models where it is known.
"""

from __future__ import annotations

from zoo.weights import Weights

BASE_URL = "https://download.pytorch.org/models/"


def pretrained(stem, digest, accuracy, top5_accuracy, *, resized=256, **facts):
    """Returns the facts of one file.

    Args:
        stem: the name of the file up to the digits: `resnet18`.
        digest: its SHA-256, or the eight digits.
        accuracy: on ImageNet's validation images.
        top5_accuracy: likewise.
        resized: pixels of the shorter side before the crop.
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
            "centre crop of 224, as torchvision states it",
            **facts,
        },
    )
