"""Reads untrusted zip archives: the sizes of their members are checked first."""

from __future__ import annotations

import lzma
import os
import struct
import zipfile
import zlib

MAX_EXPANSION = 20  # uncompressed bytes per stored byte; arrays of floats hardly compress
ALLOWED_OVERHEAD = 1 << 20  # bytes that are always allowed, for instance for repetitive JSON
ZIP_ERRORS = (  # raised by `zipfile` for a damaged, encrypted or invalid archive
    *(zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(OSError, EOFError, KeyError, RuntimeError, NotImplementedError, ValueError, OverflowError),
)


def open_zip(path, expansion=MAX_EXPANSION):
    """Opens an archive after checking that it is not a decompression bomb.

    Args:
        path: the file.
        expansion: uncompressed bytes that a member may have per stored byte; `None` for no limit.

    Returns:
        A `zipfile.ZipFile`, to be closed by the caller.

    Raises:
        ValueError: it is not a zip archive, is truncated, or holds a decompression bomb.
    """
    try:
        size = os.stat(path).st_size
        archive = zipfile.ZipFile(path)
    except ZIP_ERRORS as error:
        raise ValueError(f"it is not a complete zip archive ({error_message(error)})") from error
    entries = archive.infolist()
    worst = max(entries, key=lambda entry: entry.file_size, default=None)
    if sum(entry.compress_size for entry in entries) > size:
        archive.close()
        raise ValueError("the entries of the archive overlap")
    if worst and expansion and worst.file_size > expansion * worst.compress_size + ALLOWED_OVERHEAD:
        archive.close()
        raise ValueError(
            f"{worst.filename} claims {worst.file_size:,} bytes and stores "
            f"{worst.compress_size:,}: a decompression bomb"
        )
    return archive


def read_member(archive, name, size=None):
    """Returns the bytes of a member of an archive.

    Args:
        archive: an archive from `open_zip`.
        name: name of the member.
        size: the largest allowed size in bytes, or `None` for no limit.

    Raises:
        ValueError: there is no such member, or it is larger, damaged, encrypted or compressed by
            an unknown method.
    """
    if name not in archive.NameToInfo:
        raise ValueError(f"the archive has no member {name}")
    if size is not None and archive.getinfo(name).file_size > size:
        raise ValueError(f"{name} claims {archive.getinfo(name).file_size:,} bytes, not {size:,}")
    try:
        return archive.read(name)
    except ZIP_ERRORS as error:
        raise ValueError(f"{name} cannot be unpacked ({error_message(error)})") from error


def error_message(error):
    """Returns the message of an exception in one line; the name of its class if it is empty."""
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    return " ".join(str(text).split()) or type(error).__name__
