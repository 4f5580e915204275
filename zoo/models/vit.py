"""ViT: an image is worth 16 x 16 words, and a transformer reads them."""

from __future__ import annotations

from zoo.catalog import register
from zoo.errors import UsageError
from zoo.lazy import keras
from zoo.parts import blocks
from zoo.weights import Weights, torchvision

PAPER = "https://arxiv.org/abs/2010.11929"

PATCH = 16  # pixels on a side, which makes the stride of the only stage

VARIANTS = {
    "vit_tiny": {"width": 192, "heads": 3},  # Touvron et al., 2020 (DeiT), table 1
    "vit_small": {"width": 384, "heads": 6},  # likewise
    "vit_base": {"width": 768, "heads": 12},  # table 1
}

COUNTS = {  # trainable parameters, FLOPs
    "vit_tiny": (5_717_416, 2_149_702_656),
    "vit_small": (22_050_664, 8_482_437_120),
    "vit_base": (86_567_656, 33_697_001_472),
}

DEIT_FILES = "https://dl.fbaipublicfiles.com/deit/"


def deit(file, accuracy, top5_accuracy):
    """Returns the facts of the weights that the authors of DeiT published in `file`."""
    return Weights(
        source=DEIT_FILES + file,
        digest=file[-12:-4],
        classes="imagenet",
        preprocessing="torch",
        resize="crop",
        licence="Apache 2.0 (Facebook AI Research, DeiT)",
        figures={"accuracy": accuracy, "top5_accuracy": top5_accuracy},
        protocol="ImageNet validation: shorter side resized to 256, bicubic, centre crop of 224",
    )


AUGREG = Weights(  # given by hand: timm's files of "How to train your ViT", 2021, at 224 pixels
    classes="imagenet",
    preprocessing="tf",
    resize="crop",
    licence="Apache 2.0 (Google; as timm distributes them)",
)

WEIGHTS = {
    "vit_tiny": {"deit": deit("deit_tiny_patch16_224-a1311bcf.pth", 0.722, 0.911)},
    "vit_small": {"deit": deit("deit_small_patch16_224-cd65a155.pth", 0.799, 0.950)},
    "vit_base": {
        "deit": deit("deit_base_patch16_224-b5f2ef4d.pth", 0.818, 0.956),
        "torchvision": torchvision.pretrained(
            "vit_b_16",
            "c867db91d3e12c6cbadabb610d73c24a546bf82d8c03a9fea34f43a712ddb0e9",
            0.81072,
            0.95318,
        ),
    },
}
for _tags in WEIGHTS.values():
    _tags["augreg"] = AUGREG


@register(
    VARIANTS,
    input_shape=(224, 224, 3),
    min_size=PATCH,
    stages=(4,),
    paper=PAPER,
    counts=COUNTS,
    weights=WEIGHTS,
)
def vit(
    image,
    num_classes=1000,
    *,
    width,
    heads,
    depth=12,
    expansion=4,
    dropout=0.0,
    stochastic_depth=0.0,
):
    """Builds a Vision Transformer with patches of 16 pixels (Dosovitskiy et al., 2020, figure 1).

    Departures: a linear head, as the paper has for fine-tuning, and no hidden layer in it for
    pretraining; weights start at a deviation of 0.02, as DeiT's, for the paper does not say;
    dropout is off unless asked for (the paper's, on ImageNet alone, is 0.1) and spares the
    attention's weights.

    Args:
        image: `(batch, height, width, channels)`, normalised pixels; height and width fixed,
            and multiples of 16.
        num_classes: width of the logits, or `None` for the stages only.
        width: features of each token.
        heads: attention heads, a divisor of `width`.
        depth: blocks.
        expansion: how many times wider the hidden layer of each block is.
        dropout: rate after the position embeddings and each dense layer, in [0, 1).
        stochastic_depth: rate at which a sample skips the last block's branches in training;
            that of earlier blocks rises to it from 0 (Huang et al., 2016). DeiT's is 0.1.

    Returns:
        Endpoints `stage4`, the normalised tokens of the patches as a map, and, with classes,
        `logits`.
    """
    rows, columns = _grid(image, width, heads)
    x = keras.layers.Conv2D(width, PATCH, PATCH, **_kernel(), name="patches")(image)
    x = keras.layers.Reshape((rows * columns, width), name="tokens")(x)
    token = blocks.learned_tokens(x[:, :1], name="class_token")  # equation 1
    x = keras.layers.Concatenate(axis=1, name="with_class_token")([token, x])
    x = x + blocks.learned_tokens(x[:1, :], name="positions")
    x = _dropout(x, dropout, name="positions_dropout")
    for index in range(depth):
        rate = stochastic_depth * index / max(depth - 1, 1)
        x = _block(x, heads, expansion, dropout, rate, name=f"block{index + 1}")
    x = keras.layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    patches = keras.layers.Cropping1D((1, 0), name="patches_out")(x)
    ends = {"stage4": keras.layers.Reshape((rows, columns, width), name="map")(patches)}
    if num_classes:
        ends["logits"] = blocks.logits(x[:, 0], num_classes)
    return ends


def _block(x, heads, expansion, dropout, rate, *, name):
    """Attention, then a perceptron, each added to its input (equations 2 and 3)."""
    width = x.shape[-1]
    y = keras.layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm1")(x)
    y = _dropout(_attention(y, heads, name=f"{name}_attention"), dropout, name=f"{name}_dropout1")
    y = _drop_path(y, rate, name=f"{name}_skip1")
    x = keras.layers.Add(name=f"{name}_add1")([x, y])
    y = keras.layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm2")(x)
    y = _dense(y, expansion * width, activation="gelu", name=f"{name}_mlp1")
    y = _dropout(y, dropout, name=f"{name}_dropout2")
    y = _dropout(_dense(y, width, name=f"{name}_mlp2"), dropout, name=f"{name}_dropout3")
    y = _drop_path(y, rate, name=f"{name}_skip2")
    return keras.layers.Add(name=f"{name}_add2")([x, y])


def _attention(x, heads, *, name):
    """Multi-head self-attention (appendix A): every token asks all of them."""
    _, tokens, width = x.shape
    x = _dense(x, 3 * width, name=f"{name}_qkv")
    x = keras.layers.Reshape((tokens, 3, heads, width // heads), name=f"{name}_split")(x)
    x = keras.ops.dot_product_attention(*(x[:, :, index] for index in range(3)))
    x = keras.layers.Reshape((tokens, width), name=f"{name}_join")(x)
    return _dense(x, width, name=f"{name}_out")


def _dense(x, units, *, activation=None, name):
    return keras.layers.Dense(units, activation=activation, **_kernel(), name=name)(x)


def _kernel():
    return {"kernel_initializer": keras.initializers.TruncatedNormal(stddev=0.02)}


def _dropout(x, rate, *, name):
    return keras.layers.Dropout(rate, name=name)(x) if rate else x


def _drop_path(x, rate, *, name):
    """Drops all that a branch says of a sample, at that rate."""
    if not rate:
        return x
    return keras.layers.Dropout(rate, noise_shape=(None, 1, 1), name=name)(x)


def _grid(image, width, heads):
    """Returns how many patches the image has, down and across."""
    _, *sides, _ = image.shape
    if None in sides or any(side % PATCH for side in sides):
        raise UsageError(
            f"vit needs images whose height and width are known multiples of {PATCH}; got "
            f"{' x '.join(str(side) for side in sides)}"
        )
    if width % heads:
        raise UsageError(f"vit cannot divide a width of {width} by {heads} heads")
    return [side // PATCH for side in sides]
