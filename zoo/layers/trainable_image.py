"""A picture as a weight, so that it can learn."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable("zoo")
class Canvas(keras.layers.Layer):
    """Gives the picture that is its only weight, whatever it is called on.

    Computes in float32 at least, as `PixelNormalization` does. The picture is that of one image:
    it is given as often as there are images.

    Call arguments:
        x: `(batch, height, width, channels)`, of sides that are known; only its shape counts.

    Returns:
        The picture, of the same shape; pixels in [0, 255], or somewhat beyond while it learns.
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
