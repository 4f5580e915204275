"""Reduces the output stride of a network by dilated convolutions in place of strides."""

from __future__ import annotations

from zoo import graphs
from zoo.errors import UsageError
from zoo.lazy import keras, np
from zoo.lazy_layers import layers

MIN_OUTPUT_STRIDE = 2
FIXED_SIZE_LAYERS = ("Flatten", "Reshape")


def dilate(model, stride):
    """Returns a network with a smaller output stride and the same receptive fields.

    Strides beyond the output stride become 1. Each convolution and pooling layer after that is
    dilated by 2 (by 4 after the next removed stride, and so on), so that its window covers the
    same pixels as in training. A layer whose stride was removed has one output for each pixel:
    feature maps keep the size that they have at `stride`.

    The new feature maps at every second (fourth, ...) pixel are the old ones, with two exceptions.
    Layers that average whole maps, such as squeeze-and-excitation, average more pixels. Where
    the old network ignored the last row or column of a map of odd size, the new one does not, so
    that values near that border differ. TensorFlow distributes `same` padding to the two sides
    depending on the size of the map; an unknown size is assumed to be a multiple of the stride.

    Changed layers are copies with the same names and weights; the others are the model's own.

    Args:
        model: a functional model with one input image, or a built Sequential model.
        stride: the output stride, a power of two from 2.

    Raises:
        UsageError: the stride is invalid, the model is not a graph of layers, or it reshapes maps
            of a fixed size to a vector or to tokens.

    Reference:
        Chen et al., 2017, section 3.1.
    """
    if stride < MIN_OUTPUT_STRIDE or stride & (stride - 1):
        raise UsageError(
            f"the output stride must be a power of two from {MIN_OUTPUT_STRIDE}, not {stride}"
        )
    net = graphs.flatten(model)
    strides = {}  # id of a tensor of the old network: its stride
    margins = {}  # likewise: rows and columns added by the padding layers directly before it
    copies = {}  # id of a layer: the layers that replace it, in order

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
                f"needs maps of {x.shape[1]} x {x.shape[2]}; use the output stride of the network"
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
    """Returns the rows and columns that this padding layer and those before it added."""
    name = graphs.BORDER_LAYERS.get(type(layer).__name__)
    sign = {"padding": 1, "cropping": -1}.get(name)
    if not sign:
        return 0, 0
    borders = getattr(layer, name)
    return [added + sign * sum(ends) for added, ends in zip(before, borders, strict=True)]


def _dilate_layer(layer, shape, margin, rate, new_strides):
    """Returns the layers that replace a layer; the last one has its name.

    Args:
        layer: a layer or an operation.
        shape: shape of its input in the old network.
        margin: rows and columns of that input that the padding layers before it added.
        rate: factor by which its input is larger than in the old network.
        new_strides: its strides in the new network.
    """
    if name := graphs.BORDER_LAYERS.get(type(layer).__name__):
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
        return [_copy_layer(layer, changes, shape[-1])]  # `same` padding adds the same borders
    if np.any(more):
        first.append(keras.layers.ZeroPadding2D(more, name=f"{layer.name}_border", **own))
    return [*first, _copy_layer(layer, {**changes, "padding": "valid"}, shape[-1])]


def _required_padding(layer, shape, margin, stride_removed):
    """Returns the padding (before, after) of height and width that a layer needs.

    It is in pixels of the old network's map. The first window begins where it did and, if the
    stride of the layer was removed, there is a window for each pixel, without the margin.
    """
    sizes = getattr(layer, "kernel_size", None) or layer.pool_size
    holes = getattr(layer, "dilation_rate", (1, 1))
    stride, found = _strides(layer), []
    for side, size, hole, added in zip(shape[1:3], sizes, holes, margin, strict=True):
        reach = (size - 1) * hole  # from the first pixel of a window to its last
        if layer.padding == "same":
            remainder = (stride if side is None else side) % stride or stride
            start = max(0, reach + 1 - remainder) // 2
            found.append((start, reach - start))
        else:
            found.append((0, reach - added if stride_removed else 0))
    return found


def _scale_borders(borders, rate):
    return [[rate * rows for rows in ends] for ends in borders]


def _copy_layer(layer, changes, channels=None):
    """Returns a copy of a layer with the same weights and some changes of its configuration."""
    copy = type(layer).from_config({**layer.get_config(), **changes})
    if layer.weights:
        copy.build((None, None, None, channels))
        for new_weight, old_weight in zip(copy.weights, layer.weights, strict=True):
            new_weight.assign(old_weight)
    copy.trainable = layer.trainable
    return copy
