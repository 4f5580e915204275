"""PyTorch's `.pth` and `.bin` files, read without PyTorch and without executing anything in them.

Such a file is a pickle (`zoo.weights.restricted_unpickler`) that describes a dict of tensors, and
the bytes of the
vectors of numbers that they are views of: an archive with a file for each, or, before PyTorch 1.6,
one behind the other.
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

STORAGES = {  # what PyTorch calls vectors of numbers
    "torch.FloatStorage": "<f4",
    "torch.DoubleStorage": "<f8",
    "torch.HalfStorage": "<f2",
    "torch.BFloat16Storage": "<u2",  # widened when it is read
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "?",
}
ALLOWED_GLOBALS = {  # what the pickle may ask for, and what it gets
    **dict.fromkeys(STORAGES),
    "collections.OrderedDict": restricted_unpickler.make_dict,
    "torch._utils._rebuild_tensor": lambda *view: Tensor(*view),
    "torch._utils._rebuild_tensor_v2": lambda *view: Tensor(*view[:4]),
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
    "torch.Size": lambda sides=(): tuple(sides),
    "torch.device": lambda *_: None,
}
# Where a checkpoint keeps its state dict: averaged weights first, for figures are theirs.
STATE_DICT_KEYS = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict")
MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # the first pickle of an old file
MAX_DIMS = 16  # of a tensor


def read(path):
    """Returns the tensors of a state dict by name, in the order of the file; bfloat16 as float32.

    A checkpoint may hold the dict under one of `WRAPPERS`; what is no tensor is left out.

    Raises:
        ValueError: the file is no state dict, is cut short, or asks for what is no tensor.
    """
    with Path(path).open("rb") as file:
        packed = zipfile.is_zipfile(file)
        file.seek(0)
        content, vector = _read_zip(path) if packed else _read_legacy(io.BytesIO(file.read()))
        tensors = {
            name: value.array(vector)
            for name, value in _state_dict(content).items()
            if isinstance(name, str) and isinstance(value, Tensor)
        }
    if not tensors:
        raise ValueError(
            "it holds no tensors by name, as torch.save(model.state_dict(), FILE) does"
        )
    return tensors


@dataclass(frozen=True)
class Storage:
    """A vector of numbers elsewhere in the file: its kind, name there, and length."""

    kind: str
    key: str
    length: int

    @property
    def size(self):
        """Bytes that it takes."""
        return self.length * np.dtype(STORAGES[self.kind]).itemsize

    def vector(self, data):
        """Returns the numbers that bytes hold."""
        if self.length < 0 or len(data) < self.size:
            raise ValueError(f"storage {self.key} is shorter than its tensors say")
        array = np.frombuffer(data, STORAGES[self.kind], self.length)
        return bfloat16_to_float32(array) if self.kind == "torch.BFloat16Storage" else array


@dataclass(frozen=True)
class Tensor:
    """A view of a storage: its beginning, sizes and strides, in elements."""

    storage: Storage
    offset: int
    sizes: tuple
    strides: tuple

    def array(self, vector):
        """Returns the tensor as an array over `vector(storage)`, if it lies within it."""
        if not isinstance(self.storage, Storage) or not self._is_shaped():
            raise ValueError("a tensor has no storage, or not as many strides as sizes")
        numbers = [self.offset, *self.sizes, *self.strides]
        if not all(type(n) is int and n >= 0 for n in numbers):
            raise ValueError("a tensor has an impossible shape")
        count = math.prod(self.sizes)
        pairs = zip(self.sizes, self.strides, strict=True)
        last = self.offset + sum((size - 1) * stride for size, stride in pairs)
        if count > self.storage.length or (count and last >= self.storage.length):
            raise ValueError(
                f"a tensor of {'x'.join(map(str, self.sizes))} goes beyond its storage of "
                f"{self.storage.length} numbers"
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
    """Returns the content of a file of PyTorch 1.6 or later, and what finds a storage's vector."""
    archive = zip_archives.open_zip(path, None)  # `member` refuses what is packed
    entries = {entry.filename: entry for entry in archive.infolist()}
    roots = [name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl")]
    if not roots:
        raise ValueError("an archive without data.pkl is no file of PyTorch")

    def member(name):
        entry = entries.get(roots[0] + name)
        if entry is None or entry.compress_type or entry.file_size != entry.compress_size:
            raise ValueError(f"{roots[0]}{name} is missing or packed, as PyTorch leaves none")
        return zip_archives.read_member(archive, entry.filename)

    if f"{roots[0]}byteorder" in entries and member("byteorder") != b"little":
        raise ValueError("its numbers are big-endian")
    vectors = {}

    def vector(storage):
        if storage not in vectors:
            vectors[storage] = storage.vector(member(f"data/{storage.key}"))
        return vectors[storage]

    return restricted_unpickler.load(
        io.BytesIO(member("data.pkl")), ALLOWED_GLOBALS, _storage
    ), vector


def _read_legacy(file):
    """Returns the content of a file of an older PyTorch, and what finds a storage's vector."""
    storages = {}

    def persistent_load(persistent_id):
        storage = _storage(persistent_id)
        return storages.setdefault(storage.key, storage)

    magic, _, system, content, keys = (
        restricted_unpickler.load(file, ALLOWED_GLOBALS, persistent_load) for _ in range(5)
    )
    if type(magic) is not int or magic != MAGIC_NUMBER:
        raise ValueError("neither an archive nor an older file of PyTorch")
    if type(system) is not dict or not system.get("little_endian", True):
        raise ValueError("its numbers are big-endian")
    if type(keys) is not list or not all(type(key) is str and key in storages for key in keys):
        raise ValueError("it lists storages that no tensor has")
    data, vectors = file.getbuffer()[file.tell() :], {}
    for key in keys:
        (length,) = struct.unpack("<q", data[:8]) if len(data) >= 8 else (None,)
        if length != storages[key].length:
            raise ValueError(f"storage {key} has another length than its tensors say")
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
        raise ValueError("it refers to what is no storage")
    word, kind, key, _, length, *view = persistent_id
    if (
        word != "storage"
        or not isinstance(kind, restricted_unpickler.GlobalName)
        or kind.full not in STORAGES
    ):
        raise ValueError("it refers to what is no storage")
    if type(key) is not str or type(length) is not int or length < 0 or any(view):
        raise ValueError("it refers to a storage in an unknown way")
    return Storage(kind.full, key, length)


def _state_dict(content):
    """Returns the dict of tensors in what a file holds."""
    for _ in STATE_DICT_KEYS:
        inner = (content.get(key) for key in STATE_DICT_KEYS) if isinstance(content, dict) else ()
        content = next((value for value in inner if isinstance(value, dict)), content)
    return content if isinstance(content, dict) else {}
