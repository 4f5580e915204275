"""The aggregation of the two streams of a dueling network."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable("zoo")
class Dueling(keras.layers.Layer):
    """Adds the state value to the advantages of the actions, less their mean.

    Equation 9 of Wang et al., 2015: without subtracting the mean, value and advantages would be
    determined up to a constant only. Computes in float32 at least.

    Call arguments:
        inputs: the value `(batch, 1)` and the advantages `(batch, actions)`.

    Returns:
        The value of each action, `(batch, actions)`.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        if self.compute_dtype != "float64":
            self.dtype_policy = "float32"

    def call(self, inputs):
        value, advantages = inputs
        return value + advantages - keras.ops.mean(advantages, axis=-1, keepdims=True)

    def compute_output_shape(self, input_shape):
        return input_shape[1]
