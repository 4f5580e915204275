"""Network in Network: 1 x 1 convolutions, and global average pooling without dense layers."""

from __future__ import annotations

from zoo.catalog import register
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import keras
from zoo.parts import blocks

PAPER = "https://arxiv.org/abs/1312.4400"

# Each mlpconv layer is a kernel size and the channels of its convolution and its 1 x 1 ones. The
# paper does not list them; they are in the authors' configurations.
CIFAR = {  # github.com/mavenlin/cuda-convnet, folder NIN
    "nin": {
        "mlpconvs": ((5, 192, 160, 96), (5, 192, 192, 192), (3, 192, 192)),
        "pools": ("max", "average"),
        "drops": (True, True),
    },
}

IMAGENET = {  # Caffe's model zoo, gist.github.com/mavenlin/d802a5849de39225bcc6
    "nin_imagenet": {
        "mlpconvs": ((11, 96, 96, 96), (5, 256, 256, 256), (3, 384, 384, 384), (3, 1024, 1024)),
        "strides": 4,
        "pools": ("max", "max", "max"),
        "drops": (False, False, True),
        "num_classes": 1000,
    },
}

COUNTS = {  # trainable parameters, FLOPs
    "nin": (966_986, 444_973_056),
    "nin_imagenet": (7_595_176, 2_200_377_600),
}

POOLS = {
    "max": blocks.ceil_pool,
    # Padding is not averaged. At even sizes, where `same` pads the far side, this is Caffe's.
    "average": lambda x, *, name: keras.layers.AveragePooling2D(3, 2, "same", name=name)(x),
}


def nin(image, num_classes=10, *, mlpconvs, pools, drops, strides=1, dropout=0.5):
    """Builds a Network in Network (Lin et al., 2013, figure 2).

    Departures: kernels are initialized as in He et al., 2015 (`he_normal`); pixels are scaled to
    [-1, 1], where the paper applies contrast normalization and whitening.

    Args:
        image: `(batch, height, width, channels)`, normalized pixels.
        num_classes: the number of maps of the last layer, whose averages are the logits, or
            `None` for the stages only.
        mlpconvs: for each mlpconv layer its kernel size, and the channels of its convolution
            and of the 1 x 1 convolutions that follow. The logits are one more in the last.
        pools: the pooling after each mlpconv layer but the last: `max` or `average`.
        drops: whether dropout follows each pooling.
        strides: stride of the first convolution, a power of two; padded only where it is 1.
        dropout: dropout rate, in [0, 1).

    Returns:
        Endpoints `stageN`, the last tensor with stride `2**N`, and, with classes, `logits`.
    """
    _check(mlpconvs, pools, drops)
    endpoints, x = {}, image
    level = strides.bit_length() - 1
    for index, (kernel_size, *widths) in enumerate(mlpconvs, start=1):
        first = {"strides": strides, "padding": "valid"} if index == 1 and strides > 1 else {}
        x = _mlpconv(x, kernel_size, widths, first, name=f"mlpconv{index}")
        endpoints[f"stage{level}"] = x
        if index < len(mlpconvs):
            x = POOLS[pools[index - 1]](x, name=f"pool{index}")
            level += 1
            if drops[index - 1] and dropout:
                x = keras.layers.Dropout(dropout, name=f"dropout{index}")(x)
    if num_classes:
        endpoints["logits"] = blocks.conv_gap_head(x, num_classes)
    return endpoints


for _variants, _size, _min_size, _stages in (
    (CIFAR, 32, 2, range(3)),
    (IMAGENET, 224, 39, range(2, 6)),
):
    register(
        _variants,
        input_shape=(_size, _size, 3),
        min_size=_min_size,
        stages=_stages,
        paper=PAPER,
        counts=COUNTS,
    )(nin)


def _mlpconv(x, kernel_size, widths, first, *, name):
    """Applies a convolution, then 1 x 1 convolutions: a perceptron shared by all pixels."""
    x = blocks.conv_relu(x, widths[0], kernel_size, **first, name=f"{name}_conv")
    for index, width in enumerate(widths[1:], start=1):
        x = blocks.conv_relu(x, width, 1, name=f"{name}_mlp{index}")
    return x


def _check(mlpconvs, pools, drops):
    if not len(mlpconvs) - 1 == len(pools) == len(drops):
        raise UsageError(
            f"nin needs one pool and drop per layer but the last; got {len(mlpconvs)} mlpconvs, "
            f"{len(pools)} pools, {len(drops)} drops"
        )
    for pool in pools:
        if pool not in POOLS:
            raise unknown_name_error("pooling", pool, list(POOLS))
