"""LeNet-5: the convolutional network for handwritten digits."""

from __future__ import annotations

from zoo.catalog import register
from zoo.lazy import keras
from zoo.parts import blocks

PAPER = "https://doi.org/10.1109/5.726791"

VARIANTS = {"lenet5": {}}

COUNTS = {  # trainable parameters, FLOPs
    "lenet5": (61_706, 833_040),
}


@register(
    VARIANTS,
    input_shape=(32, 32, 1),
    min_size=16,
    stages=range(3),
    paper=PAPER,
    counts=COUNTS,
)
def lenet(image, num_classes=10, *, activation="tanh", dropout=0.0):
    """Builds LeNet-5 (LeCun et al., 1998, figure 2).

    Departures: C3 is connected to every map of S2, not to the subsets of table I; S2 and S4 are
    average poolings without trainable coefficient and bias; the hyperbolic tangent is unscaled; the
    output is a dense layer, not Euclidean RBF units. Pixels are scaled to [-1, 1], not to
    [-0.1, 1.175].

    Args:
        image: `(batch, height, width, channels)`, normalized pixels of a fixed size.
        num_classes: width of the logits, or `None` for the stages only.
        activation: Keras's name of the activation of C1, C3, C5 and F6.
        dropout: rate before the logits; the paper has none.

    Returns:
        Endpoints `stage0` (C1), `stage1` (C3), `stage2` (S4) and, with classes, `logits`.
        Convolutions are not padded: each reduces height and width by 4 pixels.
    """
    x = _convolve(image, 6, activation, name="c1")
    endpoints = {"stage0": x}
    x = keras.layers.AveragePooling2D(2, name="s2")(x)
    x = endpoints["stage1"] = _convolve(x, 16, activation, name="c3")
    x = endpoints["stage2"] = keras.layers.AveragePooling2D(2, name="s4")(x)
    if num_classes:
        x = blocks.flatten(x)
        for name, width in (("c5", 120), ("f6", 84)):
            x = keras.layers.Dense(width, name=name)(x)
            x = blocks.activate(x, activation, name=f"{name}_activation")
        endpoints["logits"] = blocks.logits(x, num_classes, dropout=dropout)
    return endpoints


def _convolve(x, filters, activation, *, name):
    x = keras.layers.Conv2D(filters, 5, name=name)(x)
    return blocks.activate(x, activation, name=f"{name}_activation")
