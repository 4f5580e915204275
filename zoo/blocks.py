"""Layer patterns that two or more families share: tensors in, tensors out."""

from __future__ import annotations

import math

from zoo.errors import UsageError, unknown
from zoo.lazy import keras, layers

IMAGENET = ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))  # R, G, B: mean, deviation, of 1

PREPROCESSING = {  # name: what `PixelNormalization` is told
    "none": None,
    "tf": {"mean": 127.5, "scale": 127.5},
    "torch": {"mean": (123.675, 116.28, 103.53), "scale": (58.395, 57.12, 57.375)},
    "caffe": {"mean": (103.939, 116.779, 123.68), "scale": 1.0, "reverse": True},
    # What comes before the layers that Keras's EfficientNets begin with, x / 255 and
    # (x - mean) / sqrt(deviation): with it they standardise, as they should.
    "efficientnet": {
        "mean": tuple(255 * mean * (1 - deviation**0.5) for mean, deviation in IMAGENET),
        "scale": tuple(deviation**0.5 for _, deviation in IMAGENET),
    },
}

NORMS = ("batch", "layer", "group", "none")
GROUPS = 8  # of a group normalisation, or fewer where the channels do not divide by it
BATCH_NORM = {"epsilon": 1.001e-5, "momentum": 0.9}  # Keras's ResNet epsilon, PyTorch's momentum


def preprocess(image, name):
    """Maps pixels in [0, 255] to what the network called for, as its first layer.

    Args:
        image: `(batch, height, width, channels)`, RGB or of any other number of channels,
            which are then treated alike: `PixelNormalization` says how.
        name: a key of `PREPROCESSING`: `tf` gives [-1, 1], `torch` RGB standardised by
            ImageNet's mean and deviation, `caffe` BGR less ImageNet's mean, `none` nothing.
    """
    if name not in PREPROCESSING:
        raise unknown("preprocessing", name, list(PREPROCESSING))
    if PREPROCESSING[name] is None:
        return image
    return layers.PixelNormalization(**PREPROCESSING[name], name="pixels")(image)


def conv(x, filters, kernel_size, strides=1, *, bias=False, name):
    """Convolution without activation, padded by `kernel_size // 2` on every side.

    Symmetric padding is what Keras's own ResNets and PyTorch do; TensorFlow's `same` would pad
    one side only where the stride is 2.
    """
    padding = "same"
    if strides > 1 and kernel_size > 1:
        x = keras.layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)
        padding = "valid"
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding=padding,
        use_bias=bias,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)


def norm(x, activation="relu", *, name):
    """Batch normalisation, then the activation or, for `None`, nothing."""
    x = keras.layers.BatchNormalization(**BATCH_NORM, name=f"{name}_bn")(x)
    if activation is None:
        return x
    return keras.layers.Activation(activation, name=f"{name}_{activation}")(x)


def conv_bn(x, filters, kernel_size, strides=1, *, bias=False, activation="relu", name):
    """Convolution as `conv` pads it, batch normalisation, activation."""
    x = conv(x, filters, kernel_size, strides, bias=bias, name=name)
    return norm(x, activation, name=name)


def conv_relu(x, filters, kernel_size, strides=1, *, padding="same", groups=1, name):
    """Convolution with a bias, and `relu`, in one layer."""
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding=padding,
        groups=groups,
        activation="relu",
        kernel_initializer="he_normal",
        name=name,
    )(x)


def ceil_pool(x, *, name):
    """The maximum of 3 x 3 pixels at every second one, where the last window may hang over.

    This is how Caffe, and PyTorch's `ceil_mode`, count windows; `same` would pad another side of
    maps of an odd size. What is outside counts as 0, so `x` must not be negative.
    """
    x = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_pad")(x)
    return keras.layers.MaxPooling2D(3, 2, name=name)(x)


def padded_pool(x, *, name):
    """The maximum of 3 x 3 pixels at every second one, padded by a pixel on every side.

    What is outside counts as 0, so `x` should not be negative.
    """
    x = keras.layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    return keras.layers.MaxPooling2D(3, 2, name=f"{name}_pool")(x)


def normalise(x, kind, *, name):
    """Normalises by `batch`, `layer` or `group`; `none` gives `x` as it is."""
    if kind == "batch":
        return keras.layers.BatchNormalization(**BATCH_NORM, name=f"{name}_bn")(x)
    if kind == "layer":
        return keras.layers.LayerNormalization(name=f"{name}_ln")(x)
    if kind == "group":
        groups = math.gcd(GROUPS, x.shape[-1])
        return keras.layers.GroupNormalization(groups, name=f"{name}_gn")(x)
    return x


def activate(x, activation, *, name):
    """Applies the activation that Keras calls `activation`."""
    try:
        function = keras.activations.get(activation)
    except ValueError as error:
        known = [word for word in dir(keras.activations) if not word.startswith("_")]
        raise unknown("activation", activation, known) from error
    return keras.layers.Activation(function, name=name)(x)


def flatten(x):
    """Lays out maps as a vector: (batch, h, w, c) -> (batch, h * w * c)."""
    if None in x.shape[1:]:
        raise UsageError("a dense layer over all pixels needs a fixed size; give input_shape")
    return keras.layers.Flatten(name="flatten")(x)


def dense_head(x, num_classes, hidden, *, dropout=0.0):
    """Dense layers over all pixels, each with `relu` and dropout, then the logits.

    Without `hidden` layers it is `pooled_head`.
    """
    if not hidden:
        return pooled_head(x, num_classes, dropout=dropout)
    x = flatten(x)
    for index, units in enumerate(hidden, start=1):
        name = f"fc{index}"
        init = "he_normal"
        x = keras.layers.Dense(units, activation="relu", kernel_initializer=init, name=name)(x)
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"{name}_dropout")(x)
    return logits(x, num_classes)


def pooled_head(x, num_classes, *, dropout=0.0):
    """Global average pooling, dropout, logits: (batch, h, w, c) -> (batch, num_classes)."""
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return logits(x, num_classes, dropout=dropout)


def mapped_head(x, num_classes, *, dropout=0.0):
    """Dropout, one map a class with `relu`, the averages of the maps: no dense layer.

    (batch, h, w, c) -> (batch, num_classes), in float32 and not negative.
    """
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    x = keras.layers.Conv2D(num_classes, 1, dtype="float32", name="logits")(x)
    x = keras.layers.Activation("relu", dtype="float32", name="logits_relu")(x)
    return keras.layers.GlobalAveragePooling2D(dtype="float32", name="pool")(x)


def logits(x, num_classes, *, dropout=0.0):
    """Dropout and a float32 dense layer: (batch, features) -> (batch, num_classes)."""
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    return keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
