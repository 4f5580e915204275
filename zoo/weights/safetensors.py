"""Files of the safetensors format: a header in JSON, then the bytes of the tensors, and no code."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

from zoo.lazy import np

DTYPES = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "U32": "<u4",
    "I32": "<i4",
    "U64": "<u8",
    "I64": "<i8",
    "F16": "<f2",
    "BF16": "<u2",  # widened by `widened`
    "F32": "<f4",
    "F64": "<f8",
}
MAX_HEADER_BYTES = 100_000_000  # bytes, as the format has it
MAX_DIMS = 32  # of a tensor, as NumPy has it


def read(path):
    """Returns the tensors of a file by name, bfloat16 ones as float32.

    Raises:
        ValueError: the header does not describe just the bytes that follow it.
    """
    with Path(path).open("rb") as file:
        header = _header(file)
        data = file.read()
    tensors, end = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, stop = entry["data_offsets"]
        dtype, count = entry["dtype"], math.prod(entry["shape"])
        if dtype not in DTYPES:
            raise ValueError(f"{name} holds numbers of the unknown kind {dtype}")
        size = count * np.dtype(DTYPES[dtype]).itemsize
        if start != end or stop - start != size or stop > len(data):
            raise ValueError(f"{name} does not lie where the header says")
        array = np.frombuffer(data, DTYPES[dtype], count, start)
        array = bfloat16_to_float32(array) if dtype == "BF16" else array
        tensors[name] = array.reshape(entry["shape"])
        end = stop
    if end != len(data):
        raise ValueError(f"{len(data) - end} bytes belong to no tensor")
    return tensors


def names(path):
    """Returns the names of the tensors of a file, from its header alone.

    Raises:
        ValueError: the header cannot be read.
    """
    with Path(path).open("rb") as file:
        return list(_header(file))


def bfloat16_to_float32(array):
    """Returns the float32 numbers whose upper halves a vector of bfloat16 bits holds."""
    return (array.astype("<u4") << 16).view("<f4")


def _header(file):
    """Reads what a file says of its tensors, with every entry of the right form."""
    start = file.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    text = file.read(length) if length <= MAX_HEADER_BYTES else b""
    if not text or len(text) < length:
        raise ValueError("the header of the safetensors format is missing or cut short")
    try:
        header = json.loads(text, object_pairs_hook=_reject_duplicates)
    except RecursionError as error:
        raise ValueError("the header is nested too deep") from error
    if not isinstance(header, dict):
        raise ValueError("the header is no table")
    header.pop("__metadata__", None)
    for name, entry in header.items():
        if not _is_valid_entry(entry):
            raise ValueError(f"the header gives {name} an impossible shape or place")
    return header


def _is_valid_entry(entry):
    """Tells whether an entry of a header has a kind, a shape and a place, of the right types."""
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str):
        return False
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    if not isinstance(shape, list) or not isinstance(offsets, list):
        return False
    small = len(offsets) == 2 and len(shape) <= MAX_DIMS
    return small and all(type(n) is int and n >= 0 for n in (*shape, *offsets))


def _reject_duplicates(pairs):
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("the header names a tensor twice")
    return found
