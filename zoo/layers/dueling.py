"""The two streams of a duelling network, joined."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable("zoo")
class Dueling(keras.layers.Layer):
    """Adds the value of a state to what each action is better than the average action.

    Equation 9 of Wang et al., 2015: without subtracting the mean, a constant could move from one
    stream to the other. Computes in float32 at least.

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
