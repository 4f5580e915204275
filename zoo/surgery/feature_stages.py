"""The stages of a network, found in its graph, and its layers by the stage that they work for."""

from __future__ import annotations

import collections
import fnmatch
import math
import numbers
import re

from zoo import arguments, graphs
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import keras

BORDER_LAYERS = ("ZeroPadding2D", "Cropping2D")  # belong to what comes after them
UPSAMPLING_LAYERS = ("Transpose", "UpSampling", "Unpooling", "ResizeLike")
CLASSIFIERS = ("Dense", "Conv2D")


def stages(model):
    """Returns the tensor that closes each stage of a network, first to last.

    A stage is closed by the last tensor of its stride that is as wide as the widest one to enter
    the next stride, as in the networks of keras.applications that `zoo.backbone` builds; what
    normalises it for a strided convolution counts to the stage. Strides are those of the layers,
    so that the size of the image need not be known. The classifier and what comes after it belong
    to no stage, nor does what is made of maps that were stretched, as a decoder does. Networks of
    the zoo that have another one in them say where its stages end, and all after the last of
    them is head.

    Args:
        model: a functional model, or a Sequential one that is built.

    Returns:
        `stageN` to the tensor of stride `2**N`: one of `graphs.flat(model)`, which is the model
        itself where no other is inside it. Empty if the network makes no maps.

    Raises:
        UsageError: the model is no graph of layers.
    """
    return _stages(graphs.flat(model))


def learnable(model, what):
    """Returns the layers with weights that a few words mean, in order.

    Args:
        model: a functional model, or a Sequential one that is built.
        what: `all`; `head`, what comes after the last stage; a stage such as `stage4`, which
            means all that is not needed for the stage before it; a whole number, for so many of
            the last convolutions and dense layers and what is among or after them; a number
            below 1, for such a share of them; a pattern of layer names, of the shell or, where
            that fits none, a regular expression.

    Raises:
        UsageError: nothing fits, or the model is no graph of layers.

    Example:
        >>> zoo.surgery.learnable(model, "stage5")
        >>> zoo.surgery.learnable(model, "conv5_*")
    """
    net = graphs.flat(model)
    order = graphs.nodes(net)
    if what == "all":
        return _layers_with_weights(order)
    number = isinstance(what, numbers.Real) and not isinstance(what, bool)
    if not isinstance(what, str) and not (number and math.isfinite(what)):
        raise UsageError(
            "what learns is all, head, a stage, a number, a share or a pattern of names; not "
            f"{arguments.short_repr(what)}"
        )
    if number:
        return _last_layers(order, what, model.name)
    found = _stages(net)
    levels = list(found)
    if what == "head":
        return (
            _layers_after(net, [found[levels[-1]]] if found else [])
            if found
            else _last_layers(order, 1, "")
        )
    if what in found:
        return _layers_after(net, [found[level] for level in levels[: levels.index(what)]])
    return _match_layer_names(_layers_with_weights(order), what, levels)


def freeze(model, what):
    """Lets the layers learn that are meant, and no others; returns them.

    Args:
        model: a functional model, or a Sequential one that is built. Changed in place; compile
            it after that.
        what: as `learnable` takes it, or a set of layers.

    Raises:
        UsageError: as `learnable`.
    """
    several = isinstance(what, list | tuple | set | frozenset)
    if several and not all(isinstance(layer, keras.Layer) for layer in what):
        raise UsageError(f"what learns is a set of layers, not {arguments.short_repr(what)}")
    graphs.require_graph(model)
    chosen = list(what) if several else learnable(model, what)
    model.trainable = True  # models inside it, too: one that is not hides what is in it
    ids = {id(layer) for layer in chosen}
    for layer in graphs.leaf_layers(model):
        layer.trainable = id(layer) in ids
    return chosen


def depths(model):
    """Returns how far from the head each layer with weights is, by its name.

    0 is the head, 1 the last stage, and so on to the stem. In a network without stages each
    convolution or dense layer is a depth of its own, the last 0, with what follows it.
    """
    net = graphs.flat(model)
    found = list(_stages(net).values())
    far = {}
    if found:
        far = {layer.name: 0 for layer in _layers_with_weights(graphs.nodes(net))}
        for depth, tensor in enumerate(reversed(found), start=1):
            far |= {
                layer.name: depth for layer in _layers_with_weights(graphs.ancestors(net, [tensor]))
            }
        return far
    kernels = 0
    for node in reversed(graphs.nodes(net)):
        far |= {layer.name: kernels for layer in _layers_with_weights([node])}
        kernels += graphs.has_kernel(node.operation)
    return far


def classifier(net):
    """Returns the node of a graph that makes classes of features, or `None`.

    It is the last one with a kernel that the output needs: a dense layer, or a 1 x 1 convolution
    of everything with no weights after it, for another convolution makes features.
    """
    path = graphs.ancestors(net, net.outputs[:1])
    last = max((i for i, n in enumerate(path) if graphs.has_kernel(n.operation)), default=None)
    if last is None:
        return None
    node, layer = path[last], path[last].operation
    if isinstance(layer, keras.layers.Dense):
        return node
    alone = any(x is node.output_tensors[0] for _, x in graphs.single_tensor_cuts(net))
    small = set(getattr(layer, "kernel_size", [0])) == {1}
    single = isinstance(layer, keras.layers.Conv2D) and small and alone
    return node if single and not _layers_with_weights(path[last + 1 :]) else None


