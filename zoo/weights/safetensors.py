"""Reads `.safetensors` files: a JSON header, then the bytes of the tensors."""

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
    "BF16": "<u2",  # converted by `bfloat16_to_float32`
    "F32": "<f4",
    "F64": "<f8",
}
MAX_HEADER_BYTES = 100_000_000  # the limit of the format
MAX_DIMS = 32  # of a tensor, the limit of NumPy


def read(path):
    """Returns the tensors of a file by name, bfloat16 ones as float32.

    Raises:
        ValueError: the header is damaged, or does not match the bytes after it.
    """
    with Path(path).open("rb") as file:
        header = _header(file)
        data = file.read()
    tensors, end = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, stop = entry["data_offsets"]
        dtype, count = entry["dtype"], math.prod(entry["shape"])
        if dtype not in DTYPES:
            raise ValueError(f"{name} has the unknown dtype {dtype}")
        size = count * np.dtype(DTYPES[dtype]).itemsize
        if start != end or stop - start != size or stop > len(data):
            raise ValueError(f"{name} has data_offsets that do not match its shape or the file")
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
    """Returns a vector of bfloat16 values, stored as uint16, as float32."""
    return (array.astype("<u4") << 16).view("<f4")


def _header(file):
    """Returns the validated header of a file: name to dtype, shape and offsets."""
    start = file.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    text = file.read(length) if length <= MAX_HEADER_BYTES else b""
    if not text or len(text) < length:
        raise ValueError("the header of the safetensors format is missing or truncated")
    try:
        header = json.loads(text, object_pairs_hook=_reject_duplicates)
    except RecursionError as error:
        raise ValueError("the header is nested too deeply") from error
    if not isinstance(header, dict):
        raise ValueError("the header is not a JSON object")
    header.pop("__metadata__", None)
    for name, entry in header.items():
        if not _is_valid_entry(entry):
            raise ValueError(f"the header has an invalid dtype, shape or offset for {name}")
    return header


def _is_valid_entry(entry):
    """Returns whether an entry of a header has a dtype, shape and offsets of the right types."""
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
