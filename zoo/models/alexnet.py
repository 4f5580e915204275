"""AlexNet: five convolutions and three dense layers, the winner of ImageNet in 2012."""

from __future__ import annotations

from zoo.catalog import register
from zoo.errors import UsageError
from zoo.lazy import keras
from zoo.parts import blocks
from zoo.weights import torchvision

PAPER = "https://doi.org/10.1145/3065386"  # Krizhevsky, Sutskever & Hinton, NIPS 2012, reprinted

KERNELS = (11, 5, 3, 3, 3)  # figure 2
POOLED_CONVS = (1, 2, 5)  # the convolutions that pooling follows
LRN_CONVS = (1, 2)  # the convolutions that response normalization follows

VARIANTS = {
    # One tower, as in "One weird trick" (Krizhevsky, 2014, arXiv:1404.5997) and torchvision.
    "alexnet": {"widths": (64, 192, 384, 256, 256)},
    # Figure 2: two towers, connected in the third convolution and in the dense layers.
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

    `alexnet_paper` has the paper's widths, towers and response normalization; `alexnet` is
    torchvision's. Departures: the towers are the groups of one convolution; the image is padded
    by 2 pixels, without which 224 pixels do not give the paper's 55 x 55 maps; kernels are
    initialized as in He et al., 2015 (`he_normal`), not with a standard deviation of 0.01, and
    all biases with 0, not some with 1; a mean color is subtracted, not a mean image, and pixels
    are scaled. Torchvision applies dropout before the dense layers, not after them, and pools
    images of other sizes to 6 x 6 maps; here the size of the first dense layer depends on the
    image size.

    Args:
        image: `(batch, height, width, channels)`, normalized pixels; of a fixed size unless
            `hidden` is empty.
        num_classes: width of the logits, or `None` for the stages only.
        widths: channels of the five convolutions.
        groups: the number of groups of each convolution; channels of different groups are not
            connected.
        lrn: whether local response normalization follows the first two convolutions.
        hidden: units of each dense layer before the logits; with none, global average
            pooling replaces them.
        dropout: rate after each hidden layer, in [0, 1).

    Returns:
        Endpoints `stage2` to `stage4`, the output of the last convolution at each stride;
        `stage5`, the output of the last pooling; and, with classes, `logits`.
    """
    _check(image.shape[-1], widths, groups)
    endpoints, stage = {}, 2
    x = keras.layers.ZeroPadding2D(2, name="pad")(image)
    for index, (width, towers) in enumerate(zip(widths, groups, strict=True), start=1):
        strides, padding = (4, "valid") if index == 1 else (1, "same")
        options = {"padding": padding, "groups": towers, "name": f"conv{index}"}
        x = endpoints[f"stage{stage}"] = blocks.conv_relu(
            x, width, KERNELS[index - 1], strides, **options
        )
        if lrn and index in LRN_CONVS:
            x = blocks.local_response_norm(x, name=f"norm{index}")
        if index in POOLED_CONVS:
            x = keras.layers.MaxPooling2D(3, 2, name=f"pool{index}")(x)
            stage += 1
    endpoints["stage5"] = x
    if num_classes:
        endpoints["logits"] = blocks.dense_head(x, num_classes, hidden, dropout=dropout)
    return endpoints


def _check(channels, widths, groups):
    if len(widths) != len(KERNELS) or len(groups) != len(KERNELS):
        raise UsageError(
            f"alexnet has {len(KERNELS)} convolutions; got {len(widths)} widths, "
            f"{len(groups)} groups"
        )
    for before, width, towers in zip((channels, *widths), widths, groups, strict=False):
        if width % towers or before % towers:
            raise UsageError(f"alexnet cannot map {before} to {width} channels in {towers} groups")
