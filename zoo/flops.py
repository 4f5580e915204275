"""Counts the trainable parameters and FLOPs of a model.

The counts in a `Spec` are data, so that `zoo list` need not build models; tests compare them with
those computed here.
"""

from __future__ import annotations

import math

from zoo import graphs
from zoo.errors import UsageError
from zoo.lazy import keras

# Layers with one multiply-add per kernel weight and output pixel...
MACS_PER_OUTPUT = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Dense")
# ...and per kernel weight and input pixel or step.
MACS_PER_INPUT = ("Conv2DTranspose", "SimpleRNN", "LSTM", "GRU", "MultiHeadAttention")


def count_params_and_flops(model):
    """Counts a functional model's parameters and FLOPs.

    FLOPs are two per multiply-add of convolutions, dense and recurrent layers, for one input of the
    model's static input shape. Biases, normalization, activations, pooling and matrix products
    without weights (attention) are not counted. A layer that is called several times is counted for
    each call; nested models are included.

    Args:
        model: a `keras.Model`, functional or sequential, with known height and width.

    Returns:
        `(parameters, flops)`, two integers.

    Raises:
        UsageError: the model is not a graph of layers, or a shape in it is unknown.
    """
    if not isinstance(model, keras.Model):
        raise UsageError(f"FLOPs are counted for a keras.Model, not {type(model).__name__}")
    parameters = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return parameters, 2 * _model_macs(model)


def node_macs(node):
    """Returns the multiply-adds of one call of a layer, a node of a functional model's graph."""
    layer = node.operation
    if isinstance(layer, keras.Model):
        return _model_macs(layer)
    kind = _kind(layer)
    if kind is None:
        return 0
    tensor = (node.input_tensors if kind in MACS_PER_INPUT else node.output_tensors)[0]
    positions = tensor.shape[1:-1]  # a dense layer is applied along the last axis
    if None in positions:
        raise UsageError(
            f"the FLOPs of {layer.name} are unknown: its shape is {tensor.shape}; build the model "
            "with a fixed height and width"
        )
    kernels = (weight for weight in layer.weights if "kernel" in weight.name)
    return math.prod(positions) * sum(math.prod(kernel.shape) for kernel in kernels)


def _model_macs(model):
    """Returns the multiply-adds of a model's convolutions and dense layers, for one input."""
    graph = graphs.functional_graph(model)
    if graph is None:
        raise UsageError(
            f"the FLOPs of {model.name} are unknown: they are counted for functional models only"
        )
    return sum(node_macs(node) for node in graphs.nodes(graph))


def _kind(layer):
    """Returns the name of the counted Keras class of a layer or of its base class, or `None`."""
    classes = {ancestor.__name__ for ancestor in type(layer).__mro__}
    return next((kind for kind in (*MACS_PER_INPUT, *MACS_PER_OUTPUT) if kind in classes), None)
