"""The messages of the processes of a run: a kind, a length, and that many bytes."""

from __future__ import annotations

import contextlib
import struct

HELLO, WELCOME, REFUSED, STRANGER, DATA, FAILED, BYE = b"HWRSDFB"
LONGEST = 2**18  # bytes of a greeting
HEAD = struct.Struct(">BQ")


def send(peer, kind, content=b""):
    """Sends a message, of one of the kinds above; to nobody, if the other one is gone."""
    with contextlib.suppress(OSError):  # who is gone is noticed by the one that listens
        peer.sendall(HEAD.pack(kind, len(content)))
        peer.sendall(content)


def receive(peer, most=None):
    """Returns the kind and the content of a message; raises `OSError` where there is none."""
    kind, length = HEAD.unpack(_read(peer, HEAD.size))
    if most and length > most:
        raise OSError("this is not one of us")
    return kind, _read(peer, length)


def _read(peer, length):
    content = bytearray(length)
    view, got = memoryview(content), 0
    while got < length:
        some = peer.recv_into(view[got:])
        if not some:
            raise OSError("the connection ended")
        got += some
    return bytes(content)
