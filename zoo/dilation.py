"""Networks that look as far at a smaller stride: convolutions with holes in place of strides."""

from __future__ import annotations

from zoo import graphs
from zoo.errors import UsageError
from zoo.lazy import keras

SMALLEST = 2  # stride that can be kept


def dilated(model, stride):
    """Returns a network whose stages beyond some stride all have that stride.

    Where the network would halve its maps once more it does not, and the convolutions after that
    take every second pixel instead (every fourth after the next such place), so that each kernel
    sees what it saw in training. The layers that change are new ones, with the same names and
    weights; the others are the model's own.

    Args:
        model: a functional model of one image, or a Sequential one that is built.
        stride: the largest one to be left, a power of two from 2.

    Raises:
        UsageError: the stride is no such number, or the model is no graph of layers.

    Reference:
        Chen et al., 2017, section 3.1.
    """
    if stride < SMALLEST or stride & (stride - 1):
        raise UsageError(f"an output stride is a power of two from {SMALLEST}, not {stride}")
    net = graphs.flat(model)
    strides = {}  # id of a tensor of the old network: its stride there
    copies = {}

    def call(node, *args, **kwargs):
        layer = node.operation
        before = max(strides.get(id(x), 1) for x in node.input_tensors)
        after = before * _strides(layer)
        strides.update((id(x), after) for x in node.output_tensors)
        changes = _changes(layer, max(1, before // stride), after > max(before, stride))
        if changes:
            if id(layer) not in copies:
                copies[id(layer)] = _changed(layer, changes, args)
            layer = copies[id(layer)]
        return layer(*args, **kwargs)

    return graphs.rebuilt(net, call)


def _strides(layer):
    strides = getattr(layer, "strides", 1) if isinstance(layer, keras.Layer) else 1
    return strides if isinstance(strides, int) else max(strides)


def _changes(layer, rate, flat):
    """Returns what must change of a layer's configuration, where maps are `rate` times too large.

    Args:
        layer: an operation.
        rate: by how much its input is larger than it was.
        flat: whether it must not make its output smaller.
    """
    changes = {"strides": 1} if flat else {}
    if flat and "Pooling" in type(layer).__name__:
        changes["padding"] = "same"
    if rate > 1 and isinstance(layer, keras.layers.ZeroPadding2D):
        changes["padding"] = [[rate * side for side in sides] for sides in layer.padding]
    if rate > 1 and max(getattr(layer, "kernel_size", (1,))) > 1:
        changes["dilation_rate"] = [rate * side for side in layer.dilation_rate]
    return changes


def _changed(layer, changes, args):
    """Returns a layer like another but for its configuration, with the same weights."""
    copy = type(layer).from_config({**layer.get_config(), **changes})
    copy.build(keras.tree.flatten(args)[0].shape)
    for mine, its in zip(copy.weights, layer.weights, strict=True):
        mine.assign(its)
    copy.trainable = layer.trainable
    return copy
