"""Class token and position embeddings of a vision transformer."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable("zoo")
class ClassToken(keras.layers.Layer):
    """Prepends a learned class token.

    Call arguments:
        x: `(batch, tokens, width)`.

    Returns:
        `(batch, 1 + tokens, width)`.

    Reference:
        Dosovitskiy et al., 2020, equation 1.
    """

    def build(self, input_shape):
        self.token = self.add_weight(
            name="token", shape=(1, 1, input_shape[-1]), initializer=_initializer()
        )

    def call(self, x):
        shape = (keras.ops.shape(x)[0], 1, x.shape[-1])
        token = keras.ops.broadcast_to(keras.ops.cast(self.token, x.dtype), shape)
        return keras.ops.concatenate([token, x], axis=1)

    def compute_output_shape(self, input_shape):
        batch, tokens, width = input_shape
        return batch, tokens + 1, width


@keras.saving.register_keras_serializable("zoo")
class PositionEmbedding(keras.layers.Layer):
    """Adds a learned position embedding to each token.

    The number of embeddings is the number of tokens of the first input.

    Call arguments:
        x: `(batch, tokens, width)`.

    Returns:
        A tensor of the same shape.

    Reference:
        Dosovitskiy et al., 2020, equation 1.
    """

    def build(self, input_shape):
        self.positions = self.add_weight(
            name="positions", shape=(1, *input_shape[1:]), initializer=_initializer()
        )

    def call(self, x):
        return x + keras.ops.cast(self.positions, x.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape


def _initializer():
    return keras.initializers.TruncatedNormal(stddev=0.02)
