"""Recurrent networks: simple RNN, LSTM and GRU."""

from __future__ import annotations

from zoo.catalog import register
from zoo.lazy import keras
from zoo.parts import sequences

ELMAN = "https://doi.org/10.1207/s15516709cog1402_1"
LSTM = "https://doi.org/10.1162/neco.1997.9.8.1735"
GRU = "https://arxiv.org/abs/1406.1078"

COUNTS = {  # trainable parameters, FLOPs
    "simple_rnn": (36_064, 4_194_304),
    "lstm": (97_888, 12_058_624),
    "gru": (77_664, 9_437_184),
}
SHARED = {
    "kind": "sequence",
    "input_shape": (64, 1),
    "preprocessing": "none",
    "counts": COUNTS,
}


@register({"simple_rnn": {"cell": "SimpleRNN"}}, family="simple_rnn", paper=ELMAN, **SHARED)
@register({"lstm": {"cell": "LSTM"}}, family="lstm", paper=LSTM, **SHARED)
@register({"gru": {"cell": "GRU"}}, family="gru", paper=GRU, **SHARED)
def recurrent(
    sequence,
    num_classes=96,
    *,
    cell,
    vocabulary=96,
    embedding=32,
    units=128,
    depth=1,
    dropout=0.0,
    return_sequences=True,
    mean=None,
    std=None,
):
    """Builds a recurrent network from one of Keras's cells.

    `SimpleRNN`: Elman, 1990, figure 2. The state is `tanh(x W + h U + b)`. Departures: `tanh` where
    the paper has the logistic function; it is trained through all steps of a window, where the
    paper truncates after one.

    `LSTM`: Hochreiter & Schmidhuber, 1997, section 4. Departures: the cells have a forget gate
    (Gers et al., 2000), with a bias of 1 at first (Jozefowicz et al., 2015, section 2.2), and the
    gradient is not truncated within a window.

    `GRU`: Cho et al., 2014, section 2.3. Departure: the reset gate is applied after the recurrent
    product, which has a bias of its own, as in cuDNN.

    Args:
        sequence: `(batch, steps, channels)`: token indices in one channel, 0 for padding; or real
            values in any number of channels. `steps` may be `None`.
        num_classes: number of logits: the vocabulary, or the classes of a sequence; with real
            values and `return_sequences`, the number of channels.
        cell: name of the recurrent layer of Keras: `SimpleRNN`, `LSTM` or `GRU`.
        vocabulary: number of tokens, the first of which is padding; 0 for real values.
        embedding: width of the token embeddings.
        units: width of the state.
        depth: number of recurrent layers.
        dropout: rate after each recurrent layer, in [0, 1).
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
    x = sequences.step_vectors(sequence, vocabulary, embedding, mean, std)
    layer = getattr(keras.layers, cell)
    x = sequences.recurrent_layers(x, layer, units, depth, dropout, return_sequences)
    return sequences.head(x, num_classes, vocabulary, return_sequences, mean, std)
