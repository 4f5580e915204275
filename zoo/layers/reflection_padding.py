"""Padding by reflection, which leaves no artificial border around an image."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable("zoo")
class ReflectionPadding2D(keras.layers.Layer):
    """Pads maps by reflection; pixels of the border are not repeated.

    It is for maps inside a network: it keeps their precision, and is one operation with a cheap
    gradient. For whole images, which may be smaller than the padding, see `ReflectPadToMultiple2D`.

    Args:
        padding: pixels on each of the four sides, fewer than the height and width of the maps.

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
