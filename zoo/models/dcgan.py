"""DCGAN: a generator of transposed convolutions, and its discriminator (critic)."""

from __future__ import annotations

from zoo.catalog import register
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import keras
from zoo.lazy_layers import layers
from zoo.parts.blocks import BATCH_NORM

PAPER = "https://arxiv.org/abs/1511.06434"

LEAKY_RELU_SLOPE = 0.2  # of the critic's leaky ReLU
# Sides of the first maps of a generator and of the last maps of a critic.
MIN_BASE_SIZE, MAX_BASE_SIZE = 4, 7
NORMALIZATIONS = ("batch", "spectral", "layer", "none")
GENERATOR_CONDITIONS = ("batch_norm", "concatenation")
CRITIC_CONDITIONS = ("projection", "concatenation")
EMBEDDING_DIM = 32  # length of the class embedding where it is concatenated

COUNTS = {
    "dcgan_generator": (18_855_043, 1_281_228_800),
    "dcgan_critic": (17_232_897, 1_277_984_768),
}


@register(
    {"dcgan_generator": {}},
    input_shape=(100,),
    paper=PAPER,
    kind="generator",
    family="dcgan",
    preprocessing="none",
    counts=COUNTS,
    inputs=("label",),
)
def dcgan_generator(
    latent, num_classes=None, *, image_size=64, channels=3, width=128, condition="batch_norm"
):
    """Builds the generator of DCGAN (Radford et al., 2015, figure 1).

    Each transposed 5 x 5 convolution doubles the side of the maps and halves their channels, with
    batch normalization and `relu`; the output of the last one, after `tanh`, is scaled to pixels.
    Departure: the image size is 4, 5, 6 or 7 times a power of two, not only 64.

    Args:
        latent: `(batch, size)`, standard normal.
        num_classes: the number of classes of a class-conditional generator, which takes a
            `label`; `None` for an unconditional one.
        image_size: height and width of the image.
        channels: 3 for RGB, 1 for gray.
        width: channels of the last hidden maps.
        condition: how the generator is conditioned on the class: `batch_norm` scales and shifts
            the normalized maps by class (Dumoulin et al., 2017), `concatenation` appends an
            embedding of the class to the latent vector (Mirza and Osindero, 2014).

    Returns:
        Endpoints `label`, with classes: an int32 input `(batch,)`; and `image`, float32
        `(batch, image_size, image_size, channels)` in [0, 255].
    """
    _check("condition", condition, GENERATOR_CONDITIONS)
    start, doublings = base_size(image_size)
    filters = width * 2 ** (doublings - 1)
    x, endpoints = latent, {}
    if num_classes:
        label = endpoints["label"] = keras.Input((), dtype="int32", name="label")
        if condition == "concatenation":
            vector = keras.layers.Embedding(num_classes, EMBEDDING_DIM, name="label_vector")(label)
            x = keras.layers.Concatenate(name="told")([x, vector])
    by_class = (label, num_classes) if num_classes and condition == "batch_norm" else None
    x = keras.layers.Dense(start * start * filters, use_bias=False, **_init(), name="project")(x)
    x = keras.layers.Reshape((start, start, filters), name="maps")(x)
    x = _conditional_batch_norm(x, by_class, name="maps")
    for index in range(1, doublings):
        options = {"use_bias": False, "padding": "same", **_init()}
        x = keras.layers.Conv2DTranspose(filters // 2**index, 5, 2, **options, name=f"up{index}")(x)
        x = _conditional_batch_norm(x, by_class, name=f"up{index}")
    options = {"activation": "tanh", "padding": "same", **_init()}
    x = keras.layers.Conv2DTranspose(channels, 5, 2, **options, name=f"up{doublings}")(x)
    endpoints["image"] = keras.layers.Rescaling(127.5, 127.5, dtype="float32", name="image")(x)
    return endpoints


@register(
    {"dcgan_critic": {}},
    input_shape=(64, 64, 3),
    min_size=8,
    paper=PAPER,
    kind="critic",
    family="dcgan",
    counts=COUNTS,
    inputs=("label",),
)
def dcgan_critic(
    image, num_classes=None, *, width=128, normalization="batch", condition="projection"
):
    """Builds the discriminator of DCGAN (Radford et al., 2015, section 3), here called critic.

    It mirrors the generator: each 5 x 5 convolution of stride 2 halves the side of the maps and
    doubles their channels, with leaky ReLU; a dense layer over the last maps gives the score.

    Args:
        image: `(batch, side, side, channels)`, in [-1, 1].
        num_classes: the number of classes of a class-conditional critic, which takes the `label`
            of the image; `None` for an unconditional one.
        width: channels of the first maps.
        normalization: `batch` after every convolution but the first, as in the paper; `spectral`
            for all weights (Miyato et al., 2018); `layer`; or `none`. `batch` does not
            work with the gradient penalty of WGAN-GP.
        condition: how the critic is conditioned on the class: `projection` adds the dot product
            of its embedding and the last maps to the score (Miyato and Koyama, 2018),
            `concatenation` appends a channel to the image, an embedding of the class (Mirza and
            Osindero, 2014).

    Returns:
        Endpoints `label`, with classes: an int32 input `(batch,)`; and `score`, float32
        `(batch, 1)`: the higher, the more real.
    """
    _check("condition", condition, CRITIC_CONDITIONS)
    _check("normalization", normalization, NORMALIZATIONS)
    height, side, _ = image.shape[1:]
    if height != side:
        raise UsageError(f"dcgan_critic takes square images; got {height} x {side}")
    _, halvings = base_size(side)
    spectral = normalization == "spectral"
    conv = layers.SpectralConv2D if spectral else keras.layers.Conv2D
    dense = layers.SpectralDense if spectral else keras.layers.Dense
    embedding = layers.SpectralEmbedding if spectral else keras.layers.Embedding
    x, endpoints = image, {}
    if num_classes:
        label = endpoints["label"] = keras.Input((), dtype="int32", name="label")
        if condition == "concatenation":
            channel = keras.layers.Embedding(num_classes, side * side, name="label_map")(label)
            channel = keras.layers.Reshape((side, side, 1), name="label_channel")(channel)
            x = keras.layers.Concatenate(name="told")([x, channel])
    for index in range(1, halvings + 1):
        name, filters = f"down{index}", width * 2 ** (index - 1)
        normed = index > 1 and normalization in ("batch", "layer")
        options = {"use_bias": not normed, "padding": "same", **_init()}
        x = conv(filters, 5, 2, **options, name=name)(x)
        if normed and normalization == "batch":
            x = keras.layers.BatchNormalization(**BATCH_NORM, name=f"{name}_bn")(x)
        elif normed:
            x = keras.layers.LayerNormalization(axis=(1, 2, 3), name=f"{name}_ln")(x)
        x = keras.layers.LeakyReLU(LEAKY_RELU_SLOPE, name=f"{name}_relu")(x)
    x = keras.layers.Flatten(name="flatten", dtype="float32")(x)
    score = dense(1, **_init(), dtype="float32", name="score")(x)
    if num_classes and condition == "projection":
        options = {"embeddings_initializer": _init()["kernel_initializer"], "dtype": "float32"}
        vector = embedding(num_classes, x.shape[-1], **options, name="label_vector")(label)
        projection = keras.layers.Dot(1, dtype="float32", name="projection")([x, vector])
        score = keras.layers.Add(dtype="float32", name="told")([score, projection])
    endpoints["score"] = score
    return endpoints


def base_size(side):
    """Returns the side of the smallest maps for an image size, and the number of halvings.

    Raises:
        UsageError: the size is not 4, 5, 6 or 7 times 2, 4, 8 or a higher power of two.
    """
    start, times = side, 0
    while start % 2 == 0 and start >= 2 * MIN_BASE_SIZE:
        start, times = start // 2, times + 1
    if not times or start > MAX_BASE_SIZE:
        raise UsageError(
            f"dcgan needs an image size of 4, 5, 6 or 7 times a power of two, such as 28, 32, 48, "
            f"64 or 128; got {side}"
        )
    return start, times


def _conditional_batch_norm(x, by_class, *, name):
    """Applies batch normalization and `relu`, with gains and shifts per class where given."""
    if by_class is None:
        x = keras.layers.BatchNormalization(**BATCH_NORM, name=f"{name}_bn")(x)
        return keras.layers.Activation("relu", name=f"{name}_relu")(x)
    label, num_classes = by_class
    options = {**BATCH_NORM, "center": False, "scale": False}
    x = keras.layers.BatchNormalization(**options, name=f"{name}_bn")(x)
    width = x.shape[-1]
    parts = []
    for part, start in (("gain", "ones"), ("shift", "zeros")):
        table = keras.layers.Embedding(
            num_classes, width, embeddings_initializer=start, name=f"{name}_{part}"
        )
        parts.append(keras.layers.Reshape((1, 1, width), name=f"{name}_{part}s")(table(label)))
    x = keras.layers.Multiply(name=f"{name}_scaled")([x, parts[0]])
    x = keras.layers.Add(name=f"{name}_shifted")([x, parts[1]])
    return keras.layers.Activation("relu", name=f"{name}_relu")(x)


def _init():
    """Returns the paper's initializer, normal with a standard deviation of 0.02.

    A new object per layer, as each has its own seed.
    """
    return {"kernel_initializer": keras.initializers.RandomNormal(stddev=0.02)}


def _check(option, value, known):
    if value not in known:
        raise unknown_name_error(f"{option} of dcgan", value, list(known))
