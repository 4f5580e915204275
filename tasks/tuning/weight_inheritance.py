"""Inheritance of weights: copies those of a parent network to a child where layers match."""

from __future__ import annotations

import dataclasses
import math
import threading
from pathlib import Path

from tasks.engine import callbacks
from zoo import atomic_files, model_files
from zoo.errors import UsageError
from zoo.lazy import keras, np

SKIP_SUFFIX = (
    "_skip"  # of the name of a convolution on a skip connection, after the name of its block
)
_seed_lock = threading.Lock()  # `set_random_seed` is global to the process


def write_inherited_weights(parent_folder, child_task, path):
    """Writes a weights file for a child network with weights of its parent where they match.

    An existing file is kept, so that an interrupted trial resumes with the same weights. The
    number of inherited weights is logged.

    Args:
        parent_folder: run folder of the parent, with a `model.keras`.
        child_task: the `tasks.Task` of the child, with `model`, `model_options` and `seed`.
        path: path of the file, ending in `.weights.h5`.

    Returns:
        The path, or `""` if no weights are inherited.
    """
    path = Path(path)
    if path.exists():
        return str(path)
    try:
        parent, about = model_files.load(Path(parent_folder) / "model.keras")
    except UsageError as error:
        callbacks.print_status(f"no weights are inherited: {error}")
        return ""
    shape = child_task.shape()
    if about.get("model") != child_task.model or parent.input_shape[1:] != shape:
        callbacks.print_status(
            "no weights are inherited: the parent is another model, or has another input shape"
        )
        return ""
    fresh = dataclasses.replace(child_task, weights="")
    with _seed_lock:
        keras.utils.set_random_seed(
            child_task.seed
        )  # new weights are initialized as without a parent
        child = fresh.network(shape, len(about["classes"]))
    inherited = inherit_weights(parent, child)
    total = sum(math.prod(weight.shape) for weight in child.weights)
    callbacks.print_status(
        f"{inherited:,} of {total:,} weights ({inherited / total:.0%}) are inherited from "
        f"{Path(parent_folder).name}"
    )
    if not inherited:
        return ""
    with atomic_files.atomic_write(path) as partial:
        child.save_weights(partial)
    return str(path)


def inherit_weights(parent, child):
    """Copies the weights of a model to another one for layers of the same name and class.

    Kernels of different widths or sizes share their overlap: the first channels, and the center of
    a convolution. New inputs of an existing output channel, from a wider previous layer or a larger
    kernel, are initialized with zeros, so that the channel computes the same function as before
    (Net2Net, Chen et al., 2016; Wei et al., 2016); so is a new convolution on a skip connection.
    New channels and layers keep their random weights.

    Args:
        parent: a functional `keras.Model`.
        child: another functional `keras.Model`, changed in place.

    Returns:
        The number of copied values.
    """
    known = {layer.name: layer for layer in parent.layers}
    num_copied = 0
    for layer in child.layers:
        old = known.get(layer.name)
        if old is None and layer.name.endswith(SKIP_SUFFIX):
            _init_skip_conv(layer, known)
        if not layer.weights or type(old) is not type(layer):
            continue
        spread = _flattened_size(old), _flattened_size(layer)
        old_arrays, new_arrays = ([np.array(w) for w in one.weights] for one in (old, layer))
        if spread[0] != spread[1] or [a.ndim for a in old_arrays] != [a.ndim for a in new_arrays]:
            continue
        merged = [
            _merge_arrays(*pair, spread[0]) for pair in zip(old_arrays, new_arrays, strict=True)
        ]
        layer.set_weights([array for array, _ in merged])
        num_copied += sum(count for _, count in merged)
    return num_copied


def _init_skip_conv(layer, known):
    """Initializes a new skip convolution to the identity if the parent had a skip, else to 0."""
    if layer.name.replace(SKIP_SUFFIX, "_conv1") in known:
        added = f"{layer.name}_add" in known
        layer.set_weights([np.eye(*layer.kernel.shape[-2:])[None, None] * added])


def _flattened_size(layer):
    """Returns the size of the feature maps that a dense layer takes flattened, or `None`."""
    if not isinstance(layer, keras.layers.Dense):
        return None
    before = layer.input._keras_history.operation
    shape = before.input.shape if isinstance(before, keras.layers.Flatten) else ()
    return tuple(shape[1:3]) if len(shape) == 4 else None


def _merge_arrays(old, new, pixels):
    """Returns `new` with the values of `old` where they overlap, and the number of these."""
    shape = new.shape
    if pixels and new.ndim == 2:  # the rows are the channels of each pixel
        old, new = (array.reshape(*pixels, -1, array.shape[-1]) for array in (old, new))
    source_slices, target_slices = zip(
        *map(_overlap, old.shape, new.shape, range(-new.ndim, 0)), strict=True
    )
    merged = new.copy()
    if new.ndim > 1:
        merged[..., target_slices[-1]] = 0
    merged[target_slices] = old[source_slices]
    return merged.reshape(shape), merged[target_slices].size


def _overlap(old, new, axis):
    """Returns the overlapping slices of two axes: centered for kernel sizes, else the first."""
    both = min(old, new)
    starts = [(length - both) // 2 if axis < -2 else 0 for length in (old, new)]
    return tuple(slice(start, start + both) for start in starts)
