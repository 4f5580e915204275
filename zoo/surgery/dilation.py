"""Networks that look as far at a smaller stride: convolutions with holes in place of strides."""

from __future__ import annotations

from zoo import graphs
from zoo.errors import UsageError
from zoo.lazy import keras, np
from zoo.lazy_layers import layers

MIN_OUTPUT_STRIDE = 2  # stride that can be kept
BORDER_ATTRIBUTES = {"ZeroPadding2D": "padding", "Cropping2D": "cropping"}
FIXED_SIZE_LAYERS = ("Flatten", "Reshape")


def dilate(model, stride):
    """Returns a network whose stages beyond some stride all have that stride.

    Where the network would halve its maps once more it does not, and the convolutions and pooling
    layers after that take every second pixel instead (every fourth after the next such place), so
    that each window sees what it saw in training. A layer that no longer shrinks its maps returns
    one value for each of their pixels: the maps keep the size that they have at `stride`.

    The new maps at every second pixel (every fourth, ...) are the old ones, with two exceptions:
    layers that average whole maps, such as squeeze-and-excitation, average more pixels; and where
    the old network left out the last row or column of maps of an odd size, the new one does not,
    so that values near that border differ. How TensorFlow's `same` padding is shared between the
    two sides depends on the size of the maps; where it is not known, it is taken for a multiple
    of the stride.

    The layers that change are new ones, with the same names and weights; the others are the
    model's own.

    Args:
        model: a functional model of one image, or a Sequential one that is built.
        stride: the largest one to be left, a power of two from 2.

    Raises:
        UsageError: the stride is no such number, the model is no graph of layers, or it lays out
            maps of one size as a vector or as tokens.

    Reference:
        Chen et al., 2017, section 3.1.
    """
    if stride < MIN_OUTPUT_STRIDE or stride & (stride - 1):
        raise UsageError(
            f"an output stride is a power of two from {MIN_OUTPUT_STRIDE}, not {stride}"
        )
    net = graphs.flat(model)
    strides = {}  # id of a tensor of the old network: its stride there
    margins = {}  # likewise: what was added to its height and width since the last other layer
    copies = {}  # id of a layer: those that take its place, one after the other

    def call(node, *args, **kwargs):
        layer, x = node.operation, node.input_tensors[0]
        before = max(strides.get(id(y), 1) for y in node.input_tensors)
        after = before * _strides(layer)
        margin = margins.get(id(x), (0, 0))
        for y in node.output_tensors:
            strides[id(y)], margins[id(y)] = after, _added_border(layer, margin)
        rate, new_strides = max(1, before // stride), max(1, min(after, stride) // before)
        if type(layer).__name__ in FIXED_SIZE_LAYERS and tuple(args[0].shape) != tuple(x.shape):
            raise UsageError(
                f"{model.name} cannot be dilated to an output stride of {stride}: {layer.name} "
                f"takes maps of {x.shape[1]} x {x.shape[2]} only; give its own output stride"
            )
        if rate == 1 and new_strides == _strides(layer):
            return layer(*args, **kwargs)
        if id(layer) not in copies:
            copies[id(layer)] = _dilate_layer(layer, x.shape, margin, rate, new_strides)
        *borders, layer = copies[id(layer)]
        for border in borders:
            args = [border(*args)]
        return layer(*args, **kwargs)

    return graphs.rebuild(net, call)


def _strides(layer):
    strides = getattr(layer, "strides", 1) if isinstance(layer, keras.Layer) else 1
    return strides if isinstance(strides, int) else max(strides)


def _added_border(layer, before):
    """Returns how many rows and columns this layer and the margins before it added."""
    name = BORDER_ATTRIBUTES.get(type(layer).__name__)
    sign = {"padding": 1, "cropping": -1}.get(name)
    if not sign:
        return 0, 0
    return [had + sign * sum(ends) for had, ends in zip(before, getattr(layer, name), strict=True)]


def _dilate_layer(layer, shape, margin, rate, new_strides):
    """Returns the layers that take the place of one, the last of them under its name.

    Args:
        layer: an operation.
        shape: of what it takes in the old network.
        margin: how many rows and columns of that were added by layers before.
        rate: by how much its input is larger than in the old network.
        new_strides: its strides now.
    """
    if name := BORDER_ATTRIBUTES.get(type(layer).__name__):
        return [_copy_layer(layer, {name: _scale_borders(getattr(layer, name), rate)})]
    pools = isinstance(layer, (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D))
    if not pools and not hasattr(layer, "kernel_size"):
        return [
            _copy_layer(layer, {"strides": new_strides})
            if new_strides != _strides(layer)
            else layer
        ]
    borders = _scale_borders(
        _required_padding(layer, shape, margin, new_strides != _strides(layer)), rate
    )
    more = [[max(0, rows) for rows in ends] for ends in borders]
    less = [[max(0, -rows) for rows in ends] for ends in borders]
    own = {"dtype": layer.dtype_policy}
    first = [keras.layers.Cropping2D(less, name=f"{layer.name}_cut", **own)] if np.any(less) else []
    if pools:
        own |= {"average": isinstance(layer, keras.layers.AveragePooling2D), "name": layer.name}
        return [*first, layers.DilatedPooling2D(layer.pool_size, new_strides, rate, more, **own)]
    changes = {
        "strides": new_strides,
        "dilation_rate": [rate * hole for hole in layer.dilation_rate],
    }
    if new_strides == 1 and layer.padding == "same" and all(y - x in (0, 1) for x, y in borders):
        return [_copy_layer(layer, changes, shape[-1])]  # Keras pads so by itself
    if np.any(more):
        first.append(keras.layers.ZeroPadding2D(more, name=f"{layer.name}_border", **own))
    return [*first, _copy_layer(layer, {**changes, "padding": "valid"}, shape[-1])]


def _required_padding(layer, shape, margin, shrank):
    """Returns how many rows and columns a layer needs beyond its maps, in those of the old network.

    They are such that the first window begins where it did, and that there is a window for every
    pixel if the layer had strides before; the margins that were added count as being outside.
    """
    sizes = getattr(layer, "kernel_size", None) or layer.pool_size
    holes = getattr(layer, "dilation_rate", (1, 1))
    stride, found = _strides(layer), []
    for side, size, hole, added in zip(shape[1:3], sizes, holes, margin, strict=True):
        reach = (size - 1) * hole  # from the first pixel of a window to its last
        if layer.padding == "same":
            over = (stride if side is None else side) % stride or stride
            start = max(0, reach + 1 - over) // 2
            found.append((start, reach - start))
        else:
            found.append((0, reach - added if shrank else 0))
    return found


def _scale_borders(borders, rate):
    return [[rate * rows for rows in ends] for ends in borders]


def _copy_layer(layer, changes, channels=None):
    """Returns a layer like another but for its configuration, with the same weights."""
    copy = type(layer).from_config({**layer.get_config(), **changes})
    if layer.weights:
        copy.build((None, None, None, channels))
        for new_weight, old_weight in zip(copy.weights, layer.weights, strict=True):
            new_weight.assign(old_weight)
    copy.trainable = layer.trainable
    return copy
