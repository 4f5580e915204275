"""Simple recurrent network."""

from __future__ import annotations

from zoo.catalog import register
from zoo.lazy import keras
from zoo.parts import sequences

PAPER = "https://doi.org/10.1207/s15516709cog1402_1"

COUNTS = {  # trainable parameters, FLOPs
    "simple_rnn": (36_064, 4_194_304),
}


@register(
    {"simple_rnn": {}},
    kind="sequence",
    input_shape=(64, 1),
    preprocessing="none",
    paper=PAPER,
    counts=COUNTS,
)
def simple_rnn(
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
    """Builds a simple recurrent network (Elman, 1990, figure 2).

    The state is `tanh(x W + h U + b)`. Departures: `tanh` where the paper has the logistic
    function; it is trained through all steps of a window, where the paper truncates after one.

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
    layer = keras.layers.SimpleRNN
    x = sequences.recurrent_layers(x, layer, units, depth, dropout, return_sequences)
    return sequences.head(x, num_classes, vocabulary, return_sequences, mean, std)
