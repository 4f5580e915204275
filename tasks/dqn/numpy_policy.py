"""Greedy actions of a small dense network in NumPy, which is faster than calling a graph."""

from __future__ import annotations

from zoo import graphs
from zoo.lazy import keras, np
from zoo.lazy_layers import layers

MAX_PARAMETERS = 200_000  # above it NumPy, on one core, is slower than the graph


def policy(network):
    """Returns a function from stacked vectors `(batch, frame_stack, size)` to greedy actions.

    Its further arguments are the network's variables, as arrays in their order; it returns integers
    `(batch,)`. The result is `None` if the network is large, computes in less than float32 or has
    unsupported layers.
    """
    net, variable_index = (
        graphs.require_graph(network),
        {id(v): n for n, v in enumerate(network.variables)},
    )
    steps = [_layer_call(node, variable_index) for node in graphs.nodes(net) if not node.is_input]
    if None in steps or network.count_params() > MAX_PARAMETERS:
        return None
    first, last = id(net.inputs[0]), id(net.outputs[0])

    def select_actions(frames, *variables):
        tensors = {first: frames.reshape(len(frames), -1)}
        for function, input_ids, output_id, variable_indices in steps:
            tensors[output_id] = function(
                *[tensors[x] for x in input_ids], *[variables[n] for n in variable_indices]
            )
        return tensors[last].argmax(axis=1)

    return select_actions


def _layer_call(node, variable_index):
    """Returns the function of a layer's call, and the ids of its inputs, output and variables.

    It is `None` if the layer is not supported.
    """
    layer = node.operation
    function = _layer_function(layer)
    if function is None or layer.compute_dtype != "float32":
        return None
    [output_id] = node.output_tensors
    input_ids = [id(x) for x in node.input_tensors]
    return function, input_ids, id(output_id), [variable_index[id(v)] for v in layer.variables]


def _layer_function(layer):
    if type(layer) is keras.layers.Dense and layer.use_bias:
        return DENSE_FUNCTIONS.get(layer.activation.__name__)
    return _dueling if type(layer) is layers.Dueling else None


def _linear(x, kernel, bias):
    return x @ kernel + bias


def _relu(x, kernel, bias):
    return np.maximum(x @ kernel + bias, 0)


def _dueling(value, advantages):
    return value + advantages - advantages.mean(axis=1, keepdims=True)


DENSE_FUNCTIONS = {"linear": _linear, "relu": _relu}  # by activation
