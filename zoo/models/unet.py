"""U-Net: a decoder with skip connections from every resolution of the encoder."""

from __future__ import annotations

from zoo.catalog import register
from zoo.errors import UsageError
from zoo.lazy import keras
from zoo.parts import blocks, encoder
from zoo.parts import padding as sizes

PAPER = "https://arxiv.org/abs/1505.04597"

PAPER_OPTIONS = {  # figure 1
    "widths": (64, 128, 256, 512, 1024),
    "padding": "valid",
    "batch_norm": False,
    "dropout": 0.5,
    "num_classes": 2,
}

COUNTS = {  # trainable parameters, FLOPs
    "unet": (1_942_917, 1_526_726_656),
    "unet_paper": (31_030_658, 300_856_848_896),
    "unet_backbone": (314_469, 1_795_162_112),
}

SHARED_OPTIONS = {"kind": "segmenter", "paper": PAPER, "counts": COUNTS}


@register(
    {"unet_paper": PAPER_OPTIONS}, input_shape=(388, 388, 1), preprocessing="tf", **SHARED_OPTIONS
)
@register({"unet": {}}, input_shape=(128, 128, 3), preprocessing="tf", **SHARED_OPTIONS)
def unet(
    image,
    num_classes=21,
    *,
    widths=(16, 32, 64, 128, 256),
    padding="same",
    batch_norm=True,
    dropout=0.0,
):
    """Builds a U-Net (Ronneberger et al., 2015, figure 1).

    The contracting path has two convolutions and a max pooling at each resolution; the expanding
    path has transposed convolutions, each concatenated with the encoder's features of the same
    resolution. `unet_paper` has exactly the paper's layers, with 31,030,658 parameters for one
    channel and two classes, and convolutions without padding: the image is padded by reflection, as
    in the paper, so that an image of 388 pixels becomes 572 pixels and the logits have 388. `unet`
    is a quarter as wide, with padding and batch normalization, for small images.

    Departures: `unet_paper` takes any size, padded to the next valid one; the paper does not state
    the rate of its dropout at the end of the contracting path. `unet` has batch normalization after
    each convolution, and no biases (Ioffe & Szegedy, 2015).

    Args:
        image: `(batch, height, width, channels)`, normalized pixels; any height and width.
        num_classes: width of the logits.
        widths: channels at each resolution, from the full one.
        padding: padding of the convolutions: `same`, or `valid` as in the paper.
        batch_norm: whether each convolution is normalized.
        dropout: rate at the lowest resolution, in [0, 1).

    Returns:
        Endpoints `stage0` to `stageN`, one per width (`stage4` with five), and `logits` of the
        image's height and width, `(batch, height, width, num_classes)`.
    """
    _check(widths, padding)
    steps = len(widths) - 1
    stride = 2**steps
    if padding == "valid":  # two convolutions take off four pixels at each resolution, down and up
        padded = sizes.pad_to_multiple(image, stride, 4 % stride, margin=6 * stride - 4)
    else:
        padded = sizes.pad_to_multiple(image, stride)
    style = {"padding": padding, "batch_norm": batch_norm}
    endpoints, x = {}, padded
    for stage, width in enumerate(widths):
        if stage:
            x = keras.layers.MaxPooling2D(2, name=f"down{stage}")(x)
        x = _double_conv(x, width, name=f"encoder{stage}", **style)
        x = endpoints[f"stage{stage}"] = encoder.mark_stage(x, f"stage{stage}")
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    crop = 4
    for stage in reversed(range(steps)):
        x = _up_conv(x, widths[stage], name=f"up{stage}")
        skip = endpoints[f"stage{stage}"]
        if padding == "valid":
            skip = keras.layers.Cropping2D(crop, name=f"cut{stage}")(skip)
            crop = 2 * crop + 8
        x = keras.layers.Concatenate(name=f"joined{stage}")([skip, x])
        x = _double_conv(x, widths[stage], name=f"decoder{stage}", **style)
    x = keras.layers.Conv2D(num_classes, 1, dtype="float32", name="logits")(x)
    return {**endpoints, "logits": sizes.crop_to(x, image, name="logits_cut")}


@register({"unet_backbone": {}}, input_shape=(128, 128, 3), preprocessing="none", **SHARED_OPTIONS)
def unet_backbone(
    image,
    num_classes=21,
    *,
    backbone="resnet20.cifar10",
    backbone_weights=None,
    widths=(256, 128, 64, 32, 16),
    dropout=0.0,
):
    """Builds a U-Net whose contracting path is another model of the zoo.

    The expanding path is that of Ronneberger et al., 2015, from the last stage of the backbone to
    the full resolution. Departures: the encoder; convolutions are padded and have batch
    normalization; the widths of the decoder are options, independent of the encoder's; at a
    resolution for which the backbone has no stage, there is no skip connection.

    Args:
        image: `(batch, height, width, channels)`, pixels in [0, 255]; any height and width.
        num_classes: width of the logits.
        backbone: name of a model with stages.
        backbone_weights: a weights file instead of the tag's source, or `"random"`.
        widths: channels of the decoder at each resolution, the full one last; a backbone of a
            smaller stride uses the last ones.
        dropout: rate after the backbone, in [0, 1).

    Returns:
        Endpoints: the stages of the backbone, and `logits` of the image's height and width,
        `(batch, height, width, num_classes)`.
    """
    padded = sizes.pad_to_multiple(image, encoder.stage_stride(backbone))
    endpoints = encoder.backbone_features(padded, backbone, backbone_weights)
    [*_, last] = endpoints
    steps = encoder.stage_level(last)
    if steps > len(widths):
        raise UsageError(f"unet_backbone on {backbone} needs {steps} widths; got {tuple(widths)}")
    x = (
        keras.layers.Dropout(dropout, name="dropout")(endpoints[last])
        if dropout
        else endpoints[last]
    )
    for level in reversed(range(steps)):
        width = widths[len(widths) - 1 - level]
        x = _up_conv(x, width, name=f"up{level}")
        if f"stage{level}" in endpoints:
            skip = endpoints[f"stage{level}"]
            x = sizes.resize_to(x, skip, name=f"resized{level}")
            x = keras.layers.Concatenate(name=f"joined{level}")([skip, x])
        x = _double_conv(x, width, name=f"decoder{level}")
    x = keras.layers.Conv2D(num_classes, 1, dtype="float32", name="logits")(x)
    return {**endpoints, "logits": sizes.restore_size(x, padded, image)}


def _double_conv(x, width, *, padding="same", batch_norm=True, name):
    """Applies two 3 x 3 convolutions with `relu`, with or without batch normalization."""
    for index in (1, 2):
        label = f"{name}_{index}"
        if not batch_norm:
            x = blocks.conv_relu(x, width, 3, padding=padding, name=f"{label}_conv")
            continue
        x = keras.layers.Conv2D(
            width,
            3,
            padding=padding,
            use_bias=False,
            kernel_initializer="he_normal",
            name=f"{label}_conv",
        )(x)
        x = blocks.bn_act(x, name=label)
    return x


def _up_conv(x, width, *, name):
    """Applies the paper's up-convolution, a transposed convolution of 2 x 2 with stride 2."""
    init = "he_normal"
    return keras.layers.Conv2DTranspose(width, 2, 2, kernel_initializer=init, name=name)(x)


def _check(widths, padding):
    if len(widths) < 2 or padding not in ("same", "valid"):
        raise UsageError(
            f"unet needs at least two widths, and padding same or valid; got "
            f"widths={tuple(widths)}, padding={padding!r}"
        )
