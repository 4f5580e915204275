"""A function of tensors as a layer, for a graph that learns and is not saved."""

from __future__ import annotations

import keras


class LambdaLayer(keras.layers.Layer):
    """Calls a function, and has no weights. `Lambda` takes all tensors for floats; this does not.

    Args:
        function: of the one thing that the layer is called on, a tensor or a structure of them,
            in `keras.ops`. Floats come to it in the precision of the layer.
    """

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, inputs):
        return self.function(inputs)
