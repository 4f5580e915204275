"""SegNet: a decoder that upsamples with the max-pooling indices of the encoder."""

from __future__ import annotations

from zoo.catalog import register
from zoo.errors import UsageError
from zoo.lazy import keras
from zoo.lazy_layers import layers
from zoo.parts import blocks, encoder, padding

PAPER = "https://arxiv.org/abs/1511.00561"

DEPTHS = (2, 2, 3, 3, 3)  # convolutions in each block, as in VGG16
# Three blocks: after a fourth pooling little more than the indices is left of an image of 128
# pixels and, trained on that, the network predicts background everywhere for several epochs.
WIDTHS = (16, 40, 80)

COUNTS = {  # trainable parameters, FLOPs
    "segnet": (336_203, 1_137_180_672),
    "segnet_vgg16": (29_449_355, 227_200_204_800),
}

SHARED_OPTIONS = {"kind": "segmenter", "preprocessing": "none", "paper": PAPER, "counts": COUNTS}


@register({"segnet_vgg16": {"backbone": "vgg16_bn"}}, input_shape=(360, 480, 3), **SHARED_OPTIONS)
@register({"segnet": {}}, input_shape=(128, 128, 3), **SHARED_OPTIONS)
def segnet(
    image,
    num_classes=11,
    *,
    backbone=None,
    backbone_weights=None,
    depths=DEPTHS,
    widths=WIDTHS,
):
    """Builds a SegNet (Badrinarayanan et al., 2015, section 3).

    Each block of the encoder ends in max pooling with indices; the decoder mirrors the encoder, and
    each of its blocks begins by unpooling with those indices. `segnet_vgg16` is the paper's, with
    29,449,355 parameters for 11 classes and 29,455,125 for 21, the "29.5M" of the literature: each
    convolution has a bias and is normalized, except the last one, which gives the logits.
    `segnet` is narrower and has three blocks, for small images.

    Departures: images are padded by reflection to a multiple of the stride, and the logits cropped;
    `segnet` has no biases before normalization, and scales pixels to [-1, 1]. Without batch
    normalization in the encoder (`backbone="vgg16"`, for which there are pretrained weights) the
    decoder still has it. With other backbones, the indices are those of a pooling of each stage's
    endpoint, which the backbone itself does not use; where the first stage is smaller than the
    image, the logits are upsampled.

    Args:
        image: `(batch, height, width, channels)`, pixels in [0, 255]; any height and width.
        num_classes: width of the logits.
        backbone: name of a model with stages, instead of SegNet's own encoder.
        backbone_weights: a weights file instead of the tag's source, or `"random"`.
        depths: the number of convolutions in each block, first to last, at least as many as
            blocks; with a backbone, those of the decoder.
        widths: channels of each block of SegNet's own encoder.

    Returns:
        Endpoints: the stages of the encoder, and `logits` of the image's height and width,
        `(batch, height, width, num_classes)`.
    """
    if backbone:
        padded = padding.pad_to_multiple(image, encoder.stage_stride(backbone))
        endpoints = encoder.backbone_features(padded, backbone, backbone_weights)
        *pooled, last = endpoints
        pool_indices = {name: _pool(endpoints[name], f"places_{name}")[1] for name in pooled}
    else:
        depths = _check_depths(depths, widths)
        padded = padding.pad_to_multiple(image, 2 ** len(depths))
        endpoints, pool_indices = _encode(blocks.preprocess(padded, "tf"), depths, widths)
        *pooled, last = endpoints
    if not 0 < len(pooled) <= len(depths):
        raise UsageError(f"segnet needs depths for {len(pooled)} stages; got {tuple(depths)}")
    x = endpoints[last]
    for index in reversed(range(len(pooled))):
        name = pooled[index]
        width, after = (endpoints[pooled[i]].shape[-1] for i in (index, max(0, index - 1)))
        x = _unpool(x, pool_indices[name], width, bool(backbone), name=name)
        outputs = [*[width] * (depths[index] - 1), *([after] if index else [])]
        for number, filters in enumerate(outputs, start=1):
            label = f"decoder{index + 1}_{number}"
            x = blocks.conv_bn(x, filters, 3, bias=bool(backbone), name=label)
    x = keras.layers.Conv2D(num_classes, 3, padding="same", dtype="float32", name="logits")(x)
    return {**endpoints, "logits": padding.restore_size(x, padded, image)}


def _encode(x, depths, widths):
    """Returns the stages of the encoder, and the pooling indices of all but the last."""
    endpoints, pool_indices = {}, {}
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        name = f"stage{stage}"
        for index in range(1, depth + 1):
            x = blocks.conv_bn(x, width, 3, name=f"block{stage + 1}_{index}")
        x = endpoints[name] = encoder.mark_stage(x, name)
        x, pool_indices[name] = _pool(x, f"block{stage + 1}_pool")
    name = f"stage{len(depths)}"
    return {**endpoints, name: encoder.mark_stage(x, name)}, pool_indices


def _pool(x, name):
    return layers.ArgmaxPooling2D(name=name)(x)


def _unpool(x, pool_indices, width, bias, *, name):
    """Unpools maps with the indices of a stage, after a convolution to the stage's width."""
    if x.shape[-1] != width:
        x = blocks.conv_bn(x, width, 3, bias=bias, name=f"narrowed_{name}")
    x = padding.resize_to(x, pool_indices, name=f"resized_{name}")
    return layers.MaxUnpooling2D(name=f"unpooled_{name}")([x, pool_indices])


def _check_depths(depths, widths):
    """Returns the depths of the blocks, one per width."""
    if len(depths) < len(widths) or min(depths, default=0) < 1:
        raise UsageError(
            f"segnet needs a width and a depth from 1 for each block; got depths={tuple(depths)}, "
            f"widths={tuple(widths)}"
        )
    return depths[: len(widths)]
