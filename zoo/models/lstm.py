"""Long short-term memory (LSTM)."""

from __future__ import annotations

from zoo.catalog import register
from zoo.lazy import keras
from zoo.parts import sequences

PAPER = "https://doi.org/10.1162/neco.1997.9.8.1735"

COUNTS = {  # trainable parameters, FLOPs
    "lstm": (97_888, 12_058_624),
}


@register(
    {"lstm": {}},
    kind="sequence",
    input_shape=(64, 1),
    preprocessing="none",
    paper=PAPER,
    counts=COUNTS,
)
def lstm(
    sequence,
    num_classes=96,
    *,
    vocabulary=96,
    embedding=32,
    units=128,
    depth=1,
    dropout=0.0,
    return_sequences=True,
    mean=None,
    std=None,
):
    """Builds a network of long short-term memory (Hochreiter & Schmidhuber, 1997, section 4).

    Departures: the cells have a forget gate (Gers et al., 2000), with a bias of 1 at first
    (Jozefowicz et al., 2015, section 2.2), and the gradient is not truncated within a window.

    Args:
        sequence: `(batch, steps, channels)`: token indices in one channel, 0 for padding; or real
            values in any number of channels. `steps` may be `None`.
        num_classes: number of logits: the vocabulary, or the classes of a sequence; with real
            values and `return_sequences`, the number of channels.
        vocabulary: number of tokens, the first of which is padding; 0 for real values.
        embedding: width of the token embeddings.
        units: width of the state.
        depth: number of recurrent layers.
        dropout: rate after each recurrent layer, in [0, 1).
        return_sequences: whether there is an output for each step, which depends on this step and
            the ones before it; otherwise there is one for the whole sequence, padding excluded.
        mean: mean of each channel of real values; with `std`, inputs are standardised, and
            forecasts are in the units of the inputs.
        std: standard deviation of each channel.

    Returns:
        Endpoint `logits`, float32: of the next token, `(batch, steps, num_classes)`, or of the
        class of a sequence, `(batch, num_classes)`. With real values and `return_sequences`,
        `forecast`: the next values, `(batch, steps, num_classes)`.
    """
    x = sequences.step_vectors(sequence, vocabulary, embedding, mean, std)
    layer = keras.layers.LSTM
    x = sequences.recurrent_layers(x, layer, units, depth, dropout, return_sequences)
    return sequences.head(x, num_classes, vocabulary, return_sequences, mean, std)
