"""ResNet: residual blocks with identity shortcuts."""

from __future__ import annotations

import functools

from zoo.catalog import register
from zoo.errors import unknown_name_error
from zoo.lazy import keras
from zoo.parts.blocks import conv_bn, padded_pool, padded_shortcut, pooled_head
from zoo.weights import Weights, torchvision

PAPER = "https://arxiv.org/abs/1512.03385"


def basic(x, filters, strides, *, padded=False, name):
    """Applies the basic block of two 3 x 3 convolutions, for the shallow variants."""
    shortcut = x
    if strides != 1 or x.shape[-1] != filters:
        if padded:
            shortcut = padded_shortcut(x, filters, strides, name=f"{name}_0_pad")
        else:
            shortcut = conv_bn(x, filters, 1, strides, activation=None, name=f"{name}_0")
    x = conv_bn(x, filters, 3, strides, name=f"{name}_1")
    x = conv_bn(x, filters, 3, activation=None, name=f"{name}_2")
    return residual_add(shortcut, x, name=name)


def bottleneck(x, filters, strides, *, stride_in=1, bias=True, name):
    """Applies the bottleneck block: 1 x 1, 3 x 3, and 1 x 1 with four times `filters`.

    The stride is that of the first or of the second convolution, by `stride_in`.
    """
    shortcut = x
    if x.shape[-1] != 4 * filters:
        options = {"bias": bias, "activation": None}
        shortcut = conv_bn(x, 4 * filters, 1, strides, **options, name=f"{name}_0")
    first, second = (strides, 1) if stride_in == 1 else (1, strides)
    x = conv_bn(x, filters, 1, first, bias=bias, name=f"{name}_1")
    x = conv_bn(x, filters, 3, second, bias=bias, name=f"{name}_2")
    x = conv_bn(x, 4 * filters, 1, bias=bias, activation=None, name=f"{name}_3")
    return residual_add(shortcut, x, name=name)


def residual_add(shortcut, x, *, name):
    """Adds the residual to the shortcut, and applies `relu`."""
    x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
    return keras.layers.Activation("relu", name=f"{name}_out")(x)


BLOCKS = {
    "basic": basic,
    "bottleneck": bottleneck,
    "bottleneck_v1_5": functools.partial(bottleneck, stride_in=2, bias=False),
}

IMAGENET = {  # table 1: blocks in each of the four stages
    "resnet18": {"depths": (2, 2, 2, 2), "block": "basic"},
    "resnet34": {"depths": (3, 4, 6, 3), "block": "basic"},
    "resnet50": {"depths": (3, 4, 6, 3), "block": "bottleneck"},
    "resnet101": {"depths": (3, 4, 23, 3), "block": "bottleneck"},
    "resnet152": {"depths": (3, 8, 36, 3), "block": "bottleneck"},
    "resnet50_v1_5": {"depths": (3, 4, 6, 3), "block": "bottleneck_v1_5"},
    "resnet101_v1_5": {"depths": (3, 4, 23, 3), "block": "bottleneck_v1_5"},
    "resnet152_v1_5": {"depths": (3, 8, 36, 3), "block": "bottleneck_v1_5"},
}

SHORTCUTS = ("padding", "projection")  # section 4.1: options A and B

CIFAR = {  # section 4.2: 6n + 2 layers
    f"resnet{6 * n + 2}": {"depths": (n, n, n)} for n in (3, 5, 7, 9, 18)
}

COUNTS = {  # trainable parameters, FLOPs
    "resnet20": (269_722, 81_102_080),
    "resnet32": (464_154, 137_725_184),
    "resnet44": (658_586, 194_348_288),
    "resnet56": (853_018, 250_971_392),
    "resnet110": (1_727_962, 505_775_360),
    "resnet18": (11_689_512, 3_628_146_688),
    "resnet34": (21_797_672, 7_327_522_816),
    "resnet50": (25_583_592, 7_715_946_496),
    "resnet101": (44_601_832, 15_140_388_864),
    "resnet152": (60_268_520, 22_564_831_232),
    "resnet50_v1_5": (25_557_032, 8_178_368_512),
    "resnet101_v1_5": (44_549_160, 15_602_810_880),
    "resnet152_v1_5": (60_192_808, 23_027_253_248),
}

KERAS_FILES = "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"


def keras_weights(name, whole, headless, top1, top5):
    """Returns the facts of the weights that Keras publishes for the network called `name`."""
    stem = f"{KERAS_FILES}{name}_weights_tf_dim_ordering_tf_kernels"
    return Weights(
        source=f"{stem}.h5",
        digest=whole,
        headless=(f"{stem}_notop.h5", headless),
        classes="imagenet",
        preprocessing="caffe",
        licence="MIT (Kaiming He's weights, as Keras distributes them)",
        figures={"accuracy": top1, "top5_accuracy": top5},
        protocol="ImageNet validation, as listed on keras.io/api/applications",
    )


