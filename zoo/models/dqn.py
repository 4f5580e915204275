"""Deep Q-networks: the value of each action, from pixels or from a vector."""

from __future__ import annotations

import functools

from zoo.catalog import register
from zoo.errors import UsageError
from zoo.lazy import keras
from zoo.lazy_layers import layers
from zoo.parts import blocks

NATURE = "https://doi.org/10.1038/nature14236"
NIPS = "https://arxiv.org/abs/1312.5602"
MINATAR = "https://arxiv.org/abs/1903.03176"
CLEANRL = "https://jmlr.org/papers/v23/21-1342.html"

# Convolutions as (channels, kernel size, stride), then the units of the dense layer.
NATURE_LAYERS = {"convolutions": ((32, 8, 4), (64, 4, 2), (64, 3, 1)), "hidden": 512}
NIPS_LAYERS = {"convolutions": ((16, 8, 4), (32, 4, 2)), "hidden": 256}
MINATAR_LAYERS = {"convolutions": ((16, 3, 1),), "hidden": 128}

COUNTS = {  # trainable parameters, FLOPs
    "nature_dqn": (1_687_206, 18_692_096),
    "nips_dqn": (677_686, 5_934_080),
    "minatar_dqn": (132_566, 337_408),
    "vector_dqn": (10_934, 21_456),
}
agent = functools.partial(register, kind="agent", preprocessing="none", counts=COUNTS)


@agent({"nature_dqn": NATURE_LAYERS}, input_shape=(84, 84, 4), min_size=36, paper=NATURE)
@agent({"nips_dqn": NIPS_LAYERS}, input_shape=(84, 84, 4), min_size=20, paper=NIPS)
@agent({"minatar_dqn": MINATAR_LAYERS}, input_shape=(10, 10, 4), min_size=3, paper=MINATAR)
def dqn(image, num_classes=6, *, convolutions, hidden, dueling=False):
    """Builds a deep Q-network for pixels.

    `nature_dqn` is that of Mnih et al., 2015 (methods, "Model architecture"), `nips_dqn` that of
    Mnih et al., 2013 (section 4.1), `minatar_dqn` that of Young & Tian, 2019 (section 3), for
    observations of 10 x 10. Departures: none in the layers; in a dueling network (Wang et al.,
    2015, section 3) the gradient of the convolutions is not rescaled.

    Args:
        image: `(batch, height, width, channels)`, pixels in [0, 255] of a fixed size; the frames
            are stacked along the channels, the latest last.
        num_classes: the number of actions.
        convolutions: `(channels, kernel size, stride)` of each, without padding.
        hidden: units of the dense layer, or of that of each stream.
        dueling: whether the state value and the advantages of the actions are separate streams.

    Returns:
        Endpoint `values`, float32: the expected return of each action, `(batch, num_classes)`.
    """
    if None in image.shape[1:]:
        raise UsageError("an agent needs images of a fixed size; pass input_shape")
    x = blocks.normalise_pixels(image, scale=255.0)
    for index, (channels, kernel_size, stride) in enumerate(convolutions, start=1):
        x = keras.layers.Conv2D(
            channels,
            kernel_size,
            strides=stride,
            activation="relu",
            kernel_initializer="he_uniform",
            name=f"conv{index}",
        )(x)
    return _values(keras.layers.Flatten(name="flatten")(x), (hidden,), num_classes, dueling)


@agent({"vector_dqn": {}}, input_shape=(4,), paper=CLEANRL, family="dqn")
def vector_dqn(vector, num_classes=2, *, widths=(120, 84), dueling=False):
    """Builds a deep Q-network for vectors.

    The default is the network of CleanRL's `dqn.py` (Huang et al., 2022). Departure: kernels are
    initialized as in He et al., 2015, not with PyTorch's default.

    Args:
        vector: `(batch, features)`, the observations of the environment.
        num_classes: the number of actions.
        widths: units of each hidden layer; in a dueling network each stream has its own last
            layer.
        dueling: whether the state value and the advantages of the actions are separate streams
            (Wang et al., 2015).

    Returns:
        Endpoint `values`, float32: the expected return of each action, `(batch, num_classes)`.
    """
    if not widths:
        raise UsageError("vector_dqn needs at least one width, such as (120, 84); got ()")
    return _values(vector, widths, num_classes, dueling)


def _values(x, widths, actions, dueling):
    """Returns the action values, by dense layers in one stream or two."""
    for index, width in enumerate(widths[:-1], start=1):
        x = _hidden(x, width, f"hidden{index}")
    if not dueling:
        x = _hidden(x, widths[-1], f"hidden{len(widths)}")
        return {"values": keras.layers.Dense(actions, dtype="float32", name="values")(x)}
    state = _hidden(x, widths[-1], "state_hidden")
    state = keras.layers.Dense(1, dtype="float32", name="state")(state)
    advantages = _hidden(x, widths[-1], "advantages_hidden")
    advantages = keras.layers.Dense(actions, dtype="float32", name="advantages")(advantages)
    return {"values": layers.Dueling(name="values")([state, advantages])}


def _hidden(x, width, name):
    return keras.layers.Dense(width, activation="relu", kernel_initializer="he_uniform", name=name)(
        x
    )
