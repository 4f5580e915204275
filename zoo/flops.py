"""What a model costs: its trainable parameters and the work of one image.

The figures of a `Spec` are data, so that `zoo list` need not build anything; this file is what
they are checked against.
"""

from __future__ import annotations

import math

from zoo.errors import UsageError
from zoo.lazy import keras

# A convolution multiplies each of these kernels once for every pixel that it gives...
MACS_PER_OUTPUT = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Dense")
# ...and a transposed one once for every pixel that it takes.
MACS_PER_INPUT = ("Conv2DTranspose",)


def count_params_and_flops(model):
    """Counts a functional model's parameters and FLOPs.

    FLOPs are two for each multiply-add of convolutions and dense layers, for a batch of one at
    the model's static input shape. Biases, normalisation, activations, pooling and matrix
    products without weights of their own (attention) are not counted. A layer that is called
    several times counts as often; a nested model counts as what is in it.

    Args:
        model: a `keras.Model`, functional or sequential, with known height and width.

    Returns:
        `(parameters, flops)`: trainable parameters, and FLOPs.

    Raises:
        UsageError: the model is no graph of layers, or a shape in it is unknown.
    """
    if not isinstance(model, keras.Model):
        raise UsageError(f"a keras.Model has FLOPs, not {type(model).__name__}")
    parameters = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return parameters, 2 * _model_macs(model)


def node_macs(node):
    """Returns the multiply-adds of one call of one layer, a node of a functional model's graph."""
    layer = node.operation
    if isinstance(layer, keras.Model):
        return _model_macs(layer)
    kind = _kind(layer)
    if kind is None:
        return 0
    tensor = (node.input_tensors if kind in MACS_PER_INPUT else node.output_tensors)[0]
    places = tensor.shape[1:-1]  # a dense layer works on the last axis of whatever it gets
    if None in places:
        raise UsageError(f"the FLOPs of {layer.name} are unknown: its shape is {tensor.shape}")
    kernels = (weight for weight in layer.weights if "kernel" in weight.name)
    return math.prod(places) * sum(math.prod(kernel.shape) for kernel in kernels)


def _model_macs(model):
    """Returns the multiply-adds of a model's convolutions and dense layers, for one input."""
    graph = getattr(model, "_functional", None) or model  # a Sequential model wraps a functional
    if not isinstance(graph, keras.Model) or not hasattr(graph, "_nodes_by_depth"):
        raise UsageError(f"the FLOPs of {model.name} are unknown; only a functional model says")
    return sum(node_macs(node) for nodes in graph._nodes_by_depth.values() for node in nodes)


def _kind(layer):
    """Returns the name of the Keras layer that `layer` is or derives from, if it counts."""
    known = {ancestor.__name__ for ancestor in type(layer).__mro__}
    return next((kind for kind in (*MACS_PER_INPUT, *MACS_PER_OUTPUT) if kind in known), None)