WEIGHTS = {
    "resnet20": {
        "cifar10": Weights(
            source="asset:resnet20_cifar10.npz",
            digest="b268c9f5c218f9c87a1bd11faf41e7f07b748c4b05e2b10b041a140f7af9d4e2",
            classes="cifar10",
            num_classes=10,
            learning_rate=1e-3,
            licence="Apache 2.0 (trained by benchmarks/resnet20_cifar10.yaml)",
            figures={"accuracy": 0.9199},
            protocol="all 10,000 test images of CIFAR-10 at 32 x 32, weights in 16 bits",
        )
    },
    "resnet50": {
        "imagenet": keras_weights(
            "resnet50",
            "2cb95161c43110f7111970584f804107",
            "4d473c1dd8becc155b73f8504c6f6626",
            0.749,
            0.921,
        )
    },
    "resnet101": {
        "imagenet": keras_weights(
            "resnet101",
            "f1aeb4b969a6efcfb50fad2f0c20cfc5",
            "88cf7a10940856eca736dc7b7e228a21",
            0.764,
            0.928,
        )
    },
    "resnet152": {
        "imagenet": keras_weights(
            "resnet152",
            "100835be76be38e30d865e96f2aaae62",
            "ee4c566cf9a93f14d82f913c2dc6dd0c",
            0.766,
            0.931,
        )
    },
    "resnet18": {
        "torchvision": torchvision.pretrained(
            "resnet18",
            "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
            0.69758,
            0.89078,
        )
    },
    "resnet34": {
        "torchvision": torchvision.pretrained(
            "resnet34",
            "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f",
            0.73314,
            0.91420,
        )
    },
    "resnet50_v1_5": {
        "torchvision": torchvision.pretrained(
            "resnet50",
            "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
            0.76130,
            0.92862,
        ),
        "torchvision_v2": torchvision.pretrained(
            "resnet50",
            "11ad3fa62ca79e40addfd354a8ec4b7c75143b3038b8d2a807fbc68deab379ca",
            0.80858,
            0.95434,
            resized=232,
        ),
    },
    "resnet101_v1_5": {
        "torchvision": torchvision.pretrained(
            "resnet101",
            "63fe2227b86e8f1f2063f43a75c84d195911b6a0eace650907dd3dc62dd49a0a",
            0.77374,
            0.93546,
        ),
        "torchvision_v2": torchvision.pretrained(
            "resnet101", "cd907fc2", 0.81886, 0.95780, resized=232
        ),
    },
    "resnet152_v1_5": {
        "torchvision": torchvision.pretrained(
            "resnet152",
            "394f9c45966e3651a89bbb78a48410a6755854ce4a5ab64927cf1c7247f85e58",
            0.78312,
            0.94046,
        ),
        "torchvision_v2": torchvision.pretrained(
            "resnet152", "f82ba261", 0.82284, 0.96002, resized=232
        ),
    },
}


@register(
    CIFAR,
    family="resnet",
    input_shape=(32, 32, 3),
    min_size=4,
    stages=range(3),
    paper=PAPER,
    counts=COUNTS,
    weights=WEIGHTS,
)
def resnet_cifar(image, num_classes=10, *, depths, width=16, shortcut="padding", dropout=0.0):
    """Builds a ResNet for small images (He et al., 2015, section 4.2).

    A 3 x 3 stem, then three stages at strides 1, 2 and 4, each twice as wide as the one before;
    shortcuts have no parameters (option A) unless they are projections (option B). Departure: the
    padding of strided convolutions is symmetric; the paper does not state it.

    Args:
        image: `(batch, height, width, channels)`, normalized pixels.
        num_classes: width of the logits, or `None` for the stages only.
        depths: the number of blocks in each stage.
        width: channels of the first stage.
        shortcut: where a block changes the shape: `padding` with channels of zeros (option A),
            or `projection` by a 1 x 1 convolution (option B).
        dropout: rate before the logits; the paper has none.

    Returns:
        Endpoints `stage0`, `stage1`, `stage2` and, with classes, `logits`.

    Raises:
        UsageError: the shortcut is unknown.
    """
    if shortcut not in SHORTCUTS:
        raise unknown_name_error("shortcut", shortcut, SHORTCUTS)
    x = conv_bn(image, width, 3, name="conv1")
    endpoints, padded = {}, shortcut == "padding"
    for stage, depth in enumerate(depths):
        for index in range(1, depth + 1):
            strides = 2 if stage > 0 and index == 1 else 1
            name = f"conv{stage + 2}_block{index}"
            x = basic(x, width * 2**stage, strides, padded=padded, name=name)
        endpoints[f"stage{stage}"] = x
    if num_classes:
        endpoints["logits"] = pooled_head(x, num_classes, dropout=dropout)
    return endpoints


@register(
    IMAGENET,
    input_shape=(224, 224, 3),
    min_size=32,
    stages=range(1, 6),
    paper=PAPER,
    counts=COUNTS,
    weights=WEIGHTS,
)
def resnet(image, num_classes=1000, *, depths, block, width=64, dropout=0.0):
    """Builds a ResNet (He et al., 2015, table 1).

    `resnet50`, `101` and `152` match Keras's weight for weight: a bias before each
    normalization, and the stride of a stage in its first 1 x 1 convolution, as in the paper.
    Departures: the `v1_5` variants, like torchvision's, have no biases and the stride in the 3 x 3
    convolution (Goyal et al., 2017); `resnet18` and `34` are torchvision's, with projections
    (option B).

    Args:
        image: `(batch, height, width, channels)`, normalized pixels.
        num_classes: width of the logits, or `None` for the stages only.
        depths: the number of blocks in each of the four stages.
        block: a key of `BLOCKS`: `basic`, `bottleneck` or `bottleneck_v1_5`.
        width: channels of the first stage, doubled in each later stage.
        dropout: rate before the logits; the paper has none.

    Returns:
        Endpoints `stage1` to `stage5` and, with classes, `logits`.
    """
    endpoints = {}
    x = conv_bn(image, width, 7, 2, bias=block == "bottleneck", name="conv1")
    endpoints["stage1"] = x
    x = padded_pool(x, name="pool1")
    for stage, depth in enumerate(depths, start=2):
        for index in range(1, depth + 1):
            strides = 2 if stage > 2 and index == 1 else 1
            name = f"conv{stage}_block{index}"
            x = BLOCKS[block](x, width * 2 ** (stage - 2), strides, name=name)
        endpoints[f"stage{stage}"] = x
    if num_classes:
        endpoints["logits"] = pooled_head(x, num_classes, dropout=dropout)
    return endpoints
