"""Adapts a network to another task: a new head, another image size."""

from __future__ import annotations

import math

from zoo import arguments, graphs
from zoo.errors import UsageError
from zoo.graphs import HEAD_LAYER
from zoo.lazy import keras
from zoo.lazy_layers import layers
from zoo.parts import blocks
from zoo.surgery.feature_stages import classifier

PROBABILITY_ACTIVATIONS = ("softmax", "sigmoid", "log_softmax", "hard_sigmoid", "log_sigmoid")
SHAPE_ERRORS = (ValueError, TypeError, IndexError, ArithmeticError)  # of layers for other shapes
# By the rank of the features.
GLOBAL_POOLING = {3: "GlobalAveragePooling1D", 4: "GlobalAveragePooling2D"}


def head(model: keras.Model, num_classes: int, dropout: float | None = None) -> keras.Model:
    """Returns a model with a new classification head, initialized at random.

    It replaces the last dense layer or 1 x 1 convolution. Layers after that are kept, except
    softmax and other activations that compute probabilities: the output is float32 logits. If
    the model ends in features, such as one of `keras.applications` with `include_top=False`, the
    head follows a global average pooling.

    Args:
        model: a functional model with one output, or a built Sequential model.
        num_classes: number of logits.
        dropout: dropout rate before the head; replaces an existing one. By default, an existing
            one is kept.

    Returns:
        A model that shares all other layers with the given one; the new layer is named `logits`.

    Raises:
        UsageError: the model has several outputs, or is not a graph of layers.
    """
    net = graphs.flatten(model)
    _check_one_output(net)
    num_classes = arguments.check_int(num_classes, "num_classes")
    if dropout is not None:
        dropout = arguments.check_rate(dropout, "dropout")
    old = classifier(net)
    [x] = old.input_tensors if old else [_global_pool(net, net.outputs[0])]
    if dropout is not None:
        x = _before_dropout(x)
    if dropout:
        x = keras.layers.Dropout(dropout, name=graphs.unique_name(net, "dropout"))(x)
    y = _apply_classifier(net, old and old.operation, x, num_classes)
    if old is None:
        return keras.Model(net.input, y, name=model.name)
    width = old.output_tensors[0].shape[-1]
    small = len(y.shape) != len(old.output_tensors[0].shape)  # a 1 x 1 map became a vector

    def call(node, *args, **kwargs):
        layer = node.operation
        if _outputs_probabilities(layer) or (small and not getattr(layer, "weights", ())):
            return args
        if type(layer) is keras.layers.Reshape and width in layer.target_shape:
            sides = [num_classes if side == width else side for side in layer.target_shape]
            layer = keras.layers.Reshape(sides, name=layer.name)
        return layer(*args, **kwargs)

    tensor_map = {id(x): x for node in graphs.nodes(net) for x in node.output_tensors}
    for node in _downstream_nodes(net, old):
        for x in node.output_tensors:
            del tensor_map[id(x)]
    tensor_map[id(old.output_tensors[0])] = y
    y = graphs.replay(net, tensor_map, call)[id(net.outputs[0])]
    if y.dtype not in ("float32", "float64"):
        y = keras.layers.Activation("linear", dtype="float32", name="logits_float32")(y)
    return keras.Model(net.input, y, name=model.name)


def _check_one_output(net):
    if len(net.outputs) != 1:
        names = ", ".join(net.output) if isinstance(net.output, dict) else len(net.outputs)
        raise UsageError(
            f"{net.name} has several outputs ({names}); make a model of the one whose head is to "
            "be replaced, with keras.Model(model.input, output)"
        )


def resize(model: keras.Model, size: tuple[int | None, int | None]) -> keras.Model:
    """Returns a model for images of another height and width.

    It shares all layers with the given model, except position embeddings, which are interpolated
    and have variables of their own. Padding layers pad as before.

    Args:
        model: a functional model with one input image, or a built Sequential model.
        size: `(height, width)` in pixels; `None` for any height or width.

    Raises:
        UsageError: a layer needs the old size, such as a dense layer on the flattened map.
    """
    net = graphs.flatten(model)
    old = graphs.single_input(net)
    size = arguments.check_size(size, "size")
    if len(old.shape) != 4:
        raise UsageError(
            f"{model.name} has the input shape {old.shape}, without height and width, and cannot "
            f"be resized to {size}"
        )
    batch, *_, channels = old.shape
    image = keras.Input(batch_shape=(batch, *size, channels), dtype=old.dtype, name=old.name)
    token_grids = {}  # old (height, width) of a map that is reshaped to tokens: the new ones

    def call(node, *args, **kwargs):
        try:
            return _call_resized(node, args, kwargs, token_grids)
        except UsageError:
            raise
        except SHAPE_ERRORS as error:
            was, now = node.input_tensors[0].shape, keras.tree.flatten(args)[0].shape
            raise UsageError(
                f"{model.name} cannot be resized to images of {size[0]} x {size[1]}: its layer "
                f"{node.operation.name} needs the input shape {was[1:]}, not {now[1:]}; resize the "
                f"images to {old.shape[1]} x {old.shape[2]}, or build the network for the new "
                "size and load the weights that match"
            ) from error

    return graphs.rebuild(net, call, inputs=keras.tree.map_structure(lambda _: image, net.input))


