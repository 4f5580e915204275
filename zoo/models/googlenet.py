"""GoogLeNet: parallel convolutions of several kernel sizes, and auxiliary classifiers."""

from __future__ import annotations

from zoo.catalog import register
from zoo.lazy import keras
from zoo.parts import blocks
from zoo.weights import torchvision

PAPER = "https://arxiv.org/abs/1409.4842"

INCEPTIONS = {  # table 1: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool proj
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
STAGES = {"3b": 3, "4e": 4, "5b": 5}  # the last module of each stage
AUXILIARY = {"4a": "auxiliary1", "4d": "auxiliary2"}  # section 5: the module that each follows

VARIANTS = {
    # That of torchvision. Without the auxiliary heads: 6,624,904 parameters.
    "googlenet": {"largest": 3, "batch_norm": True, "last_pool": 2, "dropout": 0.2},
    "googlenet_bn": {"batch_norm": True},  # table 1, normalized
    "googlenet_paper": {"lrn": True},  # table 1 and figure 3
}

COUNTS = {  # trainable parameters, FLOPs
    "googlenet": (6_624_904, 2_996_752_384),
    "googlenet_bn": (7_005_832, 3_165_343_744),
    "googlenet_paper": (6_998_552, 3_165_343_744),
}

WEIGHTS = {
    "googlenet": {
        "torchvision": torchvision.pretrained(
            "googlenet",
            "1378be20a8e875cf1568b8a71654e704449655e34711a959a38b04fb34905cef",
            0.69778,
            0.89530,
            preprocessing="tf",  # the result of its `transform_input` on standardized pixels
        )
    }
}


@register(
    VARIANTS,
    input_shape=(224, 224, 3),
    min_size=15,
    stages=range(1, 6),
    paper=PAPER,
    counts=COUNTS,
    weights=WEIGHTS,
    auxiliary=dict.fromkeys(AUXILIARY.values(), 0.3),  # section 5
)
def googlenet(
    image,
    num_classes=1000,
    *,
    largest=5,
    batch_norm=False,
    lrn=False,
    last_pool=3,
    dropout=0.4,
    auxiliary=False,
    auxiliary_dropout=0.7,
):
    """Builds GoogLeNet, also called Inception v1 (Szegedy et al., 2014, table 1, figure 3).

    Departures: `googlenet` is torchvision's, in which batch normalization (Ioffe & Szegedy,
    2015) replaces biases and response normalization, 3 x 3 convolutions replace the 5 x 5 ones,
    the last 3 x 3 pooling is 2 x 2, and dropout is 0.2. `googlenet_bn` has the paper's layers, each
    with batch normalization; `googlenet_paper` has biases, and response normalization with the
    constants of AlexNet, as the paper gives none. In all of them the auxiliary heads pool to 4 x 4
    maps for any image size (the paper: windows of 5 x 5 with stride 3, which give 4 x 4 at 224),
    kernels are initialized as in He et al., 2015 (`he_normal`), and pixels are scaled to [-1, 1],
    where the paper subtracts their mean.

    Args:
        image: `(batch, height, width, channels)`, normalized pixels.
        num_classes: width of the logits, or `None` for the stages only.
        largest: height and width of the largest kernels in each module.
        batch_norm: whether convolutions are followed by batch normalization, and have no bias.
        lrn: whether local response normalization follows the first pooling and precedes the
            second.
        last_pool: height and width of the last pooling's window.
        dropout: rate before the logits.
        auxiliary: whether to add the auxiliary heads, which are trained with the logits.
        auxiliary_dropout: rate before the logits of the auxiliary heads.

    Returns:
        Endpoints `stage1` to `stage5`, then, with classes, `auxiliary1` and `auxiliary2` with
        `auxiliary`, and `logits`.
    """
    endpoints = {}
    x = _stem(image, batch_norm, lrn, endpoints)
    for module, widths in INCEPTIONS.items():
        x = inception(x, widths, largest, batch_norm, name=f"inception{module}")
        if auxiliary and num_classes and module in AUXILIARY:
            name = AUXILIARY[module]
            endpoints[name] = _head(x, num_classes, batch_norm, auxiliary_dropout, name=name)
        if module in STAGES:
            endpoints[f"stage{STAGES[module]}"] = x
        if module == "3b":
            x = blocks.ceil_pool(x, name="pool3")
        if module == "4e":
            x = keras.layers.MaxPooling2D(last_pool, 2, "same", name="pool4")(x)
    if num_classes:
        endpoints["logits"] = blocks.pooled_head(x, num_classes, dropout=dropout)
    return endpoints


def _stem(x, batch_norm, lrn, endpoints):
    """Applies the layers before the first module, and adds their stages to `endpoints`."""
    x = endpoints["stage1"] = _convolve(x, 64, 7, 2, batch_norm=batch_norm, name="conv1")
    x = blocks.ceil_pool(x, name="pool1")
    if lrn:
        x = blocks.local_response_norm(x, name="norm1")
    x = _convolve(x, 64, 1, batch_norm=batch_norm, name="conv2_reduce")
    x = endpoints["stage2"] = _convolve(x, 192, 3, batch_norm=batch_norm, name="conv2")
    if lrn:
        x = blocks.local_response_norm(x, name="norm2")
    return blocks.ceil_pool(x, name="pool2")


def inception(x, widths, largest, batch_norm, *, name):
    """Applies four parallel branches, and concatenates their channels (figure 2b)."""
    one, reduce, three, squeeze, wide, project = widths

    def convolve(x, filters, kernel_size, branch):
        return _convolve(x, filters, kernel_size, batch_norm=batch_norm, name=f"{name}_{branch}")

    branches = [
        convolve(x, one, 1, "1x1"),
        convolve(convolve(x, reduce, 1, "3x3_reduce"), three, 3, "3x3"),
        convolve(convolve(x, squeeze, 1, "5x5_reduce"), wide, largest, "5x5"),
        convolve(
            keras.layers.MaxPooling2D(3, 1, "same", name=f"{name}_pool")(x), project, 1, "project"
        ),
    ]
    return keras.layers.Concatenate(name=f"{name}_concat")(branches)


def _head(x, num_classes, batch_norm, dropout, *, name):
    """Applies an auxiliary classifier to intermediate maps (section 5)."""
    x = keras.layers.AdaptiveAveragePooling2D(4, name=f"{name}_pool")(x)
    x = _convolve(x, 128, 1, batch_norm=batch_norm, name=f"{name}_reduce")
    x = keras.layers.Flatten(name=f"{name}_flatten")(x)
    init = "he_normal"
    x = keras.layers.Dense(1024, activation="relu", kernel_initializer=init, name=f"{name}_fc")(x)
    x = keras.layers.Dropout(dropout, name=f"{name}_dropout")(x)
    return keras.layers.Dense(num_classes, dtype="float32", name=name)(x)


def _convolve(x, filters, kernel_size, strides=1, *, batch_norm, name):
    """Applies a convolution and `relu`, with a bias or with batch normalization in between."""
    x = blocks.conv(x, filters, kernel_size, strides, bias=not batch_norm, name=name)
    if batch_norm:  # torchvision's epsilon
        x = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-3, name=f"{name}_bn")(x)
    return keras.layers.Activation("relu", name=f"{name}_relu")(x)
