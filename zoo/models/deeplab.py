"""DeepLab: convolutions with holes, so that a wide view costs no resolution."""

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

    The last stage of the backbone, kept at `output_stride` by convolutions with holes, is looked
    at by convolutions of several rates of holes and as a whole; the outcome is stretched, joined
    with a stage of a quarter of that stride, and refined by two convolutions.

    Departures: the backbone is ResNet-50 where the paper has ResNet-101 and a changed Xception;
    rates grow with each stage beyond `output_stride`, without the multi-grid of the authors'
    ResNet; a backbone of no larger stride than that stays as it is. Images are of any size,
    continued to a multiple of the backbone's stride.

    Args:
        image: `(batch, height, width, channels)`, pixels in [0, 255]; sides of any length.
        num_classes: width of the logits.
        backbone: a name of the zoo that has stages.
        backbone_weights: a weights file in place of the tag's source, or `"random"`.
        output_stride: the largest stride of the backbone: 16, or 8 for the paper's best.
        rates: of the convolutions with holes; the paper doubles them for an output stride of 8.
        width: channels of the decoder.
        low_width: channels that the earlier stage is reduced to.
        separable: whether 3 x 3 convolutions are a depthwise and a 1 x 1 one.
        dropout: rate after the atrous pyramid, in [0, 1).

    Returns:
        Endpoints: the stages of the backbone, and `logits`, of the image's height and width.
    """
    padded = padding.pad_to_multiple(image, encoder.stage_stride(backbone))
    ends = encoder.backbone_features(
        padded, backbone, backbone_weights, output_stride=output_stride
    )
    *others, last = ends
    x = _aspp(ends[last], width, rates, separable)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    stride = min(output_stride, 2 ** encoder.stage_level(last))
    low = [name for name in others if 2 ** encoder.stage_level(name) >= min(4, stride / 2)]
    if not low:
        raise UsageError(f"deeplabv3plus needs two stages; {backbone} has {', '.join(ends)}")
    low = ends[low[0]]
    x = padding.resize_to(x, low, name="stretched")
    low = blocks.conv_bn(low, low_width, 1, name="low")
    x = keras.layers.Concatenate(name="joined")([x, low])
    for index in (1, 2):
        x = _atrous_conv(x, width, 1, separable, name=f"decoder{index}")
    x = keras.layers.Conv2D(num_classes, 1, dtype="float32", name="logits")(x)
    return {**ends, "logits": padding.restore_size(x, padded, image)}


def _aspp(x, width, rates, separable):
    """Looks at maps pixel by pixel, with holes of several sizes, and as a whole."""
    views = [blocks.conv_bn(x, width, 1, name="atrous0")]
    for index, rate in enumerate(rates, start=1):
        views.append(_atrous_conv(x, width, rate, separable, name=f"atrous{index}"))
    image_pool = keras.layers.GlobalAveragePooling2D(keepdims=True, name="whole_pool")(x)
    image_pool = blocks.conv_bn(image_pool, width, 1, name="whole")
    views.append(padding.resize_to(image_pool, x, name="whole_stretched"))
    x = keras.layers.Concatenate(name="atrous")(views)
    return blocks.conv_bn(x, width, 1, name="atrous_joined")


def _atrous_conv(x, filters, rate, separable, *, name):
    """A 3 x 3 convolution with holes, normalised, with `relu`."""
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
