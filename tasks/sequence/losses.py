"""The loss of forecasts."""

from __future__ import annotations

from zoo.lazy import keras, np


def scaled_squared_error(std):
    """Returns the loss of forecasts: the squared error in units of the standard deviation.

    Args:
        std: The standard deviation of each channel of the training part.

    Returns:
        A function of targets and forecasts `(..., channels)` that returns their mean error over the
        channels, `(...)`.
    """
    scale = 1 / np.asarray(std, "float32")

    def loss(targets, forecasts):
        error = (keras.ops.cast(targets, "float32") - forecasts) * scale
        return keras.ops.mean(keras.ops.square(error), axis=-1)

    return loss
