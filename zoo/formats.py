"""Weights files of every format as one thing: a list of layers with their arrays.

Nothing in a file is executed.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import UsageError
from zoo.lazy import LazyModule, np

h5py = LazyModule("h5py")
safetensors = LazyModule("zoo.safetensors")
torch_files = LazyModule("zoo.torch_files")

SAFETENSORS = ".safetensors"
TORCH_FORMATS = (".pth", ".pt", ".bin")
FORMATS = (".weights.h5", ".keras", ".h5", ".hdf5", ".npz", SAFETENSORS, *TORCH_FORMATS)
TORCH = "torch"  # the kind of an entry that is one tensor of a PyTorch state dict
HEADS = re.compile("predictions|conv_preds|convnext_.*_head_dense")  # what Keras calls `logits`


@dataclass(frozen=True)
class Entry:
    """One layer of a weights file: its name, class in snake case if known, and arrays.

    Of PyTorch's files it is one tensor, with the kind `TORCH`, as `zoo.torch_weights` wants it.
    """

    name: str
    kind: str
    arrays: list


def read(path):
    """Returns the layers of a weights file, a list of `Entry`, without executing any of it."""
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"no weights file at {path}")
    if not path.name.endswith(FORMATS):
        raise UsageError(f"{path.name} is no weights file; known endings: {', '.join(FORMATS)}")
    try:
        if path.name.endswith(TORCH_FORMATS):
            entries = _one_by_one(torch_files.read(path))
        elif path.suffix == SAFETENSORS:
            tensors = safetensors.read(path)
            entries = (_by_layer if _is_ours(tensors) else _one_by_one)(tensors)
        elif path.suffix == ".npz":
            entries = _read_npz(path)
        elif path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                entries = _read_h5(io.BytesIO(archive.read("model.weights.h5")))
        else:
            entries = _read_h5(os.fspath(path))
    except Exception as error:  # a broken file makes h5py, zipfile and NumPy raise all kinds
        reason = " ".join(str(error).split())
        raise UsageError(f"{path} cannot be read as weights: {reason}") from error
    return [
        Entry("logits" if HEADS.fullmatch(entry.name) else entry.name, entry.kind, entry.arrays)
        for entry in entries
    ]


def is_torch(path):
    """Tells whether a file, if there is one, holds a PyTorch state dict; by its name if it can."""
    path = Path(path)
    if path.suffix != SAFETENSORS:
        return path.name.endswith(TORCH_FORMATS)
    with suppress(OSError, ValueError, TypeError, KeyError):  # `read` says what is wrong with it
        return not _is_ours(safetensors.names(path))
    return False


def _is_ours(names):
    """Tells whether tensors are called `layer/index`, as in `.npz` files, in the order of Keras."""
    return all(name.rpartition("/")[2].isdigit() for name in names)


def _by_layer(tensors):
    layers = {}
    for key in sorted(tensors, key=lambda key: int(key.rpartition("/")[2])):
        layers.setdefault(key.rpartition("/")[0], []).append(tensors[key])
    return [Entry(name, "", arrays) for name, arrays in layers.items()]


def _one_by_one(tensors):
    return [Entry(name, TORCH, [array]) for name, array in tensors.items()]


def _read_npz(path):
    layers = {}
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        for key in archive.files:
            layers.setdefault(key.rpartition("/")[0], []).append(archive[key])
    return [Entry(name, "", arrays) for name, arrays in layers.items()]


def _read_h5(file):
    with h5py.File(file, "r") as root:
        if "layers" in root or "_layer_checkpoint_dependencies" in root:
            return list(_keras3_layers(root))
        group = root.get("model_weights", root)
        if "layer_names" not in group.attrs:
            raise ValueError("neither a Keras 3 nor an older Keras weights file")
        entries = [
            Entry(
                _text(name),
                "",
                [np.asarray(group[name][w]) for w in group[name].attrs["weight_names"]],
            )
            for name in group.attrs["layer_names"]
        ]
        return [entry for entry in entries if entry.arrays]


def _keras3_layers(group):
    """Yields the layers under a group of a Keras 3 file, in the order of their numbers."""
    children = group.get("layers", group.get("_layer_checkpoint_dependencies"))
    for key in sorted(children, key=_numbered):
        child = children[key]
        if "layers" in child:
            yield from _keras3_layers(child)
            continue
        arrays = _arrays(child)
        if arrays:
            name = child["vars"].attrs.get("name", key) if "vars" in child else key
            yield Entry(_text(name), _numbered(key)[0], arrays)


def _arrays(group):
    """Reads a layer's own variables and those of its parts, but for random states."""
    own = group.get("vars", {})
    arrays = [np.asarray(own[key]) for key in sorted(own, key=int)]
    for key in sorted(set(group) - {"vars", "seed_generator"}, key=_numbered):
        arrays += _arrays(group[key])
    return arrays


def _numbered(key):
    """Splits `conv2d_12` into (`conv2d`, 12), so that 12 comes after 2."""
    stem, _, number = key.rpartition("_")
    return (stem, int(number)) if stem and number.isdigit() else (key, 0)


def _text(name):
    return name.decode() if isinstance(name, bytes) else str(name)
