"""Padding by reflection, so that a convolution sees no frame round an image."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable("zoo")
class ReflectionPadding2D(keras.layers.Layer):
    """Continues maps beyond their borders by their mirror image; the border itself stands once.

    It is for maps inside a network: in their own precision, and by one operation whose gradient
    costs as little. Whole images, which may be smaller than what is added, go through
    `MirrorPadding2D`.

    Args:
        padding: pixels on each of the four sides; maps must be larger than that.

    Call arguments:
        x: `(batch, height, width, channels)`.

    Returns:
        `(batch, height + 2 * padding, width + 2 * padding, channels)`.
    """

    def __init__(self, padding=1, **kwargs):
        super().__init__(**kwargs)
        self.padding = padding

    def call(self, x):
        sides = (self.padding, self.padding)
        return keras.ops.pad(x, ((0, 0), sides, sides, (0, 0)), mode="reflect")

    def compute_output_shape(self, input_shape):
        batch, *sides, channels = input_shape
        more = 2 * self.padding
        return batch, *(None if side is None else side + more for side in sides), channels

    def get_config(self):
        return {**super().get_config(), "padding": self.padding}
