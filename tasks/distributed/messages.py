"""The messages of the processes of a run: a kind, a length, and that many bytes."""

from __future__ import annotations

import contextlib
import struct

HELLO, WELCOME, REFUSED, BAD_TOKEN, DATA, FAILED, BYE = b"HWRSDFB"
MAX_HANDSHAKE_BYTES = 2**18  # bytes of a greeting
HEADER = struct.Struct(">BQ")


def send(peer, kind, content=b""):
    """Sends a message, of one of the kinds above; to nobody, if the other one is gone."""
    with contextlib.suppress(OSError):  # who is gone is noticed by the one that listens
        peer.sendall(HEADER.pack(kind, len(content)))
        peer.sendall(content)


def receive(peer, max_length=None):
    """Returns the kind and the content of a message; raises `OSError` where there is none."""
    kind, length = HEADER.unpack(_read(peer, HEADER.size))
    if max_length and length > max_length:
        raise OSError("this is not one of us")
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
