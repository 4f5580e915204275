"""Layer patterns that two or more families share: tensors in, tensors out."""

from __future__ import annotations

import math

from zoo import graphs
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import keras, np

IMAGENET = ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))  # R, G, B in [0, 1]: mean, std

PREPROCESSING = {  # name: arguments of `normalise_pixels`
    "none": None,
    "tf": {"mean": 127.5, "scale": 127.5},
    "torch": {"mean": (123.675, 116.28, 103.53), "scale": (58.395, 57.12, 57.375)},
    "caffe": {"mean": (103.939, 116.779, 123.68), "scale": 1.0, "reverse": True},
    # For the first layers of Keras's EfficientNets, x / 255 and (x - mean) / sqrt(std): after this
    # preprocessing, they standardize pixels as intended.
    "efficientnet": {
        "mean": tuple(255 * mean * (1 - deviation**0.5) for mean, deviation in IMAGENET),
        "scale": tuple(deviation**0.5 for _, deviation in IMAGENET),
    },
}

RGB = 3
PREPROCESSING_LAYER = "pixels"  # name of the first layer of a network
# From ones of shape (batch, tokens, 1) to learned vectors, one per token.
TOKEN_EQUATION = "bti,itw->btw"
NORMALIZATIONS = ("batch", "layer", "group", "none")
NUM_GROUPS = 8  # of group normalization, or fewer where it does not divide the channels
BATCH_NORM = {"epsilon": 1.001e-5, "momentum": 0.9}  # Keras's ResNet epsilon, PyTorch's momentum


def preprocess(image, name):
    """Preprocesses pixels in [0, 255] as the network expects, as its first layer.

    Args:
        image: `(batch, height, width, channels)`, RGB or of any other number of channels,
            which are then all treated the same; see `normalise_pixels`.
        name: a key of `PREPROCESSING`: `tf` scales to [-1, 1], `torch` standardizes RGB by
            ImageNet's mean and standard deviation, `caffe` subtracts ImageNet's mean from BGR,
            `none` returns the image unchanged.
    """
    if name not in PREPROCESSING:
        raise unknown_name_error("preprocessing", name, list(PREPROCESSING))
    if PREPROCESSING[name] is None:
        return image
    return normalise_pixels(image, **PREPROCESSING[name])


def normalise_pixels(image, mean=0.0, scale=1.0, reverse=False):
    """Computes `(x - mean) / scale` with layers of Keras, in float32 or, by dtype policy, float64.

    Half precision has too few significant bits for a difference of pixels.

    Args:
        image: `(batch, height, width, channels)`, pixels in [0, 255] of any numeric dtype.
        mean: the mean: a number, or one per channel in the order of the output. An image with
            another number of channels gets the average mean and scale in every channel.
        scale: the divisor, a number or one per channel likewise.
        reverse: whether to convert RGB to BGR first; images with other channels are not changed.
    """
    channels = image.shape[-1]
    if reverse and channels == RGB:
        image = keras.ops.flip(image, axis=-1)
    policy = keras.config.dtype_policy().compute_dtype
    precise = "float64" if policy == "float64" else "float32"
    mean, scale = (_per_channel(values, channels, precise) for values in (mean, scale))
    x = keras.layers.Rescaling(1.0, (-mean).tolist(), dtype=precise, name=PREPROCESSING_LAYER)(
        image
    )
    return x if (scale == 1).all() else keras.ops.divide(x, scale)


def _per_channel(values, channels, dtype):
    """Returns one value, or one per channel, as an array; their average if the numbers differ."""
    values = np.array(values, dtype)
    return values if values.size in (1, channels) else np.array(values.mean(), dtype)


