"""Weights of a parent for the network of a child, where their layers are alike."""

from __future__ import annotations

import dataclasses
import math
import threading
from pathlib import Path

from tasks.engine import callbacks
from zoo import atomic_files, model_files
from zoo.errors import UsageError
from zoo.lazy import keras, np

SKIP_SUFFIX = "_skip"  # how the convolution of a skip is called, after its block
_seed_lock = threading.Lock()  # what a seed makes random is that of the whole process


def write_inherited_weights(parent_folder, child_task, path):
    """Writes a weights file for a child, made of its parent's model as far as that fits.

    A file that is there already is kept, so that a trial that was cut short goes on from it.

    Args:
        parent_folder: of the parent's run, with a `model.keras`.
        child_task: the `tasks.Task` of the child, with `model`, `model_options` and `seed`.
        path: where to; ending in `.weights.h5`.

    Returns:
        The path, or `""` if nothing can be inherited. How much was is said.
    """
    path = Path(path)
    if path.exists():
        return str(path)
    try:
        parent, about = model_files.load(Path(parent_folder) / "model.keras")
    except UsageError as error:
        callbacks.print_status(f"nothing is inherited: {error}")
        return ""
    shape = child_task.shape()
    if about.get("model") != child_task.model or parent.input_shape[1:] != shape:
        callbacks.print_status(
            "nothing is inherited: the parent is another model, or takes other images"
        )
        return ""
    fresh = dataclasses.replace(child_task, weights="")
    with _seed_lock:
        keras.utils.set_random_seed(child_task.seed)  # what is new is as without a parent
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
    """Gives a model the values of another where layers of one name and kind have both.

    Kernels of other widths or sizes share what overlaps: the first channels, and the middle of a
    convolution. Where a channel that both have would be given more to see, by a wider layer
    before it or a larger kernel, it begins with zeros for that, so that it answers as it did
    (Net2Net, Chen et al., 2016; Wei et al., 2016), and so does a convolution that a skip did not
    need before. New channels, and what else is new, keep their random weights.

    Args:
        parent: a functional `keras.Model`.
        child: another, changed in place.

    Returns:
        How many numbers were taken over.
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
    """Makes the new convolution of a skip give what the parent added there, or nothing."""
    if layer.name.replace(SKIP_SUFFIX, "_conv1") in known:
        added = f"{layer.name}_add" in known
        layer.set_weights([np.eye(*layer.kernel.shape[-2:])[None, None] * added])


def _flattened_size(layer):
    """Returns height and width of the maps that a dense layer sees flattened, or `None`."""
    if not isinstance(layer, keras.layers.Dense):
        return None
    before = layer.input._keras_history.operation
    shape = before.input.shape if isinstance(before, keras.layers.Flatten) else ()
    return tuple(shape[1:3]) if len(shape) == 4 else None


def _merge_arrays(old, new, pixels):
    """Returns an array with the values of another where they overlap, and how many those are."""
    shape = new.shape
    if pixels and new.ndim == 2:  # whose rows are the channels of each pixel
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
    """Returns what two lengths of an axis have in common, in each: the middle of a kernel's."""
    both = min(old, new)
    starts = [(length - both) // 2 if axis < -2 else 0 for length in (old, new)]
    return tuple(slice(start, start + both) for start in starts)
