"""ResNet v2: pre-activation blocks, whose shortcuts are identities from first to last block."""

from __future__ import annotations

from zoo.catalog import register
from zoo.errors import unknown_name_error
from zoo.lazy import keras
from zoo.parts.blocks import bn_act, conv, padded_pool, padded_shortcut, pooled_head

PAPER = "https://arxiv.org/abs/1603.05027"


def basic(x, before, filters, strides, *, padded, name):
    """Applies the basic block of two 3 x 3 convolutions.

    `x` is the activated `before`; a shortcut that changes the shape starts from `x`.
    """
    shortcut = before
    if strides != 1 or before.shape[-1] != filters:
        if padded:
            shortcut = padded_shortcut(x, filters, strides, name=f"{name}_0_pad")
        else:
            shortcut = conv(x, filters, 1, strides, name=f"{name}_0")
    x = bn_act(conv(x, filters, 3, strides, name=f"{name}_1"), name=f"{name}_1")
    x = conv(x, filters, 3, name=f"{name}_2")
    return keras.layers.Add(name=f"{name}_add")([shortcut, x])


def bottleneck(x, before, filters, strides, *, padded, name):
    """Applies the bottleneck block: 1 x 1 with the stride, 3 x 3, 1 x 1 to `4 * filters`."""
    shortcut = before
    if before.shape[-1] != 4 * filters:
        shortcut = conv(x, 4 * filters, 1, strides, name=f"{name}_0")
    x = bn_act(conv(x, filters, 1, strides, name=f"{name}_1"), name=f"{name}_1")
    x = bn_act(conv(x, filters, 3, name=f"{name}_2"), name=f"{name}_2")
    x = conv(x, 4 * filters, 1, name=f"{name}_3")
    return keras.layers.Add(name=f"{name}_add")([shortcut, x])


BLOCKS = {"basic": basic, "bottleneck": bottleneck}

IMAGENET = {  # He et al., 2015, table 1: blocks in each of the four stages
    "resnet18_v2": {"depths": (2, 2, 2, 2)},
    "resnet34_v2": {"depths": (3, 4, 6, 3)},
}

CIFAR = {  # tables 1 and 2: 6n + 2 layers, and 9n + 2 with bottlenecks
    "resnet20_v2": {"depths": (3, 3, 3)},
    "resnet56_v2": {"depths": (9, 9, 9)},
    "resnet110_v2": {"depths": (18, 18, 18)},
    "resnet164_v2": {"depths": (18, 18, 18), "block": "bottleneck"},
}

COUNTS = {  # trainable parameters, FLOPs
    "resnet20_v2": (269_722, 81_102_080),
    "resnet56_v2": (853_018, 250_971_392),
    "resnet110_v2": (1_727_962, 505_775_360),
    "resnet164_v2": (1_703_258, 489_001_984),
    "resnet18_v2": (11_687_720, 3_628_146_688),
    "resnet34_v2": (21_795_880, 7_327_522_816),
}


@register(
    CIFAR,
    family="resnet_v2",
    input_shape=(32, 32, 3),
    min_size=4,
    stages=range(3),
    paper=PAPER,
    counts=COUNTS,
)
def resnet_v2_cifar(image, num_classes=10, *, depths, block="basic", width=16, dropout=0.0):
    """Builds a pre-activation ResNet for small images (He et al., 2016, section 4 and appendix).

    Departures: `resnet20_v2` and `resnet56_v2` are not in the paper, which has 110, 164 and 1001
    layers; the parameter-free shortcuts of basic blocks (option A) that change the shape start
    from the activated input, as for bottlenecks in the authors' code (KaimingHe/resnet-1k-layers);
    the padding of strided convolutions is symmetric.

    Args:
        image: `(batch, height, width, channels)`, normalized pixels.
        num_classes: width of the logits, or `None` for the stages only.
        depths: the number of blocks in each stage.
        block: a key of `BLOCKS`.
        width: channels of the first stage, doubled in each later stage.
        dropout: rate before the logits; the paper has none.

    Returns:
        Endpoints `stage0`, `stage1`, `stage2`, all activated, and, with classes, `logits`.
    """
    endpoints = {}
    x = bn_act(conv(image, width, 3, name="conv1"), name="conv1")
    for stage, depth in enumerate(depths):
        name, strides = f"conv{stage + 2}", 2 if stage else 1
        x = _stage(x, depth, block, width * 2**stage, strides, padded=True, name=name)
        endpoints[f"stage{stage}"] = x
    if num_classes:
        endpoints["logits"] = pooled_head(x, num_classes, dropout=dropout)
    return endpoints


@register(
    IMAGENET,
    input_shape=(224, 224, 3),
    min_size=32,
    stages=range(1, 6),
    paper=PAPER,
    counts=COUNTS,
)
def resnet_v2(image, num_classes=1000, *, depths, block="basic", width=64, dropout=0.0):
    """Builds a pre-activation ResNet (He et al., 2016, appendix; 2015, table 1).

    `resnet50_v2`, `101` and `152` are Keras's, in `applications.py`. Departures: the paper has
    no networks of 18 or 34 layers, which follow its rules; projections (option B) start from the
    activated input, as in the authors' code, and are not normalized.

    Args:
        image: `(batch, height, width, channels)`, normalized pixels.
        num_classes: width of the logits, or `None` for the stages only.
        depths: the number of blocks in each of the four stages.
        block: a key of `BLOCKS`.
        width: channels of the first stage, doubled in each later stage.
        dropout: rate before the logits; the paper has none.

    Returns:
        Endpoints `stage1` to `stage5`, all activated, and, with classes, `logits`.
    """
    endpoints = {}
    x = endpoints["stage1"] = bn_act(conv(image, width, 7, 2, name="conv1"), name="conv1")
    x = padded_pool(x, name="pool1")
    for stage, depth in enumerate(depths, start=2):
        name, strides = f"conv{stage}", 2 if stage > 2 else 1
        filters = width * 2 ** (stage - 2)
        x = _stage(x, depth, block, filters, strides, padded=False, name=name)
        endpoints[f"stage{stage}"] = x
    if num_classes:
        endpoints["logits"] = pooled_head(x, num_classes, dropout=dropout)
    return endpoints


def _stage(x, depth, block, filters, strides, *, padded, name):
    """Applies the blocks of one stride, from an activated to an activated tensor.

    In the first block both paths start from the activated input; in the others the shortcut
    bypasses the activation.
    """
    if block not in BLOCKS:
        raise unknown_name_error("block of resnet_v2", block, list(BLOCKS))
    before = x
    for index in range(1, depth + 1):
        label = f"{name}_block{index}"
        if index > 1:
            x = bn_act(before, name=f"{label}_preact")
        before = BLOCKS[block](x, before, filters, strides, padded=padded, name=label)
        strides = 1
    return bn_act(before, name=f"{name}_out")
