"""Preprocessing as a layer, so that it travels with the model."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable("zoo")
class PixelNormalization(keras.layers.Layer):
    """Maps pixels from [0, 255] to what a network was trained on, `(x - mean) / scale`.

    Always computes in float32: bfloat16 has 8 significant bits, too few for a difference of
    pixels.

    Args:
        mean: what to subtract, in pixel units: a number, or one a channel in the order of the
            output.
        scale: what to divide by, likewise.
        reverse: whether to turn RGB into BGR first.

    Call arguments:
        x: `(batch, height, width, channels)`, in [0, 255].

    Returns:
        A float32 tensor of the same shape.
    """

    def __init__(self, mean=0.0, scale=1.0, reverse=False, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.mean, self.scale, self.reverse = mean, scale, reverse

    def call(self, x):
        x = keras.ops.cast(x, "float32")
        if self.reverse:
            x = keras.ops.flip(x, axis=-1)
        mean = keras.ops.convert_to_tensor(self.mean, "float32")
        scale = keras.ops.convert_to_tensor(self.scale, "float32")
        return (x - mean) / scale

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        own = {"mean": self.mean, "scale": self.scale, "reverse": self.reverse}
        return {**super().get_config(), **own}
