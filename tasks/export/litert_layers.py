"""Layers in a form that the converter of TensorFlow Lite takes, or quantizes, correctly."""

from __future__ import annotations

import dataclasses

from tasks.inference.export_model import ExportModel
from zoo import graphs
from zoo.lazy import LazyModule, keras
from zoo.parts.blocks import RGB
from zoo.surgery.input_channels import reverses_channels

lambda_layer = LazyModule("tasks.inference.lambda_layer")


def with_static_channels(exported: ExportModel):
    """Returns a model whose upsampled maps have a known number of channels.

    At an unknown height and width, the converter loses all dimensions of maps that are enlarged by
    nearest neighbors, and has no convolution for maps of any number of channels.
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


def without_reversal(exported: ExportModel):
    """Returns a model that reverses channels, from RGB to BGR, by concatenating them.

    The converter may give the result of REVERSE_V2 another quantization scale than its input, but
    the operation only copies the 8 bits: pixels would be multiplied by the ratio of the scales.
    """
    flat = graphs.flatten(exported.model)
    if not any(reverses_channels(node.operation) for node in graphs.nodes(flat)):
        return exported

    def call(node, x, *args, **kwargs):
        operation = node.operation
        if not reverses_channels(operation) or x.shape[-1] != RGB:
            return graphs.call_node(node, x, *args, **kwargs)
        reverse = lambda_layer.LambdaLayer(_reverse_channels, dtype=x.dtype)
        if not isinstance(operation, keras.layers.Layer):
            return reverse(x)
        config = {**operation.get_config(), "reverse": False}
        return type(operation).from_config(config)(reverse(x))

    return dataclasses.replace(exported, model=graphs.rebuild(flat, call))


def _reverse_channels(x):
    return keras.ops.concatenate([x[..., n : n + 1] for n in reversed(range(RGB))], axis=-1)


def _reshape_to_itself(x):
    _, height, width, _ = keras.ops.shape(x)
    return keras.ops.reshape(x, (-1, height, width, x.shape[-1]))
