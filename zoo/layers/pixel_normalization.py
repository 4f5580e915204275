"""Preprocessing as a layer, which is saved with the model."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable("zoo")
class PixelNormalization(keras.layers.Layer):
    """Normalizes pixels in [0, 255] as in the training of a network, `(x - mean) / scale`.

    Computes in float32 at least: bfloat16 has 8 significant bits, too few for a difference of
    pixels. Images with another number of channels than `mean` (gray, or RGB with a fourth channel)
    are neither converted nor reversed: every channel gets the average mean and the average scale.

    Args:
        mean: the mean in pixel units: a number, or one per channel in the order of the output.
        scale: the divisor, a number or one per channel likewise.
        reverse: whether to convert RGB to BGR first.

    Call arguments:
        x: `(batch, height, width, channels)`, in [0, 255].

    Returns:
        A tensor of the same shape, float32 or, where that is the policy, float64.
    """

    def __init__(self, mean=0.0, scale=1.0, reverse=False, **kwargs):
        super().__init__(**kwargs)
        if self.compute_dtype != "float64":
            self.dtype_policy = "float32"
        self.mean, self.scale, self.reverse = mean, scale, reverse

    def call(self, x):
        x = keras.ops.cast(x, self.compute_dtype)
        if self.reverse and x.shape[-1] == 3:
            x = keras.ops.flip(x, axis=-1)
        return (x - _per_channel(self.mean, x)) / _per_channel(self.scale, x)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        own = {"mean": self.mean, "scale": self.scale, "reverse": self.reverse}
        return {**super().get_config(), **own}


def _per_channel(values, x):
    """Returns one value per channel as a tensor, or their average if the numbers differ."""
    values = keras.ops.convert_to_tensor(values, x.dtype)
    return values if tuple(values.shape) in ((), x.shape[-1:]) else keras.ops.mean(values)
