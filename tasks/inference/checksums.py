"""A checksum at the end of a file, fast enough to verify whenever the file is opened."""

from __future__ import annotations

import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

CHUNK_BYTES = 1 << 24  # read at once by a thread
TRAILER = struct.Struct("<4sI")  # `MAGIC`, and the CRC-32 of the CRC-32s of the chunks
MAGIC = b"crc\n"


def append_checksum(path, size):
    """Truncates a file to `size` bytes and appends their checksum."""
    with path.open("r+b") as file:
        file.truncate(size)
        file.seek(size)
        file.write(TRAILER.pack(MAGIC, _checksum(path, size)))


def verify_checksum(path):
    """Returns whether a file ends with the checksum of its contents; reads the whole file."""
    size = path.stat().st_size - TRAILER.size
    if size < 0:
        return False
    with path.open("rb") as file:
        file.seek(size)
        return file.read() == TRAILER.pack(MAGIC, _checksum(path, size))


def _checksum(path, size):

    def one(start):
        with path.open("rb") as file:
            file.seek(start)
            return struct.pack("<I", zlib.crc32(file.read(min(CHUNK_BYTES, size - start))))

    with ThreadPoolExecutor() as pool:
        return zlib.crc32(b"".join(pool.map(one, range(0, size, CHUNK_BYTES))))
