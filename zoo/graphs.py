"""Networks as graphs: walked, cut where they are a single tensor, and built again in another way.

A node of a graph is one call of one layer, as Keras records it.
"""

from __future__ import annotations

import collections

from zoo.errors import UsageError
from zoo.lazy import keras

HEAD_LAYER = "logits"  # the layer that every classifier ends in


def functional_graph(model):
    """Returns the functional model that a model is, or wraps as a Sequential one does, or `None`.

    Its `inputs`, `output` and nodes are those of the graph.
    """
    found = getattr(model, "_functional", None) or model
    return found if isinstance(found, keras.Model) and hasattr(found, "_nodes_by_depth") else None


def leaf_layers(model):
    """Yields the layers of a model in order, those of models inside it in their place."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from leaf_layers(layer)
        else:
            yield layer


def require_graph(model):
    """Returns the graph of a model.

    Raises:
        UsageError: it has none, because it is a subclass with a `call` of its own or because it
            was never built.
    """
    found = functional_graph(model)
    if found is None:
        name = getattr(model, "name", type(model).__name__)
        raise UsageError(
            f"{name} is no graph of layers; make it with keras.Model(inputs, outputs), or build "
            "a Sequential one with model.build((None, height, width, channels))"
        )
    return found


def single_input(model):
    """Returns the one input tensor of a model; raises `UsageError` where it has several."""
    inputs = require_graph(model).inputs
    if len(inputs) != 1:
        names = ", ".join(x.name for x in inputs)
        raise UsageError(f"{model.name} has {len(inputs)} inputs ({names}), not one image")
    return inputs[0]


def nodes(net):
    """Returns the nodes of a graph, those of its inputs too, each after those that it needs."""
    return [node for _, nodes in sorted(net._nodes_by_depth.items())[::-1] for node in nodes]


def layers_in(operation):
    """Returns the layers that an operation consists of, itself included; those of a plain
    operation, such as `add`, are none."""
    return list(operation._flatten_layers()) if isinstance(operation, keras.Layer) else []


def has_kernel(operation):
    """Tells whether an operation has weights that mix channels, not just a value for each."""
    return any(len(weight.shape) > 1 for weight in getattr(operation, "weights", ()))


def flat(model):
    """Returns a functional model without models inside it, of the same layer objects.

    It is the model's own graph where there is nothing to flatten. A model inside it stays whole
    where it has several inputs, is called with arguments, or holds a layer of the same name as
    another layer: in one graph, names must differ.

    Raises:
        UsageError: as `checked`.
    """
    net = require_graph(model)
    if not any(functional_graph(node.operation) for node in nodes(net)):
        return net
    owners = collections.defaultdict(set)
    _collect_operations(net, owners)
    shared = {name for name, found in owners.items() if len(found) > 1}
    return rebuild(net, lambda node, *args, **kwargs: _inline_nested(node, args, kwargs, shared))


def rebuild(net, call, inputs=None, name=None):
    """Returns a functional model in which every node of a graph is called in another way.

    Args:
        net: a graph.
        call: takes a node and the arguments that it is called with now; returns its outputs.
        inputs: new input tensors, like `net.input`; by default, new ones like the old.
        name: of the model; by default the graph's.
    """
    inputs = keras.tree.map_structure(_fresh_input, net.input) if inputs is None else inputs
    old, new = keras.tree.flatten(net.input), keras.tree.flatten(inputs)
    tensor_map = replay(net, {id(x): y for x, y in zip(old, new, strict=True)}, call)
    outputs = keras.tree.map_structure(lambda x: tensor_map[id(x)], net.output)
    return keras.Model(inputs, outputs, name=name or net.name)


def replay(net, tensor_map, call):
    """Calls the nodes of a graph that can be reached, and are not known yet, from some tensors.

    Args:
        net: a graph.
        tensor_map: what stands for tensors of the graph, by their id; those that are found are
            added.
        call: as in `rebuilt`.

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
    """Returns a name that no operation of a graph has: `name`, or it with a number."""
    taken, number, free = {node.operation.name for node in nodes(net)}, 0, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def set_operation_name(x, name):
    """Gives the operation of `keras.ops` that made a tensor a name; returns the tensor.

    Keras numbers operations in each process, and names in a graph must differ: also from those of
    layers, and of operations of a file.
    """
    x._keras_history.operation.name = name
    return x


def call_node(node, *args, **kwargs):
    """Calls a node's own operation."""
    return node.operation(*args, **kwargs)


def single_tensor_cuts(net, order=None):
    """Yields the places where a graph is a single tensor: number of its node, and the tensor.

    All that come before or at a cut are needed for its tensor; all that come after it need
    nothing else, but for inputs that come after it.

    Args:
        net: a graph.
        order: its nodes, each after those that it needs; by default as `nodes` has them.
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
    """Returns the nodes that take each tensor, by its id; the model's output counts as `None`."""
    found = collections.defaultdict(list)
    for node in nodes(net):
        for x in node.input_tensors:
            found[id(x)].append(node)
    for x in net.outputs:
        found[id(x)].append(None)
    return found


def ancestors(net, tensors):
    """Returns the nodes of a graph that some of its tensors are made by, in order."""
    wanted, found = {id(x) for x in tensors}, []
    for node in reversed(nodes(net)):
        if any(id(x) in wanted for x in node.output_tensors):
            found.append(node)
            wanted.update(id(x) for x in node.input_tensors)
    return found[::-1]


def _fresh_input(x):
    return keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name)


def _collect_operations(net, owners):
    """Enters the operations of a graph, and of the models inside it, under their names."""
    for node in nodes(net):
        inner = functional_graph(node.operation)
        owners[node.operation.name].add(id(node.operation))
        if inner:
            _collect_operations(inner, owners)


def _inline_nested(node, args, kwargs, shared):
    """Calls the layers of a model inside a graph, or of what is no such model, itself."""
    inner = functional_graph(node.operation)
    keep_nested = inner is None or len(inner.inputs) != 1 or any(kwargs.values())
    flat_args = keras.tree.flatten(args)
    if keep_nested or len(flat_args) != 1 or _operation_names(inner) & shared:
        return call_node(node, *args, **kwargs)
    [x], [wanted] = flat_args, inner.inputs
    if x.dtype != wanted.dtype:  # as the model would
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
