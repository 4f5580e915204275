"""ViT: a transformer encoder over image patches."""

from __future__ import annotations

from zoo.catalog import register
from zoo.errors import UsageError
from zoo.lazy import keras
from zoo.parts import blocks
from zoo.weights import Weights, torchvision

PAPER = "https://arxiv.org/abs/2010.11929"

PATCH = 16  # height and width in pixels; the stride of the only stage

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
        protocol="ImageNet validation: shorter side resized to 256, bicubic, center crop of 224",
    )


# Without a source: the user passes timm's files of "How to train your ViT", 2021, at 224 pixels.
AUGREG = Weights(
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

    Departures: the head is linear, as in the paper's fine-tuning, without the hidden layer for
    pretraining; kernels are initialized with a standard deviation of 0.02, as in DeiT, since the
    paper does not state it; dropout is 0 by default (0.1 in the paper's training on ImageNet alone)
    and not applied to the attention weights.

    Args:
        image: `(batch, height, width, channels)`, normalized pixels; of a fixed height and
            width, both multiples of 16.
        num_classes: width of the logits, or `None` for the stages only.
        width: width of the token embeddings.
        heads: the number of attention heads, a divisor of `width`.
        depth: the number of blocks.
        expansion: ratio of the hidden width of each MLP to `width`.
        dropout: rate after the position embeddings and each dense layer, in [0, 1).
        stochastic_depth: rate at which the residual branches of the last block are dropped per
            sample in training, rising linearly from 0 in the first block (Huang et al., 2016).
            DeiT uses 0.1.

    Returns:
        Endpoints `stage4`, the normalized patch tokens as a map `(batch, height / 16,
        width / 16, width of the tokens)`, and, with classes, `logits`.
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
    endpoints = {"stage4": keras.layers.Reshape((rows, columns, width), name="map")(patches)}
    if num_classes:
        endpoints["logits"] = blocks.logits(x[:, 0], num_classes)
    return endpoints


def _block(x, heads, expansion, dropout, rate, *, name):
    """Applies attention and an MLP, each with a residual connection (equations 2 and 3)."""
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
    """Applies multi-head self-attention (appendix A)."""
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
    """Drops a residual branch per sample (stochastic depth)."""
    if not rate:
        return x
    return keras.layers.Dropout(rate, noise_shape=(None, 1, 1), name=name)(x)


def _grid(image, width, heads):
    """Returns the number of patches, vertically and horizontally."""
    _, *sides, _ = image.shape
    if None in sides or any(side % PATCH for side in sides):
        raise UsageError(
            f"vit needs images whose height and width are fixed multiples of {PATCH}; got "
            f"{' x '.join(str(side) for side in sides)}"
        )
    if width % heads:
        raise UsageError(
            f"vit needs a width divisible by heads; got a width of {width}, {heads} heads"
        )
    return [side // PATCH for side in sides]
