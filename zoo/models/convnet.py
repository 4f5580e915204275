"""ConvNet: a plain stack of convolutions, all of whose hyperparameters are options."""

from __future__ import annotations

import math

from zoo.catalog import register
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import keras
from zoo.parts import blocks

PAPER = "https://doi.org/10.1162/neco.1989.1.4.541"

VARIANTS = {"convnet": {}}

COUNTS = {  # trainable parameters, FLOPs
    "convnet": (814_250, 59_308_032),
}

POOLING = {"max": "MaxPooling2D", "average": "AveragePooling2D"}
HEADS = {  # from the last maps to a vector
    "flatten": blocks.flatten,
    "pool": lambda x: keras.layers.GlobalAveragePooling2D(name="pool")(x),
}


@register(VARIANTS, input_shape=(28, 28, 1), stages=range(4), paper=PAPER, counts=COUNTS)
def convnet(
    image,
    num_classes=10,
    *,
    depths=(2, 2, 2),
    widths=(32, 64, 128),
    kernel_size=3,
    activation="relu",
    batch_norm=True,
    norm="batch",
    skip=False,
    pooling="max",
    pool_size=2,
    conv_dropout=0.2,
    head="flatten",
    hidden=(256,),
    hidden_dropout=0.5,
    initializer="he_normal",
    weight_decay=0.0,
):
    """Builds a stack of convolutions, poolings and dense layers (LeCun et al., 1989).

    Each block repeats convolution, batch normalization (Ioffe & Szegedy, 2015) and activation,
    and ends in pooling and dropout (Srivastava et al., 2014); dense layers follow. Departure: only
    the principle is that of 1989. The defaults suit images of 28 to 32 pixels.

    Args:
        image: `(batch, height, width, channels)`, normalized pixels; of a fixed size unless
            `head` is `pool`.
        num_classes: width of the logits, or `None` for the stages only.
        depths: the number of convolutions in each block, for any number of blocks.
        widths: channels of each block.
        kernel_size: height and width of the convolutions: one value, or one per block.
        activation: Keras's name of the activation after each convolution and hidden layer.
        batch_norm: whether each convolution and hidden layer is normalized before its
            activation.
        norm: kind of normalization: `batch`, `layer` (Ba et al., 2016; over each pixel's
            channels), `group` (Wu & He, 2018; in `blocks.NUM_GROUPS` groups of channels), or
            `none`.
        skip: whether the input of a block is added before its last activation (He et al., 2016),
            through a 1 x 1 convolution where the channels differ: one value, or one per block.
        pooling: pooling at the end of a block, `max` or `average`: one value, or one per block.
        pool_size: height, width and stride of the pooling windows.
        conv_dropout: rate after each pooling, in [0, 1).
        head: how the last maps become a vector: `flatten`, or `pool` for global average
            pooling.
        hidden: units of each dense layer before the logits, for any number of layers.
        hidden_dropout: rate after each hidden layer, in [0, 1).
        initializer: Keras's name of the kernels' initializer.
        weight_decay: factor of the L2 penalty on the kernels.

    Returns:
        Endpoints `stageN`, the last tensor with stride `2**N`, and, with classes, `logits`.
    """
    block_options = _per_block_options(
        depths, widths=widths, kernel_size=kernel_size, skip=skip, pooling=pooling
    )
    norm = norm if batch_norm else "none"
    _check(block_options["pooling"], head, norm)
    kernels = {
        "kernel_initializer": initializer,
        "kernel_regularizer": keras.regularizers.L2(weight_decay) if weight_decay else None,
        "use_bias": norm == "none",
    }
    endpoints, x = {}, image
    rows = zip(depths, *block_options.values(), strict=True)
    for block, (depth, width, size, skips, pool) in enumerate(rows, start=1):
        entry = x
        for index in range(1, depth + 1):
            name = f"block{block}_conv{index}"
            x = keras.layers.Conv2D(width, size, padding="same", **kernels, name=name)(x)
            x = blocks.normalise(x, norm, name=name)
            if skips and index == depth:
                x = _add_skip(x, entry, kernels, name=f"block{block}_skip")
            x = blocks.activate(x, activation, name=f"{name}_activation")
        endpoints |= _stage(x, pool_size ** (block - 1))
        pool = getattr(keras.layers, POOLING[pool])
        x = pool(pool_size, padding="same", name=f"block{block}_pool")(x)
        x = keras.layers.Dropout(conv_dropout, name=f"block{block}_dropout")(x)
    endpoints |= _stage(x, pool_size ** len(depths))
    if num_classes:
        x = HEADS[head](x)
        for index, width in enumerate(hidden, start=1):
            name = f"hidden{index}"
            x = keras.layers.Dense(width, **kernels, name=name)(x)
            x = blocks.normalise(x, norm, name=name)
            x = blocks.activate(x, activation, name=f"{name}_activation")
            x = keras.layers.Dropout(hidden_dropout, name=f"{name}_dropout")(x)
        endpoints["logits"] = blocks.logits(x, num_classes)
    return endpoints


def _add_skip(x, entry, kernels, *, name):
    """Adds the input of a block to the output of its convolutions."""
    if entry.shape[-1] != x.shape[-1]:
        plain = {**kernels, "use_bias": False}
        entry = keras.layers.Conv2D(x.shape[-1], 1, **plain, name=name)(entry)
    return keras.layers.Add(name=f"{name}_add")([x, entry])


def _stage(x, strides):
    """Returns `x` as an endpoint if its stride is a power of two; other strides have no name."""
    level = math.log2(strides)
    return {f"stage{int(level)}": x} if level.is_integer() else {}


def _per_block_options(depths, **block_options):
    """Returns for each option its values per block; a single value applies to all blocks."""
    found = {}
    for name, value in block_options.items():
        each = value if isinstance(value, list | tuple) else [value] * len(depths)
        if len(each) != len(depths):
            raise UsageError(
                f"convnet needs a {name.removesuffix('s')} for each depth; "
                f"got depths={tuple(depths)}, {name}={tuple(each)}"
            )
        found[name] = each
    return found


def _check(pooling, head, norm):
    for kind in pooling:
        if kind not in POOLING:
            raise unknown_name_error("pooling", kind, list(POOLING))
    if head not in HEADS:
        raise unknown_name_error("head of convnet", head, list(HEADS))
    if norm not in blocks.NORMALIZATIONS:
        raise unknown_name_error("normalization", norm, blocks.NORMALIZATIONS)
