"""Anchors, the reference boxes of a detector, as a layer."""

from __future__ import annotations

import keras

from zoo.parts import boxes


@keras.saving.register_keras_serializable("zoo")
class Anchors(keras.layers.Layer):
    """Returns the anchors of a feature pyramid, which are constants. It has no weights.

    Args:
        sizes: for each map one or several sizes in pixels of the image; see
            `boxes.generate_anchors`.
        strides: stride of each map in pixels.
        ratios: aspect ratios, height over width.

    Call arguments:
        maps: a list of `(batch, rows, columns, channels)` of fixed rows and columns; only these
            are used.

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
