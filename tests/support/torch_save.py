"""An implementation of `torch.save`, so that tests do not need PyTorch."""

from __future__ import annotations

import collections
import contextlib
import io
import pickle
import struct
import sys
import types
import zipfile

import numpy as np

KINDS = {"f4": "Float", "f8": "Double", "f2": "Half", "i8": "Long", "u1": "Byte", "b1": "Bool"}


class Storage:
    def __init__(self, array, kind=None, length=None):
        self.array = np.ascontiguousarray(array).ravel()
        self.kind = kind or KINDS[self.array.dtype.str[1:]]
        self.length = self.array.size if length is None else length


class Tensor:
    def __init__(self, storage, sizes, strides=None, offset=0, parameter=False):
        if strides is None:
            strides = [int(np.prod(sizes[index + 1 :])) for index in range(len(sizes))]
        self.parameter = parameter
        self.view = (
            storage,
            offset,
            tuple(sizes),
            tuple(strides),
            False,
            collections.OrderedDict(),
        )

    def __reduce__(self):
        utils = sys.modules["torch._utils"]
        if self.parameter:
            plain = Tensor(self.view[0], self.view[2], self.view[3], self.view[1])
            return utils._rebuild_parameter, (plain, True, collections.OrderedDict())
        return utils._rebuild_tensor_v2, self.view


@contextlib.contextmanager
def names_of_torch():
    """Provides the modules that `pickle` looks names up in when it writes them."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for kind in (*KINDS.values(), "BFloat16"):
        setattr(torch, f"{kind}Storage", type(f"{kind}Storage", (), {"__module__": "torch"}))
    for name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
        function = types.FunctionType((lambda *_: None).__code__, {}, name)
        function.__module__, function.__qualname__ = "torch._utils", name
        setattr(utils, name, function)
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        yield torch
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module:
                sys.modules[name] = module


def pickled(content, protocol=2):
    """Returns the pickle of a checkpoint and its storages in order."""
    storages, out = [], io.BytesIO()

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            if not isinstance(thing, Storage):
                return None
            if thing not in storages:
                storages.append(thing)
            kind = getattr(sys.modules["torch"], f"{thing.kind}Storage")
            return "storage", kind, str(storages.index(thing)), "cpu", thing.length, *extra

    extra = ()
    with names_of_torch():
        Pickler(out, protocol).dump(content)
    return out.getvalue(), storages


def save_zip(content, path, protocol=2, pack=zipfile.ZIP_STORED):
    program, storages = content if isinstance(content, tuple) else pickled(content, protocol)
    with zipfile.ZipFile(path, "w", pack) as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/byteorder", "little")
        for index, storage in enumerate(storages):
            archive.writestr(f"archive/data/{index}", storage.array.tobytes())
        archive.writestr("archive/version", "3\n")


def save_legacy(content, path, protocol=2):
    program, storages = content if isinstance(content, tuple) else pickled(content, protocol)
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
    with path.open("wb") as file:
        for value in (0x1950A86A20F9469CFC6C, 1001, system):
            pickle.dump(value, file, 2)
        file.write(program)
        pickle.dump([str(index) for index in range(len(storages))], file, 2)
        for storage in storages:
            file.write(struct.pack("<q", storage.array.size) + storage.array.tobytes())


SAVE = {"zip": save_zip, "legacy": save_legacy}


def tensor(array, **options):
    return Tensor(Storage(array), np.shape(array), **options)
