"""Merging the axis of regions with the batch, and splitting them again."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable("zoo", name="FoldRegions")
class FlattenRegions(keras.layers.Layer):
    """Merges the regions of all images into one batch: (batch, n, ...) -> (batch * n, ...)."""

    def call(self, x):
        return keras.ops.reshape(x, (-1, *x.shape[2:]))

    def compute_output_shape(self, input_shape):
        batch, count = input_shape[:2]
        known = batch is not None and count is not None
        return (batch * count if known else None, *input_shape[2:])


@keras.saving.register_keras_serializable("zoo", name="UnfoldRegions")
class UnflattenRegions(keras.layers.Layer):
    """Splits a batch of regions by image: the inverse of `FlattenRegions`.

    Call arguments:
        x: `(batch * n, ...)`.
        regions: `(batch, n, 4)`, of which only the shape is used.

    Returns:
        `(batch, n, ...)`.
    """

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "autocast": False})

    def call(self, x, regions):
        return keras.ops.reshape(x, (-1, keras.ops.shape(regions)[1], *x.shape[1:]))

    def compute_output_spec(self, x, regions):
        return keras.KerasTensor((*regions.shape[:2], *x.shape[1:]), x.dtype)
