"""A shortcut without parameters, for the ResNets of CIFAR."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable("zoo")
class PaddedShortcut(keras.layers.Layer):
    """Subsamples space and pads channels with zeros.

    Args:
        channels: how many channels come out.
        strides: every how many pixels one is kept.

    Call arguments:
        x: `(batch, height, width, fewer channels)`.

    Returns:
        `(batch, ceil(height / strides), ceil(width / strides), channels)`; zeros stand on both
        sides of the channels, as many on each.

    Reference:
        He et al., 2015, section 4.2, option A.
    """

    def __init__(self, channels, strides=1, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.strides = channels, strides

    def call(self, x):
        missing = self.channels - x.shape[-1]
        x = x[:, :: self.strides, :: self.strides, :]
        return keras.ops.pad(x, [[0, 0], [0, 0], [0, 0], [missing // 2, missing - missing // 2]])

    def get_config(self):
        return {**super().get_config(), "channels": self.channels, "strides": self.strides}
