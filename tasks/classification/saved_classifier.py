"""Classifiers from model files, also of other programs, whose last layer may be a softmax.

Everything here works on logits. A model that returns probabilities is cut before the activation
that computes them; otherwise its probabilities would be squashed again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from zoo import graphs
from zoo.errors import UsageError
from zoo.lazy import keras

PROBABILITY_ACTIVATIONS = ("softmax", "sigmoid")


@dataclass(frozen=True)
class SavedClassifier:
    """A classifier of a file.

    Attributes:
        model: A `keras.Model` from images to logits `(batch, classes)`.
        classes: The class names, in the order of the logits.
        resize: How an image is resized to the input shape.
        multi_label: Whether an image may have any number of classes.
    """

    model: keras.Model = field(repr=False)
    classes: tuple[str, ...]
    resize: str
    multi_label: bool


def read(path, model, about: Mapping) -> SavedClassifier:
    """Returns the classifier of a file.

    Args:
        path: The path of the file, for messages.
        model: Its `keras.Model`, from images to logits or probabilities. One output is the logit
            or the probability of the second of two classes.
        about: Its metadata. Without `classes`, classes are named by their index; without
            `multi_label`, a model with several sigmoids is multi-label.

    Raises:
        UsageError: The model is not an image classifier.
    """
    shape, output = model.input_shape, model.output_shape
    if not (_has_rank(shape, 4) and _has_rank(output, 2)):
        raise UsageError(
            f"{path} is not an image classifier: it maps {shape} to {output}; "
            "expected images (batch, height, width, channels) and logits (batch, classes)"
        )
    classes, several = tuple(about.get("classes", ())), bool(about.get("multi_label", False))
    model, activation = _without_activation(model)
    if output[-1] == 1 and len(classes) != 1 and not several:
        model = _with_two_logits(model)
    elif activation == "sigmoid":
        several = bool(about.get("multi_label", True))
    numbers = tuple(f"class {number}" for number in range(model.output_shape[-1]))
    return SavedClassifier(model, classes or numbers, about.get("resize", "stretch"), several)


def _has_rank(shape, rank):
    """Returns whether a shape is that of a single tensor of some rank, and not of several."""
    return isinstance(shape, tuple) and len(shape) == rank and not isinstance(shape[-1], tuple)


def _without_activation(model):
    """Returns a model up to its logits, and the name of the activation behind them or empty."""
    name = _activation_name(_last_operation(model))
    if name not in PROBABILITY_ACTIVATIONS:
        return model, ""
    net = graphs.flatten(model)
    layer, number, _ = net.outputs[0]._keras_history
    x = layer._inbound_nodes[number].input_tensors[0]
    if getattr(layer, "weights", ()):
        config = {**layer.get_config(), "activation": "linear"}
        linear = type(layer).from_config(config)
        x = linear(x)
        linear.set_weights(layer.get_weights())
    if x.dtype != "float32":
        x = keras.layers.Activation("linear", dtype="float32")(x)
    return keras.Model(net.input, x, name=model.name), name


def _last_operation(model):
    """Returns the layer or operation that computes the output, also inside a nested model."""
    operation = model
    while (net := graphs.functional_graph(operation)) is not None:
        operation = net.outputs[0]._keras_history.operation
    return operation


def _activation_name(operation):
    """Returns the name of the activation of a layer, or of an operation such as `ops.softmax`."""
    activation = getattr(operation, "activation", None)
    return getattr(activation, "__name__", type(operation).__name__.lower())


def _with_two_logits(model):
    """Returns a model of two classes for one with the logit of the second."""
    half = keras.ops.cast(model.output, "float32") / 2
    return keras.Model(model.input, keras.ops.concatenate([-half, half], -1), name=model.name)
