"""Local response normalization, the predecessor of batch normalization."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable("zoo")
class LocalResponseNormalization(keras.layers.Layer):
    """Divides each value by a power of the sum of squares of neighboring channels.

    `x[c] / (bias + alpha * sum(x[j] ** 2)) ** beta`, where `j` runs over the existing channels from
    `c - radius` to `c + radius`. It has no weights, and computes in float32 at least. The defaults
    are the paper's (k = 2, n = 5).

    Args:
        radius: the number of neighboring channels on either side.
        bias: constant that keeps the divisor above zero.
        alpha: factor of the sum; Caffe and PyTorch divide theirs by `2 * radius + 1`.
        beta: exponent of the divisor.

    Call arguments:
        x: `(..., channels)`.

    Returns:
        A tensor of the same shape.

    Reference:
        Krizhevsky et al., 2012, section 3.3.
    """

    def __init__(self, radius=2, bias=2.0, alpha=1e-4, beta=0.75, **kwargs):
        super().__init__(**kwargs)
        self.radius, self.bias, self.alpha, self.beta = radius, bias, alpha, beta

    def call(self, x):
        channels = x.shape[-1]
        precise = keras.ops.cast(x, keras.backend.result_type(x.dtype, "float32"))
        margins = [(0, 0)] * (len(x.shape) - 1) + [(self.radius, self.radius)]
        squares = keras.ops.pad(keras.ops.square(precise), margins)
        energy = sum(squares[..., i : i + channels] for i in range(2 * self.radius + 1))
        normal = precise * keras.ops.power(self.bias + self.alpha * energy, -self.beta)
        return keras.ops.cast(normal, x.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        own = {"radius": self.radius, "bias": self.bias, "alpha": self.alpha, "beta": self.beta}
        return {**super().get_config(), **own}