def _stages(net):
    return marked_stages(net) or _infer_stages(net)


def marked_stages(net):
    """Returns the tensors by stage of a graph with marks where they end, as `encoder.mark_stage`
    sets."""
    marks = [node for node in graphs.nodes(net) if type(node.operation) is keras.layers.Identity]
    found = {node.operation.name: node.output_tensors[0] for node in marks}
    return {name: found[name] for name in sorted(found) if re.fullmatch(r"stage\d", name)}


def _infer_stages(net):
    strides, closing, widths = {}, collections.defaultdict(list), collections.defaultdict(int)
    left = {}  # stride: channels of the last map that something else than a map was made of
    ends = classifier(net) if all(len(x.shape) < 4 for x in net.outputs) else None
    stretched = _upsampled_nodes(net)
    for node in graphs.nodes(net):
        if id(node) in stretched:
            continue
        maps = [x for x in node.input_tensors if id(x) in strides]
        [out, *_] = node.output_tensors
        if node.is_input and len(out.shape) == 4:
            strides[id(out)] = 1
        if not maps:
            continue
        before = max(strides[id(x)] for x in maps)
        width = max(x.shape[-1] for x in maps if strides[id(x)] == before)
        after = before * _stride(node) if node is not ends and _is_map(node) else 0
        if not after:
            left[before] = width
            continue
        strides[id(out)] = after
        if after > before:
            widths[before] = max(widths[before], width)
        if type(node.operation).__name__ not in BORDER_LAYERS:
            closing[after].append(out)
    if not closing:
        return {}
    largest = max(closing)
    given = [x.shape[-1] for x in net.outputs if strides.get(id(x)) == largest]
    widths[largest] = max(given, default=left.get(largest, closing[largest][-1].shape[-1]))
    return {
        f"stage{stride.bit_length() - 1}": found[-1]
        for stride, width in sorted(widths.items())
        if (found := [x for x in closing[stride] if x.shape[-1] == width])
        and stride & (stride - 1) == 0
        and any(graphs.has_kernel(node.operation) for node in graphs.ancestors(net, found[-1:]))
    }


def _upsampled_nodes(net):
    """Returns the ids of the nodes that a map comes to after one that stretches maps."""
    found, tensors = set(), set()
    for node in graphs.nodes(net):
        if any(id(x) in tensors for x in node.input_tensors):
            found.add(id(node))
        if id(node) in found or (not node.is_input and _stride(node) == 0):
            tensors.update(id(x) for x in node.output_tensors)
    return found


def _is_map(node):
    """Tells whether a node makes maps or tokens of maps or tokens, and not their averages."""
    x, y = node.input_tensors[0], node.output_tensors[0]
    kind = type(node.operation).__name__
    if len(y.shape) not in (3, 4) or kind.startswith(("Global", "Adaptive")):
        return False
    averaged = y.shape[1:-1] == (1, 1) != x.shape[1:-1]
    return not averaged or hasattr(node.operation, "strides")


def _stride(node):
    """Returns by how much a node shrinks height and width; 0 where it stretches them."""
    layer = node.operation
    if any(word in type(layer).__name__ for word in UPSAMPLING_LAYERS):
        return 0
    strides = getattr(layer, "strides", 1)
    if not isinstance(layer, keras.Layer):  # such as `x[:, ::2, ::2]`
        sizes = [x.shape[1] for x in (node.input_tensors[0], node.output_tensors[0])]
        ranks = {len(x.shape) for x in (node.input_tensors[0], node.output_tensors[0])}
        strides = round(sizes[0] / sizes[1]) if ranks == {4} and all(sizes) else 1
    return strides if isinstance(strides, int) else strides[0]


def _layers_with_weights(order):
    """Returns the layers with weights that nodes call, each once."""
    found = {}
    for node in order:
        inner = graphs.functional_graph(node.operation)
        for layer in graphs.leaf_layers(inner) if inner else [node.operation]:
            if getattr(layer, "weights", ()):
                found[id(layer)] = layer
    return list(found.values())


def _layers_after(net, tensors):
    """Returns the layers with weights that some tensors do without, or else the last kernel."""
    needed = {id(layer) for layer in _layers_with_weights(graphs.ancestors(net, tensors))}
    order = graphs.nodes(net)
    found = [layer for layer in _layers_with_weights(order) if id(layer) not in needed]
    return found or _last_layers(order, 1, net.name)


def _last_layers(order, what, name):
    kernels = [i for i, node in enumerate(order) if graphs.has_kernel(node.operation)]
    count = what if isinstance(what, numbers.Integral) else round(what * len(kernels)) or 1
    if what <= 0 or count > len(kernels):
        raise UsageError(
            f"{name} has {len(kernels)} convolutions and dense layers, so {what} of them cannot "
            f"learn; give 1 to {len(kernels)}, or a share below 1"
        )
    return _layers_with_weights(order[kernels[-count] :])


def _match_layer_names(layers, pattern, levels):
    found = [layer for layer in layers if fnmatch.fnmatchcase(layer.name, str(pattern))]
    if not found:
        try:
            found = [layer for layer in layers if re.fullmatch(str(pattern), layer.name)]
        except re.error:
            found = []
    if not found:
        raise unknown_name_error(
            "layers", pattern, ["all", "head", *levels, *(x.name for x in layers)]
        )
    return found
