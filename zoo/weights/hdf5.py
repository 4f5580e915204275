"""Reads HDF5 weights files of Keras 3 and of older versions; links to other files are refused.

Shapes are read at once and values on demand, so that a file with arrays that no network needs
takes no memory.
"""

from __future__ import annotations

import math
from contextlib import contextmanager

from zoo.lazy import LazyModule, np
from zoo.zip_archives import MAX_EXPANSION, error_message

h5py = LazyModule("h5py")

# Raised by h5py for a damaged file.
H5PY_ERRORS = (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError)
MAX_DEPTH = 64  # of nested groups
ALLOWED_OVERHEAD = 1 << 16  # bytes of an array above the expansion that is allowed
NUMERIC_KINDS = "fiub"  # `numpy.dtype.kind` of numbers: float, signed, unsigned, bool


class LazyArray:
    """An array in a file; `numpy.asarray` reads its values.

    Attributes:
        shape: a tuple of integers.
        dtype: a NumPy data type.
    """

    def __init__(self, shape, dtype, read):
        self.shape, self.dtype, self._read = tuple(shape), dtype, read

    def __array__(self, dtype=None, copy=None):
        array = self._read()
        return array if dtype is None else array.astype(dtype)


def read_layers(file):
    """Returns the layers of a weights file.

    Args:
        file: a path or a binary file.

    Returns:
        A list of `(name, kind, arrays)`: `kind` is the layer's class in snake case or `""`,
        `arrays` a list of `LazyArray`.

    Raises:
        ValueError: the file is damaged, is not a Keras weights file, or refers to other files.
    """
    with _translate_errors():
        root = h5py.File(file, "r")
    validate(root)
    if "layers" in root or "_layer_checkpoint_dependencies" in root:
        return list(_keras3_layers(root))
    with _translate_errors():
        group = root.get("model_weights", root)
        if "layer_names" not in group.attrs:
            raise ValueError("it is neither a Keras 3 nor an older Keras weights file")
        found = [
            (
                _decode_name(name),
                [_array(group[name][w]) for w in group[name].attrs["weight_names"]],
            )
            for name in group.attrs["layer_names"]
        ]
    return [(name, "", arrays) for name, arrays in found if arrays]


def validate(root):
    """Validates the structure of an HDF5 file or group without reading arrays.

    Returns:
        The total size of all arrays in bytes.

    Raises:
        ValueError: the file has links, data in other files, cyclic groups, or arrays of many
            more bytes than are stored; or it is damaged.
    """
    seen, waiting, total = set(), [(root, 0)], 0
    while waiting:
        group, depth = waiting.pop()
        with _translate_errors():
            address = h5py.h5o.get_info(group.id).addr
            if address in seen or depth > MAX_DEPTH:
                raise ValueError(f"the group {group.name} occurs twice or is nested too deeply")
            seen.add(address)
            for key in group:
                if type(group.get(key, getlink=True)) is not h5py.HardLink:
                    raise ValueError(f"{group.name} has a link, {key}; links are refused")
                child = group[key]
                if isinstance(child, h5py.Group):
                    waiting.append((child, depth + 1))
                else:
                    total += _checked_size(child)
    return total


def total_bytes(file):
    """Returns the total size in bytes of the arrays in a path or binary file.

    Raises:
        ValueError: as `validate`.
    """
    with _translate_errors():
        root = h5py.File(file, "r")
    with root:
        return validate(root)


def _checked_size(dataset):
    """Returns the size of an array in bytes; raises `ValueError` if the file cannot hold it."""
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"{dataset.name} is neither a group nor an array")
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{dataset.name} has its data in another file; that is refused")
    claimed = math.prod(dataset.shape or ()) * dataset.dtype.itemsize
    stored = dataset.id.get_storage_size()
    if claimed > MAX_EXPANSION * stored + ALLOWED_OVERHEAD:
        raise ValueError(f"{dataset.name} claims {claimed:,} bytes and stores {stored:,}")
    return claimed


def _keras3_layers(group):
    """Yields the layers in a group of a Keras 3 file, in the order of the numbers in their keys."""
    children = group.get("layers", group.get("_layer_checkpoint_dependencies"))
    for key in sorted(_require_groups(children), key=_split_number):
        child = children[key]
        if "layers" in child:
            yield from _keras3_layers(child)
            continue
        arrays = _arrays(child)
        if arrays:
            with _translate_errors():
                name = _decode_name(
                    child["vars"].attrs.get("name", key) if "vars" in child else key
                )
            yield name, _split_number(key)[0], arrays


def _arrays(group):
    """Returns the variables of a layer and its sublayers, except states of seed generators."""
    own = _require_groups(group).get("vars", {})
    if not all(key.isdecimal() for key in own):
        raise ValueError(f"{group.name}/vars has a key that is not a number")
    arrays = [_array(own[key]) for key in sorted(own, key=int)]
    for key in sorted(set(group) - {"vars", "seed_generator"}, key=_split_number):
        arrays += _arrays(group[key])
    return arrays


def _require_groups(group):
    """Returns a group if all its children are groups; raises `ValueError` if not."""
    if not isinstance(group, h5py.Group) or not all(
        isinstance(group[key], h5py.Group) for key in group
    ):
        raise ValueError("it has arrays where Keras has groups")
    return group


def _array(dataset):
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
        raise ValueError("it has a group where an array should be")
    if dataset.dtype.kind not in NUMERIC_KINDS:
        raise ValueError(f"{dataset.name} holds {dataset.dtype}, not numbers")
    file = dataset.file  # closed by h5py after the last reference to it

    def read():
        with _translate_errors():
            return np.asarray(file[dataset.name])

    return LazyArray(dataset.shape, dataset.dtype, read)


@contextmanager
def _translate_errors():
    """Raises the errors of h5py for a damaged file as `ValueError`, in one line."""
    try:
        yield
    except H5PY_ERRORS as error:
        raise ValueError(error_message(error)) from error


def _split_number(key):
    """Splits `conv2d_12` into (`conv2d`, 12), so that 12 comes after 2."""
    stem, _, number = key.rpartition("_")
    return (stem, int(number)) if stem and number.isdecimal() else (key, 0)


def _decode_name(name):
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)
