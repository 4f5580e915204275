"""A function of tensors as a layer, for training models, which are not saved."""

from __future__ import annotations

import keras


class LambdaLayer(keras.layers.Layer):
    """Calls a function. Unlike `keras.layers.Lambda` it does not cast integers to floats.

    Args:
        function: A function in `keras.ops` of the input of the layer, a tensor or a structure of
            tensors. Floats are cast to the compute dtype of the layer.
    """

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, inputs):
        return self.function(inputs)
