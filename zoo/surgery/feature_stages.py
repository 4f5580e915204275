"""The stages of a network, inferred from its graph, and its layers selected by stage."""

from __future__ import annotations

import collections
import fnmatch
import math
import numbers
import re
from collections.abc import Collection

from zoo import arguments, graphs
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import keras

UPSAMPLING_LAYERS = ("Transpose", "UpSampling", "Unpooling", "ResizeLike")


def stages(model: keras.Model) -> dict[str, keras.KerasTensor]:
    """Returns the output tensor of each stage of a network, first to last.

    The output of a stage is the last tensor of its stride that has the largest number of channels
    among those that enter the next stride, as in the networks of `keras.applications` that
    `zoo.backbone` builds. Normalization and activation before a strided convolution belong to the
    stage. Strides are computed from the layers, so that the image size may be unknown. The
    classifier and the layers after it belong to no stage; nor do layers after upsampling, as in a
    decoder. Models of the zoo that contain another network mark its stages, and all layers
    after the last mark are the head.

    Args:
        model: a functional model, or a built Sequential model.

    Returns:
        A dict from `stageN` to the tensor of stride `2**N` in `graphs.flatten(model)`, which is
        the model's own graph if it has no nested models. Empty if the model has no feature maps.

    Raises:
        UsageError: the model is not a graph of layers.
    """
    return _stages(graphs.flatten(model))


def select_layers(model: keras.Model, what: str | float) -> list[keras.layers.Layer]:
    """Selects layers with weights by stage, number, fraction or name; returns them in order.

    Args:
        model: a functional model, or a built Sequential model.
        what: one of
            `"all"`;
            `"head"`, the layers after the last stage;
            a stage such as `"stage4"`, all layers that the stage before it does not need;
            an integer, that number of the last convolutions and dense layers, and the layers
            among and after them;
            a number below 1, that fraction of the convolutions and dense layers likewise;
            a pattern of layer names, a shell pattern or, if it matches none, a regular
            expression.

    Raises:
        UsageError: no layer matches, or the model is not a graph of layers.

    Example:
        >>> zoo.surgery.select_layers(model, "stage5")
        >>> zoo.surgery.select_layers(model, "conv5_*")
    """
    net = graphs.flatten(model)
    order = graphs.nodes(net)
    if what == "all":
        return _layers_with_weights(order)
    is_number = isinstance(what, numbers.Real) and not isinstance(what, bool)
    if not isinstance(what, str) and not (is_number and math.isfinite(what)):
        raise UsageError(
            "layers are selected by all, head, a stage, a number, a fraction or a name pattern, "
            f"not {arguments.short_repr(what)}"
        )
    if is_number:
        return _last_layers(order, what, model.name)
    found = _stages(net)
    levels = list(found)
    if what == "head":
        return _layers_after(net, [found[levels[-1]]]) if found else _last_layers(order, 1, "")
    if what in found:
        return _layers_after(net, [found[level] for level in levels[: levels.index(what)]])
    return _match_layer_names(_layers_with_weights(order), what, levels)


learnable = select_layers  # former name


def freeze(
    model: keras.Model, what: str | float | Collection[keras.layers.Layer]
) -> list[keras.layers.Layer]:
    """Makes the selected layers trainable and freezes all others; returns the trainable ones.

    Args:
        model: a functional model, or a built Sequential model. Changed in place; compile it
            afterwards.
        what: the trainable layers, selected as in `select_layers`, or a collection of layers.

    Raises:
        UsageError: as `select_layers`.
    """
    is_collection = isinstance(what, list | tuple | set | frozenset)
    if is_collection and not all(isinstance(layer, keras.Layer) for layer in what):
        raise UsageError(f"a collection must contain layers only, not {arguments.short_repr(what)}")
    graphs.require_graph(model)
    chosen = list(what) if is_collection else select_layers(model, what)
    model.trainable = True  # nested models too: a frozen one hides its trainable layers
    ids = {id(layer) for layer in chosen}
    for layer in graphs.leaf_layers(model):
        layer.trainable = id(layer) in ids
    return chosen


def depths(model: keras.Model) -> dict[str, int]:
    """Returns the distance from the head, in stages, of each layer with weights, by name.

    It is 0 for the head, 1 for the last stage, and so on to the stem. In a network without stages
    each convolution or dense layer, with the layers after it, is one step.
    """
    net = graphs.flatten(model)
    found = list(_stages(net).values())
    by_name = {}
    if found:
        by_name = {layer.name: 0 for layer in _layers_with_weights(graphs.nodes(net))}
        for depth, tensor in enumerate(reversed(found), start=1):
            needed = _layers_with_weights(graphs.ancestors(net, [tensor]))
            by_name |= {layer.name: depth for layer in needed}
        return by_name
    depth = 0
    for node in reversed(graphs.nodes(net)):
        by_name |= {layer.name: depth for layer in _layers_with_weights([node])}
        depth += graphs.has_kernel(node.operation)
    return by_name


