"""The layers that a quantized model leaves in float: those that 8 bits change the most.

The effect of a layer is measured in Keras: its kernel is rounded to 8 bits per output channel and
its inputs to 8 bits, while all other layers compute in float. Its effect is the mean change of the
outputs of the model on some images of the calibration.
"""

from __future__ import annotations

import re

from tasks.inference import export_graph
from tasks.inference.export_model import ExportModel
from zoo import graphs
from zoo.lazy import keras, np

NUM_IMAGES = 8
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
        self.weights = [w for w in layer.trainable_weights if len(w.shape) > 1]
        self.values = [keras.ops.convert_to_numpy(weight) for weight in self.weights]

    def __enter__(self):
        for weight, value in zip(self.weights, self.values, strict=True):
            axes = tuple(range(value.ndim - 1))
            scale = np.abs(value).max(axis=axes, keepdims=True) / (LEVELS // 2)
            weight.assign(np.round(value / np.where(scale > 0, scale, 1)) * scale)
        self.layer.call = lambda x, *args, **kwargs: self.call(_round(x), *args, **kwargs)

    def __exit__(self, *error):
        self.layer.call = self.call
        for weight, value in zip(self.weights, self.values, strict=True):
            weight.assign(value)


def _round(x):
    """Returns a tensor rounded to 8 bits between its smallest and its largest value."""
    low = keras.ops.minimum(keras.ops.min(x), 0)
    scale = keras.ops.maximum((keras.ops.max(x) - low) / LEVELS, 1e-12)
    return keras.ops.round((x - low) / scale) * scale + low
