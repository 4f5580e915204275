"""Clipping at inference only."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable("zoo", name="Bounded")
class ClipAtInference(keras.layers.Layer):
    """Clips values to a range, but not in training, where values beyond it need a gradient.

    Args:
        low, high: the bounds of the range.

    Call arguments:
        x: a tensor.
        training: whether to return it unchanged.

    Returns:
        A tensor of the same shape.
    """

    def __init__(self, low=0.0, high=255.0, **kwargs):
        super().__init__(**kwargs)
        self.low, self.high = low, high

    def call(self, x, training=False):
        return x if training else keras.ops.clip(x, self.low, self.high)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "low": self.low, "high": self.high}