def classifier(net):
    """Returns the node of a graph that computes classes from features, or `None`.

    It is the last node with a kernel that the output depends on: a dense layer, or a 1 x 1
    convolution on the only path to the output with no weights after it. Any other convolution
    computes features.
    """
    path = graphs.ancestors(net, net.outputs[:1])
    last = max((i for i, n in enumerate(path) if graphs.has_kernel(n.operation)), default=None)
    if last is None:
        return None
    node, layer = path[last], path[last].operation
    if isinstance(layer, keras.layers.Dense):
        return node
    only_path = any(x is node.output_tensors[0] for _, x in graphs.single_tensor_cuts(net))
    pointwise = isinstance(layer, keras.layers.Conv2D) and set(layer.kernel_size) == {1}
    classifies = pointwise and only_path and not _layers_with_weights(path[last + 1 :])
    return node if classifies else None


def _stages(net):
    return marked_stages(net) or _infer_stages(net)


def marked_stages(net):
    """Returns the outputs of the stages that `encoder.mark_stage` marked, by name; maybe empty."""
    marks = [node for node in graphs.nodes(net) if type(node.operation) is keras.layers.Identity]
    found = {node.operation.name: node.output_tensors[0] for node in marks}
    return {name: found[name] for name in sorted(found) if re.fullmatch(r"stage\d", name)}


def _infer_stages(net):
    strides = {}  # id of a feature map: its stride
    maps_by_stride = collections.defaultdict(list)
    widths = collections.defaultdict(int)  # stride: the most channels that enter the next stride
    pooled_widths = {}  # stride: channels of the last map that enters a layer without maps
    head = classifier(net) if all(len(x.shape) < 4 for x in net.outputs) else None
    upsampled = _upsampled_nodes(net)
    for node in graphs.nodes(net):
        if id(node) in upsampled:
            continue
        maps = [x for x in node.input_tensors if id(x) in strides]
        [out, *_] = node.output_tensors
        if node.is_input and len(out.shape) == 4:
            strides[id(out)] = 1
        if not maps:
            continue
        before = max(strides[id(x)] for x in maps)
        width = max(x.shape[-1] for x in maps if strides[id(x)] == before)
        after = before * _stride(node) if node is not head and _is_map(node) else 0
        if not after:
            pooled_widths[before] = width
            continue
        strides[id(out)] = after
        if after > before:
            widths[before] = max(widths[before], width)
        if type(node.operation).__name__ not in graphs.BORDER_LAYERS:  # of the next convolution
            maps_by_stride[after].append(out)
    if not maps_by_stride:
        return {}
    last = max(maps_by_stride)
    outputs = [x.shape[-1] for x in net.outputs if strides.get(id(x)) == last]
    default = pooled_widths.get(last, maps_by_stride[last][-1].shape[-1])
    widths[last] = max(outputs, default=default)
    return _widest_maps(net, maps_by_stride, widths)


def _widest_maps(net, maps_by_stride, widths):
    """Returns the last map of each stride that has the given width, by the name of the stage."""
    found = {}
    for stride, width in sorted(widths.items()):
        widest = [x for x in maps_by_stride[stride] if x.shape[-1] == width]
        nodes = graphs.ancestors(net, widest[-1:])
        is_power_of_two = stride & (stride - 1) == 0
        if is_power_of_two and any(graphs.has_kernel(node.operation) for node in nodes):
            found[f"stage{stride.bit_length() - 1}"] = widest[-1]
    return found


def _upsampled_nodes(net):
    """Returns the ids of the nodes that depend on an upsampled map."""
    found, tensors = set(), set()
    for node in graphs.nodes(net):
        if any(id(x) in tensors for x in node.input_tensors):
            found.add(id(node))
        if id(node) in found or (not node.is_input and _stride(node) == 0):
            tensors.update(id(x) for x in node.output_tensors)
    return found


def _is_map(node):
    """Returns whether the output of a node is a map or tokens, and not a global average."""
    x, y = node.input_tensors[0], node.output_tensors[0]
    kind = type(node.operation).__name__
    if len(y.shape) not in (3, 4) or kind.startswith(("Global", "Adaptive")):
        return False
    averaged = y.shape[1:-1] == (1, 1) != x.shape[1:-1]
    return not averaged or hasattr(node.operation, "strides")


def _stride(node):
    """Returns the factor by which a node reduces height and width; 0 if it upsamples."""
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
    """Returns the layers with weights that some nodes call, without duplicates."""
    found = {}
    for node in order:
        inner = graphs.functional_graph(node.operation)
        for layer in graphs.leaf_layers(inner) if inner else [node.operation]:
            if getattr(layer, "weights", ()):
                found[id(layer)] = layer
    return list(found.values())


def _layers_after(net, tensors):
    """Returns the layers with weights that some tensors do not depend on.

    If there are none, returns the last layer with a kernel and the layers after it.
    """
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
            f"be selected; pass an integer from 1 to {len(kernels)}, or a fraction below 1"
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
