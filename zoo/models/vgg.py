"""VGG: deep networks of 3 x 3 convolutions."""

from __future__ import annotations

from zoo.catalog import register
from zoo.errors import UsageError
from zoo.lazy import keras
from zoo.parts import blocks
from zoo.weights import Weights, torchvision

PAPER = "https://arxiv.org/abs/1409.1556"

DEPTHS = {  # table 1: convolutions in each of the five blocks, columns A, B, D and E
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}

VARIANTS = {
    f"{name}{suffix}": {"depths": depths, "batch_norm": bool(suffix)}
    for name, depths in DEPTHS.items()
    for suffix in ("", "_bn")
}

COUNTS = {  # trainable parameters, FLOPs
    "vgg11": (132_863_336, 15_218_180_096),
    "vgg11_bn": (132_868_840, 15_218_180_096),
    "vgg13": (133_047_848, 22_616_932_352),
    "vgg13_bn": (133_053_736, 22_616_932_352),
    "vgg16": (138_357_544, 30_940_528_640),
    "vgg16_bn": (138_365_992, 30_940_528_640),
    "vgg19": (143_667_240, 39_264_124_928),
    "vgg19_bn": (143_678_248, 39_264_124_928),
}

KERAS_FILES = "https://storage.googleapis.com/tensorflow/keras-applications/"


def keras_weights(name, whole, headless):
    """Returns the facts of the weights that Keras publishes for the network called `name`."""
    stem = f"{KERAS_FILES}{name}/{name}_weights_tf_dim_ordering_tf_kernels"
    return Weights(
        source=f"{stem}.h5",
        digest=whole,
        headless=(f"{stem}_notop.h5", headless),
        classes="imagenet",
        preprocessing="caffe",
        options={"hidden": ()},
        licence="CC BY 4.0 (Visual Geometry Group, Oxford; as Keras distributes them)",
        figures={"accuracy": 0.713, "top5_accuracy": 0.901},
        protocol="ImageNet validation, as listed on keras.io/api/applications",
    )


TORCH = Weights(
    classes="imagenet",
    preprocessing="torch",
    resize="crop",
    options={"hidden": ()},
    licence="BSD 3-Clause (torchvision)",
    figures={"accuracy": 0.71592, "top5_accuracy": 0.90382},
    protocol="ImageNet validation: shorter side resized to 256, bilinear, center crop of 224",
)

WEIGHTS = {
    "vgg16": {
        "imagenet": keras_weights(
            "vgg16", "64373286793e3c8b2b4e3219cbf3544b", "6d6bbae143d832006294945121d1f1fc"
        ),
        "torch_imagenet": TORCH,
    },
    "vgg19": {
        "imagenet": keras_weights(
            "vgg19", "cbe5617147190e668d6c5d5026f83318", "253f8cb515780f3b799900260a226db6"
        ),
    },
}

TORCHVISION = {  # SHA-256 or its beginning, accuracy, top-5 accuracy
    "vgg11": ("8a719046", 0.69020, 0.88628),
    "vgg11_bn": ("6002323d", 0.70370, 0.89810),
    "vgg13": ("19584684", 0.69928, 0.89246),
    "vgg13_bn": ("abd245e5", 0.71586, 0.90374),
    "vgg16": (
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        0.71592,
        0.90382,
    ),
    "vgg16_bn": (
        "6c64b3138f2f4fcb3bcc4cafde11619c4f440eb1631787e93a682fd88305888a",
        0.73360,
        0.91516,
    ),
    "vgg19": (
        "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
        0.72376,
        0.90876,
    ),
    "vgg19_bn": ("c79401a0", 0.74218, 0.91842),
}

for _name, _facts in TORCHVISION.items():
    WEIGHTS.setdefault(_name, {})["torchvision"] = torchvision.pretrained(
        _name, *_facts, options={"hidden": ()}
    )


@register(
    VARIANTS,
    input_shape=(224, 224, 3),
    min_size=32,
    stages=range(6),
    preprocessing="torch",
    paper=PAPER,
    counts=COUNTS,
    weights=WEIGHTS,
)
def vgg(
    image,
    num_classes=1000,
    *,
    depths,
    widths=(64, 128, 256, 512, 512),
    batch_norm=False,
    hidden=(4096, 4096),
    dropout=0.5,
):
    """Builds a VGG network (Simonyan & Zisserman, 2014, table 1).

    `vgg16` and `vgg19` match Keras's weight for weight. Departures: kernels are initialized as
    in He et al., 2015 (`he_normal`), where the paper initializes the deep variants from a trained
    `vgg11`; the `_bn` variants have batch normalization after each convolution, which keeps its
    bias, as in torchvision.

    Args:
        image: `(batch, height, width, channels)`, normalized pixels; of a fixed size unless
            `hidden` is empty.
        num_classes: width of the logits, or `None` for the stages only.
        depths: the number of convolutions in each block.
        widths: channels of each block.
        batch_norm: whether batch normalization follows each convolution.
        hidden: units of each dense layer before the logits; with none, global average
            pooling replaces them.
        dropout: rate after each hidden layer, in [0, 1).

    Returns:
        Endpoints `stage0` to `stage4`, the output of the last convolution of each block;
        `stage5`, the output of the last pooling; and, with classes, `logits`.
    """
    if len(depths) != len(widths):
        raise UsageError(
            f"vgg needs one width per block; got {len(depths)} depths, {len(widths)} widths"
        )
    endpoints, x = {}, image
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        for index in range(1, depth + 1):
            x = _convolve(x, width, batch_norm, block=stage + 1, index=index)
        endpoints[f"stage{stage}"] = x
        x = keras.layers.MaxPooling2D(2, name=f"block{stage + 1}_pool")(x)
    endpoints[f"stage{len(depths)}"] = x
    if num_classes:
        endpoints["logits"] = blocks.dense_head(x, num_classes, hidden, dropout=dropout)
    return endpoints


def _convolve(x, filters, batch_norm, *, block, index):
    """Applies a 3 x 3 convolution and `relu`, named as in Keras, with or without batch norm."""
    x = keras.layers.Conv2D(
        filters,
        3,
        padding="same",
        activation=None if batch_norm else "relu",
        kernel_initializer="he_normal",
        name=f"block{block}_conv{index}",
    )(x)
    if not batch_norm:
        return x
    x = keras.layers.BatchNormalization(**blocks.BATCH_NORM, name=f"block{block}_bn{index}")(x)
    return keras.layers.Activation("relu", name=f"block{block}_relu{index}")(x)
