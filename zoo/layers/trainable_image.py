"""An image as a weight, which is optimized."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable("zoo")
class Canvas(keras.layers.Layer):
    """Returns the image that is its only weight, for any input.

    Computes in float32 at least, as `PixelNormalization` does. The image is repeated to the batch
    size of the input.

    Call arguments:
        x: `(batch, height, width, channels)`, of a fixed height and width; only its shape is used.

    Returns:
        The image, in the same shape; pixels in [0, 255], or slightly beyond during optimization.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        if self.compute_dtype != "float64":
            self.dtype_policy = "float32"

    def build(self, input_shape):
        self.picture = self.add_weight(
            shape=tuple(input_shape[1:]), initializer="zeros", name="picture"
        )

    def call(self, x):
        copies = keras.ops.shape(x)[0]
        return keras.ops.repeat(keras.ops.convert_to_tensor(self.picture)[None], copies, axis=0)

    def compute_output_shape(self, input_shape):
        return input_shape
