"""Models with several inputs as models of an image: the other inputs are constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zoo import graphs
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import keras, np

SUFFIX = ".npy"  # of a file with the values of an input


def parse_inputs(texts: Sequence[str]) -> dict:
    """Returns the values that `NAME=0.5`, `NAME=1,0,0` or `NAME=FILE.npy` state, by input.

    Raises:
        UsageError: A text has another form, or a file cannot be read.
    """
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            if value.endswith(SUFFIX):
                numbers = np.load(value, allow_pickle=False)
            else:
                numbers = np.array([float(number) for number in value.split(",")])
        except (OSError, ValueError, EOFError) as error:
            raise UsageError(f"--input {text!r:.200}: {error}; {_expected()}") from error
        if not (name and equals) or numbers.dtype.kind not in "biuf":
            raise UsageError(f"--input {text!r:.200}: {_expected()}")
        found[name] = numbers
    return found


def _expected():
    return "expected NAME=NUMBER, NAME=NUMBER,NUMBER,... or NAME=FILE.npy"


def fix_inputs(model, values: Mapping[str, object]):
    """Returns a model of the image alone, of the same layers.

    Args:
        model: A functional `keras.Model`; one input is `(batch, height, width, channels)`.
        values: For each other input its value for every image, an array without the batch
            dimension, or a number for all its elements.

    Raises:
        UsageError: There is no such input, an input has no value or one of another shape, or
            several inputs without a value are images.
    """
    net = graphs.require_graph(model)
    inputs = {x.name: x for x in net.inputs}
    for name in values:
        if name not in inputs:
            raise unknown_name_error(f"input of {model.name}", name, list(inputs))
    if len(inputs) == 1 and not values:
        return model
    free = [x for name, x in inputs.items() if name not in values]
    images = [x for x in free if len(x.shape) == 4]
    if len(images) != 1 or len(free) > 1:
        shapes = ", ".join(f"{x.name} {tuple(x.shape)}" for x in net.inputs)
        raise UsageError(
            f"{model.name} has the inputs {shapes}; an image can be explained with fixed values of "
            f"the others: --input {next((x.name for x in free if x not in images), 'NAME')}=0.5"
        )
    [image] = images
    fresh = keras.Input(batch_shape=image.shape, dtype=image.dtype, name=image.name)
    tensors = {id(inputs[name]): _constant(fresh, inputs[name], values[name]) for name in values}
    tensor_map = graphs.replay(net, {id(image): fresh, **tensors}, graphs.call_node)
    outputs = keras.tree.map_structure(lambda x: tensor_map[id(x)], net.output)
    return keras.Model(fresh, outputs, name=model.name)


def _constant(image, given, value):
    """Returns a symbolic tensor with the same value for each image of a batch."""
    shape, value = given.shape[1:], np.asarray(value, "float32")
    if value.size == 1 and None not in shape:
        value = np.full(shape, value.reshape(()))
    if value.ndim != len(shape) or any(
        side not in (None, size) for side, size in zip(shape, value.shape, strict=True)
    ):
        raise UsageError(f"the input {given.name} takes values of shape {shape}, not {value.shape}")
    first = keras.ops.max(keras.ops.cast(image, "float32"), (1, 2))[:, :1]
    rows = keras.ops.zeros_like(first) + value.reshape(1, -1)
    return keras.ops.cast(keras.ops.reshape(rows, (-1, *value.shape)), given.dtype)
