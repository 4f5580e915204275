"""Reads weights files of every supported format as a list of layers with their arrays.

Nothing in a file is executed.
"""

from __future__ import annotations

import io
import os
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from zoo import paths, zip_archives
from zoo.errors import UsageError
from zoo.graphs import HEAD_LAYER
from zoo.lazy import LazyModule, np

hdf5 = LazyModule("zoo.weights.hdf5")
npz = LazyModule("zoo.weights.npz")
safetensors = LazyModule("zoo.weights.safetensors")
torch_files = LazyModule("zoo.weights.torch_files")

SAFETENSORS = ".safetensors"
TORCH_FORMATS = (".pth", ".pt", ".th", ".bin")
FORMATS = (".weights.h5", ".keras", ".h5", ".hdf5", ".npz", SAFETENSORS, *TORCH_FORMATS)
TORCH_TENSOR = "torch"  # the kind of an entry that is one tensor of a PyTorch state dict
# The names in `keras.applications` of the layer that is called `logits` here.
KERAS_HEAD_NAMES = re.compile("predictions|conv_preds|convnext_.*_head_dense")


@dataclass(frozen=True)
class Entry:
    """One layer of a weights file; of a PyTorch state dict, one tensor.

    Attributes:
        name: of the layer, or the key of the tensor.
        kind: class of the layer in snake case, `""` if unknown, or `TORCH_TENSOR`.
        arrays: objects with a `shape`, of which `load_arrays` makes NumPy arrays.
    """

    name: str
    kind: str
    arrays: list


class UnreadableWeightsError(UsageError):
    """A weights file is damaged, or is not a weights file."""


def read(path, name=None):
    """Returns the layers of a weights file, a list of `Entry`. Nothing in it is executed.

    Args:
        path: the file.
        name: a file name with the ending of the format, if the path has another ending.

    Raises:
        UnreadableWeightsError: the file is damaged, or refers to other files.
        UsageError: there is no such file, or its format is unknown.
    """
    path = Path(path)
    name = name or path.name
    if kind := paths.special_file_type(path):
        raise UsageError(f"{path} is {kind}, not a weights file")
    if not os.path.isfile(path):  # `Path.is_file` raises an error for a name that is too long
        raise UsageError(f"no weights file at {path}")
    if not name.endswith(FORMATS):
        raise UsageError(f"{name} is not a weights file; known endings: {', '.join(FORMATS)}")
    try:
        entries = _read(path, name)
    except (OSError, ValueError) as error:  # raised by the readers for a damaged file
        raise _unreadable_error(path, error) from error
    return [
        replace(entry, name=HEAD_LAYER) if KERAS_HEAD_NAMES.fullmatch(entry.name) else entry
        for entry in entries
    ]


def load_arrays(entry, path):
    """Returns the arrays of an entry of `read`, as NumPy arrays.

    Args:
        entry: the `Entry`.
        path: the file, for messages.

    Raises:
        UnreadableWeightsError: this part of the file is damaged.
    """
    try:
        return [np.asarray(array) for array in entry.arrays]
    except (OSError, ValueError) as error:
        raise _unreadable_error(path, error) from error


def is_torch_state_dict(path):
    """Returns whether a file holds a PyTorch state dict.

    Only a `.safetensors` file is opened; of other files the ending determines it.
    """
    path = Path(path)
    if path.suffix != SAFETENSORS or paths.special_file_type(path):
        return path.name.endswith(TORCH_FORMATS)
    with suppress(OSError, ValueError):  # `read` will raise the error
        return not _has_indexed_names(safetensors.names(path))
    return False


def _read(path, name):
    if name.endswith(TORCH_FORMATS):
        return _entry_per_tensor(torch_files.read(path))
    if name.endswith(SAFETENSORS):
        tensors = safetensors.read(path)
        return (_group_by_layer if _has_indexed_names(tensors) else _entry_per_tensor)(tensors)
    if name.endswith(".npz"):
        return _group_by_layer(npz.read(path))
    file = path
    if name.endswith(".keras"):
        with zip_archives.open_zip(path) as archive:
            file = io.BytesIO(zip_archives.read_member(archive, "model.weights.h5"))
    return [Entry(*layer) for layer in hdf5.read_layers(file)]


def _unreadable_error(path, error):
    return UnreadableWeightsError(
        f"{path} cannot be read as weights: {zip_archives.error_message(error)}"
    )


def _has_indexed_names(names):
    """Returns whether all names are `layer/index`, as in our `.npz` files."""
    return all(name.rpartition("/")[2].isdigit() for name in names)


def _group_by_layer(tensors):
    layers = {}
    for key in sorted(tensors, key=lambda key: int(key.rpartition("/")[2])):
        layers.setdefault(key.rpartition("/")[0], []).append(tensors[key])
    return [Entry(name, "", arrays) for name, arrays in layers.items()]


def _entry_per_tensor(tensors):
    return [Entry(name, TORCH_TENSOR, [array]) for name, array in tensors.items()]
