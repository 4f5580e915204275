"""Agents: networks that give the value of each action, from pixels or from a vector."""

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
    """Builds a deep Q-network that sees pixels.

    `nature_dqn` is that of Mnih et al., 2015 (methods, "Model architecture"), `nips_dqn` that of
    Mnih et al., 2013 (section 4.1), `minatar_dqn` that of Young & Tian, 2019 (section 3), for
    screens of 10 x 10. Departures: none in the layers; a duelling network (Wang et al., 2015,
    section 3) does not rescale the gradient that enters its convolutions.

    Args:
        image: `(batch, height, width, channels)`, pixels in [0, 255] of a fixed size; successive
            frames stand behind each other in the channels, the latest last.
        num_classes: how many actions there are.
        convolutions: `(channels, kernel size, stride)` of each, not padded.
        hidden: units of the dense layer, or of each stream's.
        dueling: whether the value of the state and the advantages of actions have streams of
            their own.

    Returns:
        Endpoint `values`, float32: the expected return of each action, `(batch, num_classes)`.
    """
    if None in image.shape[1:]:
        raise UsageError("an agent needs pixels of a fixed size; give input_shape")
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
    """Builds a deep Q-network that sees a vector.

    The default is the network of CleanRL's `dqn.py` (Huang et al., 2022). Departures: weights
    are drawn as He et al., 2015, have it, and not as PyTorch does by default.

    Args:
        vector: `(batch, numbers)`, as the environment gives them.
        num_classes: how many actions there are.
        widths: units of each hidden layer; the last one belongs to each stream of a duelling
            network.
        dueling: whether the value of the state and the advantages of actions have streams of
            their own (Wang et al., 2015).

    Returns:
        Endpoint `values`, float32: the expected return of each action, `(batch, num_classes)`.
    """
    if not widths:
        raise UsageError("vector_dqn needs one width or more, such as (120, 84)")
    return _values(vector, widths, num_classes, dueling)


def _values(x, widths, actions, dueling):
    """The dense layers, in one stream or two, and what they come to."""
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
