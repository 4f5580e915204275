"""Messages between the processes of a run: a kind, a length, and the content."""

from __future__ import annotations

import contextlib
import struct

HELLO, ACCEPTED, REFUSED, BAD_TOKEN, DATA, FAILED, BYE = b"HWRSDFB"
MAX_HANDSHAKE_BYTES = 2**18
HEADER = struct.Struct(">BQ")


def send(peer, kind, content=b""):
    """Sends a message of one of the kinds above; errors are ignored."""
    with contextlib.suppress(OSError):  # a lost connection is noticed by the receiving thread
        peer.sendall(HEADER.pack(kind, len(content)))
        peer.sendall(content)


def receive(peer, max_length=None):
    """Returns the kind and the content of a message; raises `OSError` without one."""
    kind, length = HEADER.unpack(_read(peer, HEADER.size))
    if max_length and length > max_length:
        raise OSError("the message is too long")
    return kind, _read(peer, length)


def _read(peer, length):
    content = bytearray(length)
    view, received = memoryview(content), 0
    while received < length:
        count = peer.recv_into(view[received:])
        if not count:
            raise OSError("the connection ended")
        received += count
    return bytes(content)
