"""Zip archives from elsewhere, read only where their sizes are plausible."""

from __future__ import annotations

import lzma
import os
import struct
import zipfile
import zlib

MAX_EXPANSION = 20  # bytes unpacked per byte stored; those of numbers hardly shrink at all
ALLOWED_OVERHEAD = 1 << 20  # bytes that a member may have in any case, such as repetitive JSON
ZIP_ERRORS = (  # what `zipfile` raises for a damaged, encrypted or foreign archive
    *(zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(OSError, EOFError, KeyError, RuntimeError, NotImplementedError, ValueError, OverflowError),
)


def open_zip(path, expansion=MAX_EXPANSION):
    """Opens an archive whose members are not much larger than what is stored of them.

    Args:
        path: the file.
        expansion: bytes that a member may have per byte stored; `None` for any number.

    Returns:
        A `zipfile.ZipFile`, to be closed by the caller.

    Raises:
        ValueError: it is not a zip archive, is cut short, or holds a decompression bomb.
    """
    try:
        size = os.stat(path).st_size
        archive = zipfile.ZipFile(path)
    except ZIP_ERRORS as error:
        raise ValueError(f"it is not a whole zip archive ({error_message(error)})") from error
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
        archive: what `opened` returned.
        name: of the member.
        size: bytes that it may have, if that is known.

    Raises:
        ValueError: there is none of that name, or it is larger, damaged, encrypted or packed in
            an unknown way.
    """
    if name not in archive.NameToInfo:
        raise ValueError(f"the archive holds no {name}")
    if size is not None and archive.getinfo(name).file_size > size:
        raise ValueError(f"{name} claims {archive.getinfo(name).file_size:,} bytes, not {size:,}")
    try:
        return archive.read(name)
    except ZIP_ERRORS as error:
        raise ValueError(f"{name} cannot be unpacked ({error_message(error)})") from error


def error_message(error):
    """Returns the message of an exception in one line, or its class if it has none."""
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    return " ".join(str(text).split()) or type(error).__name__