def _global_pool(net, x):
    """Returns features as a vector; maps and tokens by global average pooling."""
    if len(x.shape) not in GLOBAL_POOLING:
        return x
    pool = getattr(keras.layers, GLOBAL_POOLING[len(x.shape)])
    return pool(name=graphs.unique_name(net, "pool"))(x)


def _before_dropout(x):
    """Returns the input of the dropout layers that `x` is the output of; `x` if there are none."""
    while isinstance(x._keras_history.operation, keras.layers.Dropout):
        operation, node, _ = x._keras_history
        [x] = operation._inbound_nodes[node].input_tensors
    return x


def _downstream_nodes(net, node):
    """Returns a node of a graph and the nodes that depend on it."""
    found, ids = [], {id(x) for x in node.output_tensors}
    for other in graphs.nodes(net):
        if other is node or any(id(x) in ids for x in other.input_tensors):
            found.append(other)
            ids.update(id(x) for x in other.output_tensors)
    return found


def _apply_classifier(net, old, x, num_classes):
    """Returns the logits of a new layer: a map if the old layer was a convolution of maps."""
    if isinstance(old, keras.layers.Conv2D) and tuple(x.shape[1:3]) != (1, 1):
        changes = {"filters": int(num_classes), "name": HEAD_LAYER, "dtype": "float32"}
        if _outputs_probabilities(old):
            changes["activation"] = "linear"
        return type(old).from_config({**old.get_config(), **changes})(x)
    if isinstance(old, keras.layers.Conv2D):
        x = keras.layers.Flatten(name=graphs.unique_name(net, "flatten"))(x)
    return blocks.logits(x, int(num_classes))


def _outputs_probabilities(layer):
    """Returns whether a layer computes probabilities from logits."""
    kind = getattr(getattr(layer, "activation", None), "__name__", "")
    return isinstance(layer, keras.layers.Softmax) or kind in PROBABILITY_ACTIVATIONS


def _call_resized(node, args, kwargs, token_grids):
    """Calls a node for an image of another size; adds maps that become tokens to `token_grids`."""
    layer = node.operation
    if type(layer) is keras.layers.Reshape:
        [old], [x] = node.input_tensors, args
        if len(old.shape) == 4 and len(layer.target_shape) == 2 and None not in x.shape[1:]:
            token_grids[tuple(old.shape[1:3])] = tuple(x.shape[1:3])
        target = _resized_target_shape(layer.target_shape, old.shape[1:], x.shape[1:], token_grids)
        layer = type(layer).from_config({**layer.get_config(), "target_shape": target})
    elif _is_position_embedding(layer) and args[0].shape[1] != layer.weights[0].shape[1]:
        return _interpolate_positions(layer, args[0], token_grids)
    return layer(*args, **kwargs)


def _resized_target_shape(target, old, new, token_grids):
    """Returns the new target of a `Reshape` whose input shape changes from `old` to `new`."""
    options = [target]
    for (rows, columns), grid in token_grids.items():
        pairs = [i for i in range(len(target) - 1) if target[i : i + 2] == (rows, columns)]
        options += [(*target[:i], *grid, *target[i + 2 :]) for i in pairs]
    changes = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
    changes.append((math.prod(old[:-1]), math.prod(new[:-1])) if None not in new else (0, 0))
    for before, after in changes:
        places = [i for i, side in enumerate(target) if side == before]
        options += [(*target[:i], after, *target[i + 1 :]) for i in places]
    size = math.prod(new) if None not in new else None
    fitting = [shape for shape in options if -1 in shape or math.prod(shape) == size]
    if not fitting:
        raise ValueError(f"{new} cannot be reshaped to {target}")
    return fitting[0]


def _is_position_embedding(layer):
    """Returns whether the only weight of a layer is a vector per token, `(1, tokens, width)`."""
    per_token = type(layer) is keras.layers.EinsumDense and layer.equation == blocks.TOKEN_EQUATION
    return per_token or isinstance(layer, layers.PositionEmbedding)


def _interpolate_positions(layer, x, token_grids):
    """Calls a copy of a position embedding, with its vectors interpolated for the tokens of `x`."""
    _, count, width = layer.weights[0].shape
    for (rows, columns), grid in token_grids.items():
        extra = count - rows * columns  # tokens without a position, such as the class token: first
        if x.shape[1] == extra + math.prod(grid):
            break
    else:
        raise ValueError("the tokens do not come from a feature map")
    positions = keras.ops.convert_to_tensor(layer.weights[0])
    maps = keras.ops.reshape(positions[:, extra:], (1, rows, columns, width))
    maps = keras.ops.image.resize(maps, grid, interpolation="bicubic", antialias=True)
    maps = keras.ops.reshape(maps, (1, -1, width))
    config = layer.get_config()
    if "output_shape" in config:
        config["output_shape"] = (x.shape[1], width)
    fresh = type(layer).from_config(config)
    y = fresh(x)
    fresh.weights[0].assign(keras.ops.concatenate([positions[:, :extra], maps], axis=1))
    return y
