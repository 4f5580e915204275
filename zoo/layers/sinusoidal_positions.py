"""Fixed position encodings of a transformer."""

from __future__ import annotations

import math

import keras


@keras.saving.register_keras_serializable("zoo")
class SinusoidalPositions(keras.layers.Layer):
    """Adds sines and cosines of the position to each token, for any number of tokens.

    Channel `2i` of position `p` is `sin(p / 10000 ** (2i / width))`, channel `2i + 1` the cosine.
    Computed in float32 at least, since half precision cannot distinguish far positions.

    Call arguments:
        x: `(batch, tokens, width)`.

    Returns:
        A tensor of the same shape.

    Reference:
        Vaswani et al., 2017, section 3.5.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, x):
        width = x.shape[-1]
        positions = keras.ops.cast(keras.ops.arange(keras.ops.shape(x)[1]), "float32")
        channels = keras.ops.cast(keras.ops.arange(width), "float32")
        even = 2 * keras.ops.floor(channels / 2)
        angles = positions[:, None] * keras.ops.exp(-math.log(10_000) / width * even)
        # cos(x) = sin(x + pi / 2)
        encoding = keras.ops.sin(angles + math.pi / 2 * (channels - even))
        return x + keras.ops.cast(encoding, x.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape
