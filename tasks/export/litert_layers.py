"""Layers that the converter of TensorFlow Lite takes at a fixed size only, for any size."""

from __future__ import annotations

import dataclasses

from tasks.inference.export_model import ExportModel
from zoo import graphs
from zoo.lazy import LazyModule, keras

lambda_layer = LazyModule("tasks.inference.lambda_layer")


def with_static_channels(exported: ExportModel):
    """Returns a model whose upsampled maps have a known number of channels.

    At an unknown height and width, the converter loses all dimensions of maps that are enlarged by
    nearest neighbours, and has no convolution for maps of any number of channels.
    """
    if None not in exported.image_shape or not any(
        isinstance(layer, keras.layers.UpSampling2D) for layer in graphs.leaf_layers(exported.model)
    ):
        return exported

    def call(node, inputs, *args, **kwargs):
        outputs = node.operation(inputs, *args, **kwargs)
        if not isinstance(node.operation, keras.layers.UpSampling2D):
            return outputs
        return lambda_layer.LambdaLayer(_reshape_to_itself, dtype=outputs.dtype)(outputs)

    return dataclasses.replace(exported, model=graphs.rebuild(graphs.flatten(exported.model), call))


def _reshape_to_itself(x):
    _, height, width, _ = keras.ops.shape(x)
    return keras.ops.reshape(x, (-1, height, width, x.shape[-1]))
