"""Models as graphs of layers: traverses, flattens and rebuilds functional models.

A node of a graph is one call of one layer, as Keras records it.
"""

from __future__ import annotations

import collections

from zoo.errors import UsageError
from zoo.lazy import keras

HEAD_LAYER = "logits"  # name of the last layer of every classifier
BORDER_LAYERS = {"ZeroPadding2D": "padding", "Cropping2D": "cropping"}  # and their attributes


def functional_graph(model):
    """Returns a functional model itself, that in a Sequential model, or `None` for other models.

    Its `inputs`, `output` and nodes are those of the graph.
    """
    found = getattr(model, "_functional", None) or model
    return found if isinstance(found, keras.Model) and hasattr(found, "_nodes_by_depth") else None


def leaf_layers(model):
    """Yields the layers of a model in order; a nested model is replaced by its layers."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from leaf_layers(layer)
        else:
            yield layer


def require_graph(model):
    """Returns the functional graph of a model, as `functional_graph`.

    Raises:
        UsageError: the model has none: it is a subclass with its own `call`, or was never built.
    """
    found = functional_graph(model)
    if found is None:
        name = getattr(model, "name", type(model).__name__)
        raise UsageError(
            f"{name} is not a graph of layers; make it with keras.Model(inputs, outputs), or build "
            "a Sequential model with model.build((None, height, width, channels))"
        )
    return found


def single_input(model):
    """Returns the only input tensor of a model; raises `UsageError` if it has several."""
    inputs = require_graph(model).inputs
    if len(inputs) != 1:
        names = ", ".join(x.name for x in inputs)
        raise UsageError(
            f"{model.name} must have one input, the image, not {len(inputs)} ({names})"
        )
    return inputs[0]


def nodes(net):
    """Returns the nodes of a graph in topological order, including those of its inputs."""
    return [node for _, nodes in sorted(net._nodes_by_depth.items())[::-1] for node in nodes]


def layers_in(operation):
    """Returns a layer and its sublayers; an empty list for an operation such as `ops.add`."""
    return list(operation._flatten_layers()) if isinstance(operation, keras.Layer) else []


def has_kernel(operation):
    """Returns whether an operation has a kernel: weights with more than one axis."""
    return any(len(weight.shape) > 1 for weight in getattr(operation, "weights", ()))


def flatten(model: keras.Model) -> keras.Model:
    """Returns a functional model without nested models, of the same layer objects.

    If there is nothing to flatten, it is the model's own graph. A nested model is kept if it has
    several inputs, is called with keyword arguments, or contains a layer of the same name as
    another layer: names in a graph are unique.

    Args:
        model: a functional model, or a built Sequential model.

    Raises:
        UsageError: the model is not a graph of layers.
    """
    net = require_graph(model)
    if not any(functional_graph(node.operation) for node in nodes(net)):
        return net
    owners = collections.defaultdict(set)
    _collect_operations(net, owners)
    shared = {name for name, found in owners.items() if len(found) > 1}
    return rebuild(net, lambda node, *args, **kwargs: _inline_nested(node, args, kwargs, shared))


flat = flatten  # former name


def rebuild(net, call, inputs=None, name=None):
    """Rebuilds a functional model with another function in place of the call of each node.

    Args:
        net: a graph.
        call: function from a node and the new arguments of its call to its outputs.
        inputs: new input tensors, structured like `net.input`; by default, copies of the old ones.
        name: name of the new model; by default that of the graph.
    """
    inputs = keras.tree.map_structure(_fresh_input, net.input) if inputs is None else inputs
    old, new = keras.tree.flatten(net.input), keras.tree.flatten(inputs)
    tensor_map = replay(net, {id(x): y for x, y in zip(old, new, strict=True)}, call)
    outputs = keras.tree.map_structure(lambda x: tensor_map[id(x)], net.output)
    return keras.Model(inputs, outputs, name=name or net.name)


def replay(net, tensor_map, call):
    """Calls the nodes of a graph on other tensors, as far as their inputs are available.

    Args:
        net: a graph.
        tensor_map: new tensors by the id of the tensor of the graph that they replace; the
            outputs of the calls are added.
        call: as in `rebuild`.

    Returns:
        `tensor_map`.
    """
    for node in nodes(net):
        known = all(id(x) in tensor_map for x in node.output_tensors)
        if known or node.is_input or not all(id(x) in tensor_map for x in node.input_tensors):
            continue
        args, kwargs = node.arguments.fill_in(tensor_map)
        outputs = keras.tree.flatten(call(node, *args, **kwargs))
        tensor_map.update({id(x): y for x, y in zip(node.output_tensors, outputs, strict=True)})
    return tensor_map


def unique_name(net, name):
    """Returns a name that no operation of a graph has: `name`, with a number if it is taken."""
    taken, number, free = {node.operation.name for node in nodes(net)}, 0, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def set_operation_name(x, name):
    """Sets the name of the operation of `keras.ops` that made a tensor; returns the tensor.

    Names in a graph must be unique, and the numbers that Keras gives to operations may be those of
    a loaded model.
    """
    x._keras_history.operation.name = name
    return x


def call_node(node, *args, **kwargs):
    """Calls a node's own operation."""
    return node.operation(*args, **kwargs)


