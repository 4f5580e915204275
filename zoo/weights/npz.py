"""Reads NumPy's `.npz` files: shapes at once, values on demand, no pickled objects."""

from __future__ import annotations

import io
import math
import tokenize

from zoo import zip_archives
from zoo.lazy import np
from zoo.npy_headers import read_header
from zoo.weights.hdf5 import NUMERIC_KINDS, LazyArray

SUFFIX = ".npy"
MAX_HEADER_BYTES = 1 << 12  # of an array, with some reserve


def read(path):
    """Returns the arrays of a file by name, each a `LazyArray`, in the order of the file.

    Raises:
        ValueError: the file is damaged, or holds Python objects.
    """
    archive = zip_archives.open_zip(path, None)  # `load` below limits the size of each array
    names = [name for name in archive.namelist() if name.endswith(SUFFIX)]
    return {name.removesuffix(SUFFIX): _array(archive, name) for name in names}


def _array(archive, name):
    try:
        with archive.open(name) as member:
            shape, order, dtype = read_header(io.BytesIO(member.read(MAX_HEADER_BYTES)))
    except (*zip_archives.ZIP_ERRORS, SyntaxError, tokenize.TokenError) as error:
        raise ValueError(f"{name} is damaged ({zip_archives.error_message(error)})") from error
    if dtype.kind not in NUMERIC_KINDS:
        raise ValueError(f"{name} holds {dtype}, not numbers")

    def load():
        size = math.prod(shape) * dtype.itemsize
        member = io.BytesIO(zip_archives.read_member(archive, name, size + MAX_HEADER_BYTES))
        read_header(member)
        data = member.read()
        if len(data) != size:
            raise ValueError(f"{name} holds {len(data):,} bytes, its shape needs {size:,}")
        return np.frombuffer(data, dtype).reshape(shape, order=order)

    return LazyArray(shape, dtype, load)
