"""Values kept within bounds where they are used, and free where they are learned."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable("zoo", name="Bounded")
class ClipAtInference(keras.layers.Layer):
    """Cuts values off at two bounds, but not in training, where what is beyond must find back.

    Args:
        low, high: the bounds.

    Call arguments:
        x: a tensor.
        training: whether to leave it as it is.

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
