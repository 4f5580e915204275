"""The layers that a quantized model leaves in float: those that 8 bits change the most.

The effect of a layer is measured in Keras: its kernel is rounded to 8 bits per output channel and
its inputs to 8 bits, while all other layers compute in float. Its effect is the mean change of the
outputs of the model on some images of the calibration.
"""

from __future__ import annotations

import dataclasses
import re

from tasks.inference import export_graph
from tasks.inference.export_model import ExportModel
from zoo import graphs, surgery
from zoo.errors import UsageError
from zoo.lazy import keras, np

NUM_IMAGES = 32
LEVELS = 255  # of 8 bits
KERNEL_LAYERS = ("Conv2D", "DepthwiseConv2D", "Conv2DTranspose", "Dense", "SeparableConv2D")


def pattern(layer):
    """Returns the regular expression of a layer's name in the name of an operation.

    A layer that is called again has a number after its name there.
    """
    return rf"(?:^|[/;]){re.escape(layer)}(?:_\d+)?(?:[/;:]|$)"


def matches(name, layers):
    """Returns whether an operation called `name` belongs to one of some layers."""
    return any(re.search(pattern(layer), name) for layer in layers)


def kernel_layers(model):
    """Returns the layers of a model that have a kernel, also those inside nested models."""
    leaves = list(dict.fromkeys(graphs.leaf_layers(model)))
    return [layer for layer in leaves if type(layer).__name__ in KERNEL_LAYERS]


def kernel_key(values):
    """Returns bytes that are equal for equal kernels, in whatever order a converter stores them."""
    return np.sort(np.asarray(values, "float32"), axis=None).tobytes()


def kernel_keys(model, names):
    """Returns the `kernel_key` of each kernel of the layers of a model that are called `names`.

    Converters may rename a convolution, or give it no name at all; its kernel stays.
    """
    return {
        kernel_key(keras.ops.convert_to_numpy(weight))
        for layer in kernel_layers(model)
        if layer.name in names
        for weight in _kernels(layer)
    }


def folded(exported: ExportModel):
    """Returns the model with batch normalization folded into kernels, which are rounded then.

    Otherwise 8 bits would have to hold the outputs of a convolution before they are normalized,
    whose ranges differ greatly between channels. A model that cannot be folded stays as it is.
    """
    try:
        return dataclasses.replace(exported, model=surgery.fold(exported.model))
    except UsageError:
        return exported


def rank(exported: ExportModel, images):
    """Returns the names of the layers with a kernel, that with the largest effect first.

    Args:
        exported: the model.
        images: images of the calibration, uint8 `(count, height, width, channels)`.
    """
    inputs = {exported.model.inputs[0].name: images[:NUM_IMAGES].astype("float32")}
    expected = export_graph.keras_outputs(exported, inputs)
    effects = {}
    for layer in kernel_layers(exported.model):
        with _Rounded(layer):
            found = export_graph.keras_outputs(exported, inputs)
        effects[layer.name] = _change(found, expected)
    return sorted(effects, key=lambda name: -effects[name])


def _change(found, expected):
    changes = [
        np.abs(found[name].astype("float64") - expected[name]).mean()
        / (np.abs(expected[name]).mean() or 1)
        for name in expected
    ]
    return float(np.mean(changes))


class _Rounded:
    """Rounds the kernels and the inputs of a layer to 8 bits inside a `with` block."""

    def __init__(self, layer):
        self.layer, self.call = layer, layer.call
        self.weights, self.axes = _kernels(layer), _input_axes(layer)
        self.values = [keras.ops.convert_to_numpy(weight) for weight in self.weights]

    def __enter__(self):
        for weight, value in zip(self.weights, self.values, strict=True):
            scale = np.abs(value).max(axis=self.axes, keepdims=True) / (LEVELS // 2)
            weight.assign(np.round(value / np.where(scale > 0, scale, 1)) * scale)
        self.layer.call = lambda x, *args, **kwargs: self.call(_round(x), *args, **kwargs)

    def __exit__(self, *error):
        self.layer.call = self.call
        for weight, value in zip(self.weights, self.values, strict=True):
            weight.assign(value)


def _kernels(layer):
    return [weight for weight in layer.weights if len(weight.shape) > 1]


def _input_axes(layer):
    """Returns the axes of a layer's kernel that are not its output channels."""
    axes = {"DepthwiseConv2D": (0, 1), "Conv2DTranspose": (0, 1, 3), "Dense": (0,)}
    return axes.get(type(layer).__name__, (0, 1, 2))


def _round(x):
    """Returns a tensor rounded to 8 bits between its smallest and its largest value."""
    low = keras.ops.minimum(keras.ops.min(x), 0)
    scale = keras.ops.maximum((keras.ops.max(x) - low) / LEVELS, 1e-12)
    return keras.ops.round((x - low) / scale) * scale + low
