"""AlexNet: the network that began it, eight layers that won ImageNet in 2012."""

from __future__ import annotations

from zoo.catalog import register
from zoo.errors import UsageError
from zoo.lazy import keras
from zoo.parts import blocks
from zoo.weights import torchvision

PAPER = "https://doi.org/10.1145/3065386"  # Krizhevsky, Sutskever & Hinton, NIPS 2012, reprinted

KERNELS = (11, 5, 3, 3, 3)  # figure 2
POOLED_CONVS = (1, 2, 5)  # the convolutions with a pooling behind them
LRN_CONVS = (1, 2)  # the convolutions with a response normalisation behind them

VARIANTS = {
    # One tower, as in "One weird trick" (Krizhevsky, 2014, arXiv:1404.5997) and torchvision.
    "alexnet": {"widths": (64, 192, 384, 256, 256)},
    # Figure 2: two towers that meet in the third convolution and in the dense layers.
    "alexnet_paper": {"widths": (96, 256, 384, 384, 256), "groups": (1, 2, 1, 2, 2), "lrn": True},
}

COUNTS = {  # trainable parameters, FLOPs
    "alexnet": (61_100_840, 1_428_376_960),
    "alexnet_paper": (60_965_224, 1_448_813_632),
}

WEIGHTS = {
    "alexnet": {
        "torchvision": torchvision.pretrained(
            "alexnet-owt",
            "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
            0.56522,
            0.79066,
            options={"hidden": ()},
        )
    }
}


@register(
    VARIANTS,
    input_shape=(224, 224, 3),
    min_size=63,
    stages=range(2, 6),
    preprocessing="torch",
    paper=PAPER,
    counts=COUNTS,
    weights=WEIGHTS,
)
def alexnet(
    image,
    num_classes=1000,
    *,
    widths,
    groups=(1, 1, 1, 1, 1),
    lrn=False,
    hidden=(4096, 4096),
    dropout=0.5,
):
    """Builds AlexNet (Krizhevsky et al., 2012, figure 2).

    `alexnet_paper` has the paper's widths, towers and response normalisation; `alexnet` is
    torchvision's. Departures: the towers are groups of one convolution; the image is padded by 2
    pixels, for the 55 x 55 maps of the paper do not come of 224 pixels without; weights start
    as He et al., 2015, say (`he_normal`), not at a deviation of 0.01, and all biases at 0, not
    some at 1; a mean colour is subtracted, not a mean image, and pixels are scaled.
    Torchvision's drops out before the dense layers, not behind them, and pools images of other
    sizes to 6 x 6 maps; here the first dense layer has the size that the image calls for.

    Args:
        image: `(batch, height, width, channels)`, normalised pixels; of a fixed size unless
            `hidden` is empty.
        num_classes: width of the logits, or `None` for the stages only.
        widths: channels of the five convolutions.
        groups: towers that each convolution is split into, which do not see each other.
        lrn: whether local response normalisation follows the first two convolutions.
        hidden: units of each dense layer before the logits; none puts global average pooling
            in their place.
        dropout: rate after each hidden layer, in [0, 1).

    Returns:
        Endpoints `stage2` to `stage4`, the last convolution at each stride, `stage5`, the last
        pooling, and, with classes, `logits`.
    """
    _check(image.shape[-1], widths, groups)
    ends, stage = {}, 2
    x = keras.layers.ZeroPadding2D(2, name="pad")(image)
    for index, (width, towers) in enumerate(zip(widths, groups, strict=True), start=1):
        strides, padding = (4, "valid") if index == 1 else (1, "same")
        options = {"padding": padding, "groups": towers, "name": f"conv{index}"}
        x = ends[f"stage{stage}"] = blocks.conv_relu(
            x, width, KERNELS[index - 1], strides, **options
        )
        if lrn and index in LRN_CONVS:
            x = blocks.local_response_norm(x, name=f"norm{index}")
        if index in POOLED_CONVS:
            x = keras.layers.MaxPooling2D(3, 2, name=f"pool{index}")(x)
            stage += 1
    ends["stage5"] = x
    if num_classes:
        ends["logits"] = blocks.dense_head(x, num_classes, hidden, dropout=dropout)
    return ends


def _check(channels, widths, groups):
    if len(widths) != len(KERNELS) or len(groups) != len(KERNELS):
        raise UsageError(
            f"alexnet has {len(KERNELS)} convolutions; got {len(widths)} widths, "
            f"{len(groups)} groups"
        )
    for before, width, towers in zip((channels, *widths), widths, groups, strict=False):
        if width % towers or before % towers:
            raise UsageError(f"alexnet cannot make {width} channels of {before} in {towers} groups")
