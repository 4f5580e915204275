"""MLP: fully connected layers."""

from __future__ import annotations

from zoo.catalog import register
from zoo.errors import unknown_name_error
from zoo.lazy import keras
from zoo.parts import blocks

PAPER = "https://doi.org/10.1038/323533a0"

VARIANTS = {"mlp": {}}

COUNTS = {  # trainable parameters, FLOPs
    "mlp": (108_210, 215_600),
}


@register(VARIANTS, input_shape=(16, 16, 1), paper=PAPER, counts=COUNTS)
def mlp(
    image,
    num_classes=10,
    *,
    widths=(300, 100),
    activation="relu",
    batch_norm=False,
    norm="none",
    skip=False,
    dropout=0.0,
    weight_decay=0.0,
):
    """Builds a multilayer perceptron (Rumelhart, Hinton & Williams, 1986).

    The default is for digits of 16 x 16 pixels, that is 256 inputs, with the hidden layers of the
    best plain network in LeCun et al., 1998 (section III.C.4: 300 and 100 units). Departures:
    `relu` where the paper has the sigmoid (`activation="sigmoid"`); no bias before a normalization.

    Args:
        image: `(batch, height, width, channels)`, normalized pixels of a fixed size.
        num_classes: width of the logits, or `None` for the stages only, of which there are none.
        widths: units of each hidden layer, for any number of layers; `()` is a linear classifier.
        activation: Keras's name of the hidden layers' activation.
        batch_norm: whether each hidden layer has batch normalization before its activation.
        norm: kind of normalization without `batch_norm`: `layer` (Ba et al., 2016), `group` (Wu
            & He, 2018; in `blocks.NUM_GROUPS` groups of units), `batch` or `none`.
        skip: whether the output of a hidden layer is added to the next one, before its
            activation, where both have the same width (He et al., 2016).
        dropout: rate after each hidden layer, in [0, 1).
        weight_decay: factor of the L2 penalty on the kernels.

    Returns:
        Endpoints: with classes, `logits`.
    """
    if not num_classes:
        return {}
    norm = "batch" if batch_norm else norm
    if norm not in blocks.NORMALIZATIONS:
        raise unknown_name_error("normalization", norm, blocks.NORMALIZATIONS)
    x = blocks.flatten(image)
    for index, width in enumerate(widths, start=1):
        entry = x
        x = keras.layers.Dense(
            width,
            use_bias=norm == "none",
            kernel_initializer="he_normal",
            kernel_regularizer=keras.regularizers.L2(weight_decay) if weight_decay else None,
            name=f"hidden{index}",
        )(x)
        x = blocks.normalise(x, norm, name=f"hidden{index}")
        if skip and index > 1 and entry.shape[-1] == width:
            x = keras.layers.Add(name=f"hidden{index}_skip_add")([x, entry])
        x = blocks.activate(x, activation, name=f"hidden{index}_activation")
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"hidden{index}_dropout")(x)
    return {"logits": blocks.logits(x, num_classes)}
