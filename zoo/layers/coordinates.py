"""Where a feature is, said to what looks at it."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable("zoo")
class Coordinates(keras.layers.Layer):
    """Adds two channels to maps: how far right and how far down each place is, from -1 to 1.

    Call arguments:
        x: `(batch, height, width, channels)`.

    Returns:
        `(batch, height, width, channels + 2)`. The centres of the outermost places are half a
        place from -1 and 1.

    Reference:
        Liu et al., 2018, An intriguing failing of convolutional neural networks (CoordConv).
    """

    def call(self, x):
        ops = keras.ops
        ones = ops.ones_like(x[..., :1])
        across, down = (ops.cumsum(ones, axis=axis) for axis in (2, 1))
        columns, rows = across[:, :, -1:], down[:, -1:]
        places = [(2 * across - 1) / columns - 1, (2 * down - 1) / rows - 1]
        return ops.concatenate([x, *places], axis=-1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], input_shape[-1] + 2)
