"""Parts of sequence models: the input, recurrent layers and the head."""

from __future__ import annotations

from zoo.errors import UsageError
from zoo.lazy import keras

PADDING_TOKEN = 0  # of a shorter sequence of tokens
PADDING_VALUE = -1e30  # of every channel, in the steps after the end of a shorter series


def step_vectors(sequence, vocabulary, embedding, mean, std):
    """Returns the vector of each step, with a mask of the steps that are not padding.

    Args:
        sequence: `(batch, steps, channels)`: token indices in one channel, where `PADDING_TOKEN`
            is padding; or real values, where steps with `PADDING_VALUE` in every channel are.
        vocabulary: number of tokens, or 0 for real values.
        embedding: width of the token embeddings.
        mean, std: of each channel of real values, which are standardized by them; or `None`.

    Raises:
        UsageError: tokens in several channels, or a mean of another number of channels.
    """
    channels = sequence.shape[-1]
    if vocabulary:
        if channels != 1:
            raise UsageError(f"a sequence of tokens has 1 channel, not {channels}")
        tokens = keras.layers.Reshape((-1,), name="tokens")(sequence)
        return keras.layers.Embedding(vocabulary, embedding, mask_zero=True, name="embedding")(
            tokens
        )
    if not len(mean or ()) == len(std or ()) == (channels if mean else 0):
        raise UsageError(f"mean and std have one number per channel, {channels}, or are left out")
    # Half precision has too few digits for a difference of values.
    x = keras.layers.Masking(PADDING_VALUE, dtype="float32", name="masking")(sequence)
    if mean is None:
        return x
    variance = [each**2 for each in std]
    return keras.layers.Normalization(
        mean=list(mean), variance=variance, dtype="float32", name="standardization"
    )(x)


def recurrent_layers(x, layer, units, depth, dropout, return_sequences):
    """Applies a stack of recurrent layers, with dropout after each.

    Args:
        x: `(batch, steps, width)`.
        layer: the class of the layers, such as `keras.layers.LSTM`.
        units: width of the state.
        depth: number of layers.
        dropout: rate after each layer, in [0, 1).
        return_sequences: whether to return the outputs of all steps, or of the last one that is
            not padding.
    """
    for index in range(1, depth + 1):
        every = return_sequences or index < depth
        x = layer(units, return_sequences=every, name=f"recurrent{index}")(x)
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"recurrent{index}_dropout")(x)
    return x


def head(x, num_classes, vocabulary, return_sequences, mean, std):
    """Returns the endpoints: `logits`, or `forecast` for the next values of a series.

    Args:
        x: `(batch, features)`, or `(batch, steps, features)` with `return_sequences`.
        num_classes: number of logits, or of the channels of a forecast.
        vocabulary, return_sequences, mean, std: as in the builder.
    """
    name = "forecast" if return_sequences and not vocabulary else "logits"
    if name == "forecast" and mean is not None:
        if num_classes != len(mean):
            raise UsageError(f"a forecast has as many channels as mean, {len(mean)}")
        x = keras.layers.Dense(num_classes, dtype="float32", name="standardized_forecast")(x)
        variance = [each**2 for each in std]
        options = {"mean": list(mean), "variance": variance, "invert": True}
        return {name: keras.layers.Normalization(**options, dtype="float32", name=name)(x)}
    return {name: keras.layers.Dense(num_classes, dtype="float32", name=name)(x)}
