"""Fast style transfer: a feed-forward image transformation network."""

from __future__ import annotations

from zoo.catalog import register
from zoo.errors import unknown_name_error
from zoo.lazy import keras
from zoo.lazy_layers import layers
from zoo.parts import blocks
from zoo.parts import padding as sizes

PAPER = "https://arxiv.org/abs/1603.08155"

PAPER_OPTIONS = {"norm": "batch", "enlarging": "transposed", "padding": "valid", "output": "tanh"}

COUNTS = {  # trainable parameters, FLOPs
    "fast_style": (1_677_635, 20_157_825_024),
    "fast_style_paper": (1_677_635, 21_877_014_528),
}

INSTANCE_EPSILON = 1e-5  # of PyTorch, and so of most implementations
MARGIN = 4  # pixels that a 9 x 9 convolution takes off each side of an image
STRIDE = 4
OUTPUT_KERNEL_STD = 5e-3  # of the initializer of the last kernel


@register(
    {"fast_style": {}, "fast_style_paper": PAPER_OPTIONS},
    kind="stylizer",
    input_shape=(256, 256, 3),
    preprocessing="tf",
    paper=PAPER,
    counts=COUNTS,
)
def fast_style(
    image,
    *,
    width=32,
    depth=5,
    norm="instance",
    enlarging="nearest",
    padding="reflect",
    output="change",
):
    """Builds an image transformation network (Johnson et al., 2016, supplement, table 1).

    Two convolutions of stride 2, residual blocks at a quarter of the size, and two upsampling
    convolutions, between 9 x 9 convolutions. `fast_style_paper` is the paper's: batch
    normalization, transposed convolutions, and residual blocks without padding, for which the
    image is padded by reflection by 40 pixels on every side. `fast_style` is the form in use since:
    instance normalization (Ulyanov et al., 2016, arXiv:1607.08022), nearest-neighbor upsampling
    before a convolution, which avoids checkerboard artifacts (Odena et al., 2016), and reflection
    padding before each convolution. It outputs the change of the pixels, where the paper's outputs
    the pixels themselves: at first it returns the image, and need not learn to copy it.

    Departures: images whose sides are not a multiple of 4 (`fast_style`: 8) are padded by
    reflection, and the result is cropped. Inside, pixels are in [-1, 1]; outputs are clipped to
    their range, but not in training. The last kernel is initialized with small values: from black
    or white pixels, where `tanh` saturates, training would be slow.

    Args:
        image: `(batch, height, width, channels)`, pixels in [-1, 1]; any height and width.
        width: channels at full resolution; twice and four times as many at half and a quarter.
        depth: the number of residual blocks.
        norm: normalization after each convolution: `instance` or `batch`.
        enlarging: upsampling by `nearest` neighbors, or by `transposed` convolutions.
        padding: `reflect`, or `valid` for residual blocks that are not padded.
        output: `change`, which is added to the image, or `tanh`, for the pixels themselves.

    Returns:
        Endpoint `picture`, of the image's shape, float32 in [0, 255].
    """
    _check(norm=norm, enlarging=enlarging, padding=padding, output=output)
    style = {"norm": norm, "padding": padding}
    reflect = padding == "reflect"
    if reflect:  # maps at a quarter of the size need two pixels to be reflected
        x = sizes.pad_to_multiple(image, 2 * STRIDE, margin=MARGIN)
    else:  # every residual block takes two pixels off each side
        x = sizes.pad_to_multiple(image, STRIDE, margin=2 * STRIDE * depth)
    x = _convolve(x, width, 9, name="conv1", **style, padded=reflect)
    x = _convolve(x, 2 * width, 3, 2, name="down1", **style)
    x = _convolve(x, 4 * width, 3, 2, name="down2", **style)
    for number in range(1, depth + 1):
        x = _residual(x, 4 * width, name=f"block{number}", **style)
    for number, channels in enumerate((2 * width, width), start=1):
        x = _upsample(x, channels, enlarging, name=f"up{number}", **style)
    if reflect:
        x = layers.ReflectionPadding2D(MARGIN, name="picture_pad")(x)
    return {"picture": _pixels(x, image, output, "valid" if reflect else "same")}


def _convolve(x, filters, side, strides=1, *, norm, padding, name, padded=False, relu=True):
    """Applies a convolution, after reflection padding unless `padded`, a norm and `relu`."""
    reflect = padding == "reflect"
    if reflect and not padded:
        x = layers.ReflectionPadding2D(side // 2, name=f"{name}_pad")(x)
    x = keras.layers.Conv2D(
        filters,
        side,
        strides,
        padding="valid" if reflect else "same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    return _normalise(x, norm, relu=relu, name=name)


def _residual(x, filters, *, norm, padding, name):
    """Adds two convolutions to their input, without `relu` afterwards."""
    style = {"norm": norm, "padding": padding}
    if padding == "reflect":
        inner = _convolve(x, filters, 3, name=f"{name}_1", **style)
        inner = _convolve(inner, filters, 3, name=f"{name}_2", relu=False, **style)
    else:
        inner = _unpadded(x, filters, norm, relu=True, name=f"{name}_1")
        inner = _unpadded(inner, filters, norm, relu=False, name=f"{name}_2")
        x = keras.layers.Cropping2D(2, name=f"{name}_cut")(x)
    return keras.layers.Add(name=f"{name}_add")([x, inner])


def _unpadded(x, filters, norm, *, relu, name):
    init = "he_normal"
    x = keras.layers.Conv2D(
        filters, 3, use_bias=False, kernel_initializer=init, name=f"{name}_conv"
    )(x)
    return _normalise(x, norm, relu=relu, name=name)


def _upsample(x, filters, enlarging, *, norm, padding, name):
    """Upsamples maps by two."""
    if enlarging == "nearest":
        x = keras.layers.UpSampling2D(2, name=f"{name}_double")(x)
        return _convolve(x, filters, 3, norm=norm, padding=padding, name=name)
    x = keras.layers.Conv2DTranspose(
        filters,
        3,
        2,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    return _normalise(x, norm, name=name)


def _pixels(x, image, output, padding):
    """Applies the last convolution, whose output are pixels or changes of the image's pixels."""
    init = keras.initializers.RandomNormal(stddev=OUTPUT_KERNEL_STD)
    x = keras.layers.Conv2D(
        image.shape[-1], 9, padding=padding, kernel_initializer=init, name="picture_conv"
    )(x)
    x = sizes.crop_to(x, image, name="picture_cut")
    if output == "change":
        x = keras.layers.Add(dtype="float32", name="picture_add")([image, x])
    else:
        x = keras.layers.Activation("tanh", dtype="float32", name="picture_tanh")(x)
    x = keras.layers.Rescaling(127.5, 127.5, dtype="float32", name="picture_pixels")(x)
    return layers.ClipAtInference(0.0, 255.0, dtype="float32", name="picture")(x)


def _normalise(x, norm, *, relu=True, name):
    """Applies instance or batch normalization, then `relu` or nothing."""
    if norm == "batch":
        return blocks.bn_act(x, "relu" if relu else None, name=name)
    x = keras.layers.GroupNormalization(-1, epsilon=INSTANCE_EPSILON, name=f"{name}_norm")(x)
    return keras.layers.Activation("relu", name=f"{name}_relu")(x) if relu else x


def _check(**options):
    known = {
        "norm": ("instance", "batch"),
        "enlarging": ("nearest", "transposed"),
        "padding": ("reflect", "valid"),
        "output": ("change", "tanh"),
    }
    for option, value in options.items():
        if value not in known[option]:
            raise unknown_name_error(f"{option} of fast_style", value, known[option])
