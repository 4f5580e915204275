"""DeepLab: atrous (dilated) convolutions, for a large receptive field at high resolution."""

from __future__ import annotations

from zoo.catalog import register
from zoo.errors import UsageError
from zoo.lazy import keras
from zoo.parts import blocks, encoder, padding

PAPER = "https://arxiv.org/abs/1802.02611"

VARIANTS = {"deeplabv3plus": {}}

COUNTS = {  # trainable parameters, FLOPs
    "deeplabv3plus": (26_722_693, 73_763_651_584),
}


@register(
    VARIANTS,
    kind="segmenter",
    input_shape=(512, 512, 3),
    preprocessing="none",
    paper=PAPER,
    counts=COUNTS,
)
def deeplab(
    image,
    num_classes=21,
    *,
    backbone="resnet50",
    backbone_weights=None,
    output_stride=16,
    rates=(6, 12, 18),
    width=256,
    low_width=48,
    separable=True,
    dropout=0.1,
):
    """Builds a DeepLabv3+ (Chen et al., 2018, figure 2).

    The last stage of the backbone, kept at `output_stride` by dilated convolutions, goes through
    atrous spatial pyramid pooling: parallel convolutions of several dilation rates, and global
    average pooling. The result is upsampled, concatenated with a stage of a quarter of that stride,
    and refined by two convolutions.

    Departures: the backbone is ResNet-50 where the paper has ResNet-101 and a modified Xception;
    dilation rates double with each stage beyond `output_stride`, without the multi-grid of the
    authors' ResNet; a backbone of no larger stride is not changed. Images of any size are padded by
    reflection to a multiple of the backbone's stride.

    Args:
        image: `(batch, height, width, channels)`, pixels in [0, 255]; any height and width.
        num_classes: width of the logits.
        backbone: name of a model with stages.
        backbone_weights: a weights file instead of the tag's source, or `"random"`.
        output_stride: the largest stride of the backbone: 16, or 8 for the paper's best result.
        rates: dilation rates of the atrous pyramid; the paper doubles them for an output stride
            of 8.
        width: channels of the decoder.
        low_width: channels that the earlier (low-level) stage is reduced to.
        separable: whether 3 x 3 convolutions are depthwise separable.
        dropout: rate after the atrous pyramid, in [0, 1).

    Returns:
        Endpoints: the stages of the backbone, and `logits` of the image's height and width,
        `(batch, height, width, num_classes)`.
    """
    padded = padding.pad_to_multiple(image, encoder.stage_stride(backbone))
    endpoints = encoder.backbone_features(
        padded, backbone, backbone_weights, output_stride=output_stride
    )
    *others, last = endpoints
    x = _aspp(endpoints[last], width, rates, separable)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    stride = min(output_stride, 2 ** encoder.stage_level(last))
    low = [name for name in others if 2 ** encoder.stage_level(name) >= min(4, stride / 2)]
    if not low:
        raise UsageError(f"deeplabv3plus needs two stages; {backbone} has {', '.join(endpoints)}")
    low = endpoints[low[0]]
    x = padding.resize_to(x, low, name="stretched")
    low = blocks.conv_bn(low, low_width, 1, name="low")
    x = keras.layers.Concatenate(name="joined")([x, low])
    for index in (1, 2):
        x = _atrous_conv(x, width, 1, separable, name=f"decoder{index}")
    x = keras.layers.Conv2D(num_classes, 1, dtype="float32", name="logits")(x)
    return {**endpoints, "logits": padding.restore_size(x, padded, image)}


def _aspp(x, width, rates, separable):
    """Applies atrous spatial pyramid pooling (ASPP), with image-level features."""
    branches = [blocks.conv_bn(x, width, 1, name="atrous0")]
    for index, rate in enumerate(rates, start=1):
        branches.append(_atrous_conv(x, width, rate, separable, name=f"atrous{index}"))
    image_pool = keras.layers.GlobalAveragePooling2D(keepdims=True, name="whole_pool")(x)
    image_pool = blocks.conv_bn(image_pool, width, 1, name="whole")
    branches.append(padding.resize_to(image_pool, x, name="whole_stretched"))
    x = keras.layers.Concatenate(name="atrous")(branches)
    return blocks.conv_bn(x, width, 1, name="atrous_joined")


def _atrous_conv(x, filters, rate, separable, *, name):
    """Applies a dilated 3 x 3 convolution, batch normalization and `relu`."""
    options = {"padding": "same", "dilation_rate": rate, "use_bias": False}
    if separable:
        x = keras.layers.DepthwiseConv2D(
            3, depthwise_initializer="he_normal", **options, name=f"{name}_depth_conv"
        )(x)
        x = blocks.bn_act(x, name=f"{name}_depth")
        return blocks.conv_bn(x, filters, 1, name=name)
    x = keras.layers.Conv2D(
        filters, 3, kernel_initializer="he_normal", **options, name=f"{name}_conv"
    )(x)
    return blocks.bn_act(x, name=name)
