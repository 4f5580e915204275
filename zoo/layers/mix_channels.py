"""Fixed linear combinations of channels, for images of another number of channels."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable("zoo")
class MixChannels(keras.layers.Layer):
    """Multiplies channels by a constant matrix. It has no weights.

    Computes in float32 at least, as `PixelNormalization` does.

    Args:
        matrix: for each input channel, its weight in each output channel.

    Call arguments:
        x: `(batch, height, width, len(matrix))`, of any numeric dtype.

    Returns:
        `(batch, height, width, len(matrix[0]))`, float32 or, where that is the policy, float64.
    """

    def __init__(self, matrix, **kwargs):
        super().__init__(**kwargs)
        if self.compute_dtype != "float64":
            self.dtype_policy = "float32"
        self.matrix = [[float(share) for share in row] for row in matrix]

    def call(self, x):
        x = keras.ops.cast(x, self.compute_dtype)
        return keras.ops.matmul(x, keras.ops.convert_to_tensor(self.matrix, x.dtype))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], len(self.matrix[0]))

    def get_config(self):
        return {**super().get_config(), "matrix": self.matrix}
