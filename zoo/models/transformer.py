"""Small transformer for sequences."""

from __future__ import annotations

from zoo.catalog import register
from zoo.errors import UsageError
from zoo.lazy import keras
from zoo.lazy_layers import layers
from zoo.parts import sequences

PAPER = "https://arxiv.org/abs/1706.03762"

COUNTS = {  # trainable parameters, FLOPs
    "transformer": (112_480, 13_369_344),
}


@register(
    {"transformer": {}},
    kind="sequence",
    input_shape=(64, 1),
    preprocessing="none",
    paper=PAPER,
    counts=COUNTS,
)
def transformer(
    sequence,
    num_classes=96,
    *,
    vocabulary=96,
    units=64,
    heads=4,
    depth=2,
    expansion=4,
    dropout=0.0,
    return_sequences=True,
    mean=None,
    std=None,
):
    """Builds a transformer: a decoder with causal attention, or an encoder (Vaswani et al., 2017).

    With `return_sequences` it is the decoder without attention to an encoder, as in Radford et al.,
    2018; without, it is the encoder, whose outputs are averaged over the steps. Departures: the
    normalization precedes each sublayer, as in Xiong et al., 2020, figure 1b; GELU replaces ReLU;
    dropout is 0 by default; real values are projected where tokens are embedded.

    Args:
        sequence: `(batch, steps, channels)`: token indices in one channel, 0 for padding; or real
            values in any number of channels. `steps` may be `None`.
        num_classes: number of logits: the vocabulary, or the classes of a sequence; with real
            values and `return_sequences`, the number of channels.
        vocabulary: number of tokens, the first of which is padding; 0 for real values.
        units: width of the vector of each step, a multiple of `heads`.
        heads: number of attention heads.
        depth: number of blocks.
        expansion: ratio of the hidden width of the dense layers to `units`.
        dropout: rate after the positions and each sublayer, in [0, 1).
        return_sequences: whether there is an output for each step, which depends on this step and
            the ones before it; otherwise there is one for the whole sequence, padding excluded.
        mean: mean of each channel of real values; with `std`, inputs are standardized, and
            forecasts are in the units of the inputs.
        std: standard deviation of each channel.

    Returns:
        Endpoint `logits`, float32: of the next token, `(batch, steps, num_classes)`, or of the
        class of a sequence, `(batch, num_classes)`. With real values and `return_sequences`,
        `forecast`: the next values, `(batch, steps, num_classes)`.
    """
    if units % heads:
        raise UsageError(f"transformer needs units divisible by heads; got {units} and {heads}")
    x = sequences.step_vectors(sequence, vocabulary, units, mean, std)
    if not vocabulary:
        x = keras.layers.Dense(units, name="projection")(x)
    x = layers.SinusoidalPositions(name="positions")(x)
    x = _dropout(x, dropout, name="positions_dropout")
    for index in range(1, depth + 1):
        x = _block(x, heads, expansion, dropout, return_sequences, name=f"block{index}")
    x = keras.layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    if not return_sequences:
        x = keras.layers.GlobalAveragePooling1D(name="pool")(x)
    return sequences.head(x, num_classes, vocabulary, return_sequences, mean, std)


def _block(x, heads, expansion, dropout, causal, *, name):
    """Applies self-attention and two dense layers, each with a residual connection."""
    units = x.shape[-1]
    y = keras.layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm1")(x)
    attention = keras.layers.MultiHeadAttention(heads, units // heads, name=f"{name}_attention")
    y = _dropout(attention(y, y, use_causal_mask=causal), dropout, name=f"{name}_dropout1")
    x = keras.layers.Add(name=f"{name}_add1")([x, y])
    y = keras.layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm2")(x)
    y = keras.layers.Dense(expansion * units, activation="gelu", name=f"{name}_dense1")(y)
    y = keras.layers.Dense(units, name=f"{name}_dense2")(y)
    y = _dropout(y, dropout, name=f"{name}_dropout2")
    return keras.layers.Add(name=f"{name}_add2")([x, y])


def _dropout(x, rate, *, name):
    return keras.layers.Dropout(rate, name=name)(x) if rate else x
