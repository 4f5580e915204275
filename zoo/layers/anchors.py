"""The boxes that a detector's answers are relative to, as a layer."""

from __future__ import annotations

import keras

from zoo.parts import boxes


@keras.saving.register_keras_serializable("zoo")
class Anchors(keras.layers.Layer):
    """Gives the anchors of a pyramid's maps, which are constants. It has no weights.

    Args:
        sizes: for each map one size in pixels of the image or several; see
        `boxes.generate_anchors`.
        strides: pixels from cell to cell of each map.
        ratios: heights over widths.

    Call arguments:
        maps: a list of `(batch, rows, columns, channels)`, of which only rows and columns
            matter, which must be fixed.

    Returns:
        float32 `(1, anchors, 4)`.
    """

    def __init__(self, sizes, strides, ratios, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32", "autocast": False})
        self.sizes, self.strides, self.ratios = sizes, strides, ratios

    def call(self, maps):
        return keras.ops.convert_to_tensor(self._constants([x.shape for x in maps]))

    def compute_output_spec(self, maps):
        return keras.KerasTensor(self._constants([x.shape for x in maps]).shape, "float32")

    def get_config(self):
        own = {"sizes": self.sizes, "strides": self.strides, "ratios": self.ratios}
        return {**super().get_config(), **own}

    def _constants(self, shapes):
        grids = [shape[1:3] for shape in shapes]
        return boxes.generate_anchors(self.sizes, self.strides, self.ratios, grids)[None]
