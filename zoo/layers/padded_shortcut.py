"""The parameter-free shortcut of ResNets for CIFAR."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable("zoo")
class PaddedShortcut(keras.layers.Layer):
    """Subsamples height and width, and pads channels with zeros.

    Args:
        channels: the number of output channels.
        strides: stride of the subsampling.

    Call arguments:
        x: `(batch, height, width, fewer channels)`.

    Returns:
        `(batch, ceil(height / strides), ceil(width / strides), channels)`; half of the channels
        of zeros come before the others, half after them.

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