def conv(x, filters, kernel_size, strides=1, *, bias=False, name):
    """Applies a convolution without activation, padded by `kernel_size // 2` on every side.

    Padding is symmetric, as in Keras's own ResNets and in PyTorch; with stride 2, TensorFlow's
    `same` would pad one side only.
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


def bn_act(x, activation="relu", *, name):
    """Applies batch normalization, then the activation or, for `None`, nothing."""
    x = keras.layers.BatchNormalization(**BATCH_NORM, name=f"{name}_bn")(x)
    if activation is None:
        return x
    return keras.layers.Activation(activation, name=f"{name}_{activation}")(x)


def conv_bn(x, filters, kernel_size, strides=1, *, bias=False, activation="relu", name):
    """Applies a convolution, padded as in `conv`, batch normalization and the activation."""
    x = conv(x, filters, kernel_size, strides, bias=bias, name=name)
    return bn_act(x, activation, name=name)


def conv_relu(x, filters, kernel_size, strides=1, *, padding="same", groups=1, name):
    """Applies a convolution with a bias and `relu`, as one layer."""
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
    """Applies 3 x 3 max pooling with stride 2; the last window may extend beyond the border.

    This is the size of Caffe and of PyTorch's `ceil_mode`; `same` would pad maps of an odd size
    on both sides. Padding counts as 0, so `x` must not be negative.
    """
    x = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_pad")(x)
    return keras.layers.MaxPooling2D(3, 2, name=name)(x)


def padded_pool(x, *, name):
    """Applies 3 x 3 max pooling with stride 2, padded by one pixel on every side.

    Padding counts as 0, so `x` should not be negative.
    """
    x = keras.layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    return keras.layers.MaxPooling2D(3, 2, name=f"{name}_pool")(x)


def padded_shortcut(x, channels, strides=1, *, name):
    """Subsamples height and width, and pads channels with zeros on both sides (ResNet's option A).

    (batch, h, w, fewer channels) -> (batch, ceil(h / strides), ceil(w / strides), channels)
    """
    if strides != 1:
        x = keras.layers.AveragePooling2D(1, strides, name=name)(x)
    missing = channels - x.shape[-1]
    margins = [[0, 0], [0, 0], [0, 0], [missing // 2, missing - missing // 2]]
    return graphs.set_operation_name(keras.ops.pad(x, margins), f"{name}_channels")


def local_response_norm(x, radius=2, bias=2.0, alpha=1e-4, beta=0.75, *, name):
    """Applies local response normalization over neighboring channels, in float32 at least.

    `x[c] / (bias + alpha * sum(x[j] ** 2)) ** beta`, where `j` runs over the existing channels from
    `c - radius` to `c + radius`. The defaults are the paper's (k = 2, n = 5).

    Reference:
        Krizhevsky et al., 2012, section 3.3.
    """
    channels = x.shape[-1]
    precise = keras.ops.cast(x, keras.backend.result_type(x.dtype, "float32"))
    margins = [[0, 0]] * (len(x.shape) - 1) + [[radius, radius]]
    squares = graphs.set_operation_name(
        keras.ops.pad(keras.ops.square(precise), margins), f"{name}_pad"
    )
    energy = squares[..., :channels]
    for start in range(1, 2 * radius + 1):
        energy = energy + squares[..., start : start + channels]
    normal = precise * keras.ops.power(bias + alpha * energy, -beta)
    return graphs.set_operation_name(keras.ops.cast(normal, x.dtype), name)


def learned_tokens(x, *, name):
    """Returns a learned vector per token of `x`, with the shape `(batch, tokens, width)` of `x`.

    The kernel of the layer, `(1, tokens, width)`, holds the vectors.
    """
    return keras.layers.EinsumDense(
        TOKEN_EQUATION,
        x.shape[1:],
        kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        name=name,
    )(keras.ops.ones_like(x[..., :1]))


def normalise(x, kind, *, name):
    """Applies `batch`, `layer` or `group` normalization; `none` returns `x` unchanged."""
    if kind == "batch":
        return keras.layers.BatchNormalization(**BATCH_NORM, name=f"{name}_bn")(x)
    if kind == "layer":
        return keras.layers.LayerNormalization(name=f"{name}_ln")(x)
    if kind == "group":
        groups = math.gcd(NUM_GROUPS, x.shape[-1])
        return keras.layers.GroupNormalization(groups, name=f"{name}_gn")(x)
    return x


def activate(x, activation, *, name):
    """Applies an activation by its name in Keras."""
    try:
        function = keras.activations.get(activation)
    except ValueError as error:
        known = [key for key in dir(keras.activations) if not key.startswith("_")]
        raise unknown_name_error("activation", activation, known) from error
    return keras.layers.Activation(function, name=name)(x)


def flatten(x):
    """Flattens maps to a vector: (batch, h, w, c) -> (batch, h * w * c)."""
    if None in x.shape[1:]:
        raise UsageError("a dense layer over all pixels needs a fixed size; pass input_shape")
    return keras.layers.Flatten(name="flatten")(x)


def dense_head(x, num_classes, hidden, *, dropout=0.0):
    """Applies dense layers over all pixels, each with `relu` and dropout, then the logits.

    Without `hidden` layers, this is `pooled_head`.
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
    """Applies global average pooling, dropout, logits: (batch, h, w, c) -> (batch, num_classes)."""
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return logits(x, num_classes, dropout=dropout)


def conv_gap_head(x, num_classes, *, dropout=0.0):
    """Applies dropout, a 1 x 1 convolution to one map per class, `relu` and global averaging.

    (batch, h, w, c) -> (batch, num_classes), in float32 and not negative.
    """
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    x = keras.layers.Conv2D(num_classes, 1, dtype="float32", name="logits")(x)
    x = keras.layers.Activation("relu", dtype="float32", name="logits_relu")(x)
    return keras.layers.GlobalAveragePooling2D(dtype="float32", name="pool")(x)


def logits(x, num_classes, *, dropout=0.0):
    """Applies dropout and a float32 dense layer: (batch, features) -> (batch, num_classes)."""
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    return keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
