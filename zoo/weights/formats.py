"""Weights files of every format as one thing: a list of layers with their arrays.

Nothing in a file is executed.
"""

from __future__ import annotations

import io
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from zoo import paths, zip_archives
from zoo.errors import UsageError
from zoo.lazy import LazyModule, np

hdf5 = LazyModule("zoo.weights.hdf5")
npz = LazyModule("zoo.weights.npz")
safetensors = LazyModule("zoo.weights.safetensors")
torch_files = LazyModule("zoo.weights.torch_files")

SAFETENSORS = ".safetensors"
TORCH_FORMATS = (".pth", ".pt", ".th", ".bin")
FORMATS = (".weights.h5", ".keras", ".h5", ".hdf5", ".npz", SAFETENSORS, *TORCH_FORMATS)
TORCH_TENSOR = "torch"  # the kind of an entry that is one tensor of a PyTorch state dict
HEAD_NAMES = re.compile(
    "predictions|conv_preds|convnext_.*_head_dense"
)  # what Keras calls `logits`


@dataclass(frozen=True)
class Entry:
    """One layer of a weights file: its name, class in snake case if known, and arrays.

    Of PyTorch's files it is one tensor, with the kind `TORCH`, as `zoo.weights.torch_conversion`
    wants it.
    The arrays of other files have a shape and are read by `values`.
    """

    name: str
    kind: str
    arrays: list


class UnreadableWeightsError(UsageError):
    """A file of weights is damaged, or not one."""


def read(path, name=None):
    """Returns the layers of a weights file, a list of `Entry`, without executing any of it.

    Args:
        path: the file.
        name: what it is called, if its path does not end so.

    Raises:
        Unreadable: it is damaged, or refers to other files.
        UsageError: there is no such file, or it is of no known format.
    """
    path = Path(path)
    name = name or path.name
    if kind := paths.special_file_type(path):
        raise UsageError(f"{path} is {kind}, not a weights file")
    if not path.is_file():
        raise UsageError(f"no weights file at {path}")
    if not name.endswith(FORMATS):
        raise UsageError(f"{name} is no weights file; known endings: {', '.join(FORMATS)}")
    try:
        entries = _read(path, name)
    except (OSError, ValueError) as error:  # what the readers raise for a damaged file
        raise _unreadable_error(path, error) from error
    return [
        Entry(
            "logits" if HEAD_NAMES.fullmatch(entry.name) else entry.name, entry.kind, entry.arrays
        )
        for entry in entries
    ]


def load_arrays(entry, path):
    """Returns the arrays of an entry that `read` gave of a file, as NumPy arrays.

    Raises:
        Unreadable: their part of the file is damaged.
    """
    try:
        return [np.asarray(array) for array in entry.arrays]
    except (OSError, ValueError) as error:
        raise _unreadable_error(path, error) from error


def is_torch_state_dict(path):
    """Tells whether a file, if there is one, holds a PyTorch state dict; by its name if it can."""
    path = Path(path)
    if path.suffix != SAFETENSORS or paths.special_file_type(path):
        return path.name.endswith(TORCH_FORMATS)
    with suppress(OSError, ValueError):  # `read` says what is wrong with it
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
    """Tells whether tensors are called `layer/index`, as in `.npz` files, in the order of Keras."""
    return all(name.rpartition("/")[2].isdigit() for name in names)


def _group_by_layer(tensors):
    layers = {}
    for key in sorted(tensors, key=lambda key: int(key.rpartition("/")[2])):
        layers.setdefault(key.rpartition("/")[0], []).append(tensors[key])
    return [Entry(name, "", arrays) for name, arrays in layers.items()]


def _entry_per_tensor(tensors):
    return [Entry(name, TORCH_TENSOR, [array]) for name, array in tensors.items()]
