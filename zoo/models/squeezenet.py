"""SqueezeNet: the accuracy of AlexNet with fifty times fewer parameters."""

from __future__ import annotations

from zoo.catalog import register
from zoo.lazy import keras
from zoo.parts import blocks
from zoo.weights import torchvision

PAPER = "https://arxiv.org/abs/1602.07360"

SQUEEZES = (16, 16, 32, 32, 48, 48, 64, 64)  # table 1: s1x1 of fire2 to fire9

VARIANTS = {  # channels and kernel size of conv1; the layers that pooling follows
    "squeezenet": {"stem": (96, 7), "pools": (1, 4, 8)},  # table 1
    # github.com/forresti/SqueezeNet, SqueezeNet_v1.1: 2.4 times fewer FLOPs, the same accuracy
    "squeezenet_v1_1": {"stem": (64, 3), "pools": (1, 3, 5)},
}

COUNTS = {  # trainable parameters, FLOPs
    "squeezenet": (1_248_424, 1_637_849_152),
    "squeezenet_v1_1": (1_235_496, 698_303_872),
}

WEIGHTS = {
    "squeezenet": {
        "torchvision": torchvision.pretrained("squeezenet1_0", "b66bff10", 0.58092, 0.80420)
    },
    "squeezenet_v1_1": {
        "torchvision": torchvision.pretrained(
            "squeezenet1_1",
            "b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
            0.58178,
            0.80624,
        )
    },
}


def squeezenet(image, num_classes=1000, *, stem, pools, expansion=4, dropout=0.5):
    """Builds SqueezeNet without bypass (Iandola et al., 2016, table 1).

    `squeezenet` is version 1.0; both versions are torchvision's. Departures: conv1 is not padded,
    and has an output of 109 x 109 for an image of 224, where table 1 has 111; kernels are
    initialized as in He et al., 2015 (`he_normal`).

    Args:
        image: `(batch, height, width, channels)`, normalized pixels.
        num_classes: the number of maps of the last layer, whose averages are the logits, or
            `None` for the stages only.
        stem: channels and kernel size of the first convolution.
        pools: numbers of the layers that pooling follows: 1 is conv1, 2 is fire2, ... 9 is fire9.
        expansion: ratio of the channels of each expand convolution to those of the squeeze layer.
        dropout: rate before the last convolution.

    Returns:
        Endpoints `stage1` to `stage4`, the last tensor at each stride, and, with classes,
        `logits`.
    """
    width, kernel_size = stem
    endpoints, stage = {}, 1
    x = blocks.conv_relu(image, width, kernel_size, 2, padding="valid", name="conv1")
    for index in range(1, len(SQUEEZES) + 2):
        if index > 1:
            x = _fire(x, SQUEEZES[index - 2], expansion, name=f"fire{index}")
        endpoints[f"stage{stage}"] = x
        if index in pools:
            x = blocks.ceil_pool(x, name=f"pool{index}")
            stage += 1
    if num_classes:
        endpoints["logits"] = blocks.conv_gap_head(x, num_classes, dropout=dropout)
    return endpoints


for _name, _min_size in (("squeezenet", 21), ("squeezenet_v1_1", 17)):
    register(
        {_name: VARIANTS[_name]},
        input_shape=(224, 224, 3),
        min_size=_min_size,
        stages=range(1, 5),
        preprocessing="torch",
        paper=PAPER,
        counts=COUNTS,
        weights=WEIGHTS,
    )(squeezenet)


def _fire(x, squeezed, expansion, *, name):
    """Applies a fire module: squeeze by 1 x 1, expand by 1 x 1 and 3 x 3 side by side."""
    x = blocks.conv_relu(x, squeezed, 1, name=f"{name}_squeeze")
    halves = [
        blocks.conv_relu(x, expansion * squeezed, size, name=f"{name}_expand{size}x{size}")
        for size in (1, 3)
    ]
    return keras.layers.Concatenate(name=f"{name}_concat")(halves)
