"""Reads PyTorch's `.pth` and `.bin` files without PyTorch; no code in them is executed.

Such a file has a pickle of a dict of tensors (see `zoo.weights.restricted_unpickler`) and the bytes
of their storages, of which tensors are views. Since PyTorch 1.6 it is a zip archive with a member
per storage; before, the storages follow the pickle.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

from zoo import zip_archives
from zoo.lazy import np
from zoo.weights import restricted_unpickler
from zoo.weights.safetensors import bfloat16_to_float32

STORAGES = {  # NumPy dtype of each class of storage
    "torch.FloatStorage": "<f4",
    "torch.DoubleStorage": "<f8",
    "torch.HalfStorage": "<f2",
    "torch.BFloat16Storage": "<u2",  # converted to float32 by `Storage.vector`
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "?",
}
ALLOWED_GLOBALS = {  # functions and classes that a pickle may name, and our replacements
    **dict.fromkeys(STORAGES),
    "collections.OrderedDict": restricted_unpickler.make_dict,
    "torch._utils._rebuild_tensor": lambda *view: Tensor(*view),
    "torch._utils._rebuild_tensor_v2": lambda *view: Tensor(*view[:4]),
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
    "torch.Size": lambda sides=(): tuple(sides),
    "torch.device": lambda *_: None,
}
# Keys of the state dict in a checkpoint. Averaged weights come first: published metrics are theirs.
STATE_DICT_KEYS = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict")
MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # the first pickle of an old file
MAX_DIMS = 16  # of a tensor
ZIP_START = b"PK\x03\x04"  # first bytes of a zip archive


def read(path):
    """Returns the tensors of a state dict by name, in the order of the file; bfloat16 as float32.

    In a checkpoint the state dict may be under one of `STATE_DICT_KEYS`. Values that are not
    tensors are skipped.

    Raises:
        ValueError: the file holds no state dict, is truncated, or needs code to be executed.
    """
    with Path(path).open("rb") as file:
        # A truncated archive has lost the directory at its end, which `is_zipfile` searches for.
        is_zip = file.read(len(ZIP_START)) == ZIP_START or zipfile.is_zipfile(file)
        file.seek(0)
        content, vector = _read_zip(path) if is_zip else _read_legacy(io.BytesIO(file.read()))
        tensors = {
            name: value.array(vector)
            for name, value in _state_dict(content).items()
            if isinstance(name, str) and isinstance(value, Tensor)
        }
    if not tensors:
        raise ValueError(
            "it holds no tensors by name; save them with torch.save(model.state_dict(), FILE)"
        )
    return tensors


@dataclass(frozen=True)
class Storage:
    """A vector of numbers in the file.

    Attributes:
        kind: a key of `STORAGES`.
        key: its name in the file.
        length: number of elements.
    """

    kind: str
    key: str
    length: int

    @property
    def size(self):
        """Size in bytes."""
        return self.length * np.dtype(STORAGES[self.kind]).itemsize

    def vector(self, data):
        """Returns the elements as an array, from the bytes of the storage."""
        if self.length < 0 or len(data) < self.size:
            raise ValueError(
                f"storage {self.key} has {len(data):,} bytes, fewer than its length {self.length:,}"
            )
        array = np.frombuffer(data, STORAGES[self.kind], self.length)
        return bfloat16_to_float32(array) if self.kind == "torch.BFloat16Storage" else array


@dataclass(frozen=True)
class Tensor:
    """A view of a storage: offset, sizes and strides in elements, as in PyTorch."""

    storage: Storage
    offset: int
    sizes: tuple
    strides: tuple

    def array(self, vector):
        """Returns the tensor as a view of the array `vector(storage)`.

        Raises:
            ValueError: the shape is invalid, or exceeds the storage.
        """
        if not isinstance(self.storage, Storage) or not self._is_shaped():
            raise ValueError("a tensor has no storage, or different numbers of strides and sizes")
        numbers = [self.offset, *self.sizes, *self.strides]
        if not all(type(n) is int and n >= 0 for n in numbers):
            raise ValueError("a tensor has an invalid offset, size or stride")
        count = math.prod(self.sizes)
        pairs = zip(self.sizes, self.strides, strict=True)
        last = self.offset + sum((size - 1) * stride for size, stride in pairs)
        if count > self.storage.length or (count and last >= self.storage.length):
            raise ValueError(
                f"a tensor of {'x'.join(map(str, self.sizes))} exceeds its storage of "
                f"{self.storage.length} elements"
            )
        flat = vector(self.storage)
        if not count:
            return np.zeros(self.sizes, flat.dtype)
        strides = [stride * flat.itemsize for stride in self.strides]
        return np.ndarray(self.sizes, flat.dtype, flat, self.offset * flat.itemsize, strides)

    def _is_shaped(self):
        shape = self.sizes, self.strides
        return all(type(x) in (tuple, list) and len(x) <= MAX_DIMS for x in shape) and (
            len(self.sizes) == len(self.strides)
        )


def _read_zip(path):
    """Returns the unpickled content of a file of PyTorch 1.6 or later, and a function from a
    `Storage` to its array."""
    archive = zip_archives.open_zip(path, None)  # `member` refuses compressed members
    entries = {entry.filename: entry for entry in archive.infolist()}
    roots = [name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl")]
    if not roots:
        raise ValueError("the archive has no data.pkl, so it is not a PyTorch file")

    def member(name):
        entry = entries.get(roots[0] + name)
        if entry is None or entry.compress_type or entry.file_size != entry.compress_size:
            raise ValueError(f"{roots[0]}{name} is missing or compressed")
        return zip_archives.read_member(archive, entry.filename)

    if f"{roots[0]}byteorder" in entries and member("byteorder") != b"little":
        raise ValueError("it is big-endian, which is not supported")
    vectors = {}

    def vector(storage):
        if storage not in vectors:
            vectors[storage] = storage.vector(member(f"data/{storage.key}"))
        return vectors[storage]

    return restricted_unpickler.load(
        io.BytesIO(member("data.pkl")), ALLOWED_GLOBALS, _storage
    ), vector


def _read_legacy(file):
    """Returns the unpickled content of a file of PyTorch before 1.6, and a function from a
    `Storage` to its array."""
    storages = {}

    def persistent_load(persistent_id):
        storage = _storage(persistent_id)
        return storages.setdefault(storage.key, storage)

    magic, _, system, content, keys = (
        restricted_unpickler.load(file, ALLOWED_GLOBALS, persistent_load) for _ in range(5)
    )
    if type(magic) is not int or magic != MAGIC_NUMBER:
        raise ValueError("it is neither an archive nor a PyTorch file of the older format")
    if type(system) is not dict or not system.get("little_endian", True):
        raise ValueError("it is big-endian, which is not supported")
    if type(keys) is not list or not all(type(key) is str and key in storages for key in keys):
        raise ValueError("it lists storages that no tensor uses")
    data, vectors = file.getbuffer()[file.tell() :], {}
    for key in keys:
        if len(data) < 8:
            raise ValueError(f"storage {key} is missing: the file is truncated")
        (length,) = struct.unpack("<q", data[:8])
        if length != storages[key].length:
            raise ValueError(
                f"storage {key} has the length {length}, its tensors {storages[key].length}"
            )
        vectors[key] = storages[key].vector(data[8 : 8 + storages[key].size])
        data = data[8 + storages[key].size :]

    def vector(storage):
        if storage.key not in vectors:
            raise ValueError(f"storage {storage.key} is missing")
        return vectors[storage.key]

    return content, vector


def _storage(persistent_id):
    """Returns the storage that a persistent id describes."""
    if type(persistent_id) is not tuple or len(persistent_id) < 5:
        raise ValueError("it has a persistent id that is not a storage")
    tag, kind, key, _, length, *view = persistent_id
    named = isinstance(kind, restricted_unpickler.GlobalName) and kind.full in STORAGES
    if tag != "storage" or not named:
        raise ValueError("it has a persistent id that is not a storage")
    if type(key) is not str or type(length) is not int or length < 0 or any(view):
        raise ValueError("it has a storage of an unknown form")
    return Storage(kind.full, key, length)


def _state_dict(content):
    """Returns the state dict in the content of a file; `{}` if there is none."""
    for _ in STATE_DICT_KEYS:
        inner = (content.get(key) for key in STATE_DICT_KEYS) if isinstance(content, dict) else ()
        content = next((value for value in inner if isinstance(value, dict)), content)
    return content if isinstance(content, dict) else {}
