"""A checksum behind the content of a file, fast enough to be compared whenever it is opened."""

from __future__ import annotations

import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

CHUNK_BYTES = 1 << 24  # bytes that a thread reads at once
TRAILER = struct.Struct("<4sI")  # behind the content: `MARK`, and the CRC-32 of its chunks' CRC-32s
MAGIC = b"crc\n"


def append_checksum(path, size):
    """Writes the checksum of the first `size` bytes of a file behind them; cuts off the rest."""
    with path.open("r+b") as file:
        file.truncate(size)
        file.seek(size)
        file.write(TRAILER.pack(MAGIC, _checksum(path, size)))


def verify_checksum(path):
    """Tells whether a file ends with the checksum of what stands before it; reads all of it."""
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