def single_tensor_cuts(net, order=None):
    """Yields the single tensors at which a graph can be cut in two, with the index of their node.

    The nodes after a cut depend only on its tensor, and on inputs that come after it.

    Args:
        net: a graph.
        order: its nodes in topological order; by default those of `nodes`.
    """
    order = order or nodes(net)
    last = {id(x): i for i, node in enumerate(order) for x in node.input_tensors}
    last |= {id(x): len(order) for x in net.outputs}
    reach = 0  # the last use of what was made before
    for index, node in enumerate(order):
        if reach <= index and len(node.output_tensors) == 1:
            yield index, node.output_tensors[0]
        reach = max([reach, *(last.get(id(x), 0) for x in node.output_tensors)])


def consumers(net):
    """Returns the nodes that use each tensor, by its id; `None` stands for the model's output."""
    found = collections.defaultdict(list)
    for node in nodes(net):
        for x in node.input_tensors:
            found[id(x)].append(node)
    for x in net.outputs:
        found[id(x)].append(None)
    return found


def ancestors(net, tensors):
    """Returns the nodes of a graph that some of its tensors depend on, in topological order."""
    wanted, found = {id(x) for x in tensors}, []
    for node in reversed(nodes(net)):
        if any(id(x) in wanted for x in node.output_tensors):
            found.append(node)
            wanted.update(id(x) for x in node.input_tensors)
    return found[::-1]


def _fresh_input(x):
    return keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name)


def _collect_operations(net, owners):
    """Adds the ids of the operations of a graph and of its nested models, by name."""
    for node in nodes(net):
        inner = functional_graph(node.operation)
        owners[node.operation.name].add(id(node.operation))
        if inner:
            _collect_operations(inner, owners)


def _inline_nested(node, args, kwargs, shared):
    """Calls a node; that of a nested model is replaced by calls of its layers."""
    inner = functional_graph(node.operation)
    keep_nested = inner is None or len(inner.inputs) != 1 or any(kwargs.values())
    flat_args = keras.tree.flatten(args)
    if keep_nested or len(flat_args) != 1 or _operation_names(inner) & shared:
        return call_node(node, *args, **kwargs)
    [x], [wanted] = flat_args, inner.inputs
    if x.dtype != wanted.dtype:  # as a call of the model does
        x = keras.ops.cast(x, wanted.dtype)

    def call(node, *args, **kwargs):
        return _inline_nested(node, args, kwargs, shared)

    tensor_map = replay(inner, {id(wanted): x}, call)
    return [tensor_map[id(y)] for y in inner.outputs]


def _operation_names(net):
    owners = collections.defaultdict(set)
    _collect_operations(net, owners)
    inputs = {x._keras_history.operation.name for x in net.inputs}
    return set(owners) - inputs
