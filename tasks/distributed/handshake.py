"""Handshakes: connections to the chief that have not authenticated yet."""

from __future__ import annotations

import contextlib
import json
import logging
import time

from tasks.distributed import auth_tokens
from tasks.distributed.messages import BAD_TOKEN, HEADER, HELLO, MAX_HANDSHAKE_BYTES, send

HANDSHAKE_FIELDS = {"token": str, "number": int, "count": int, "run": dict, "port": int}
HANDSHAKE_TIMEOUT_SECONDS = 5.0
MAX_PENDING = 64  # connections without a complete handshake
MAX_LOG_LINES = 20  # about connections that were closed
log = logging.getLogger("zoo")


class PendingConnections:
    """Connections without a complete handshake, each with what it has sent so far.

    No connection blocks the others: data are read as they arrive, and silent connections closed.
    """

    def __init__(self, count, token):
        self.count, self.token, self.pending, self.logged = count, token, {}, set()

    def handshakes(self, ready, listener):
        """Reads from the sockets that are `ready`; yields each connection that has sent the token,
        with its handshake."""
        for peer in [peer for peer in self.pending if peer in ready]:
            if received_handshake := self._receive_handshake(peer):
                yield peer, received_handshake
        now = time.monotonic()
        late = [peer for peer, (until, *_) in self.pending.items() if until < now]
        for peer in late:
            self._drop(peer, "it sent no handshake")
        if listener in ready:
            with contextlib.suppress(OSError):  # it was closed again
                peer, address = listener.accept()
                peer.setblocking(False)
                self.pending[peer] = now + HANDSHAKE_TIMEOUT_SECONDS, bytearray(), address[0]
        if len(self.pending) > MAX_PENDING:
            self._drop(next(iter(self.pending)), "there are too many connections")

    def close(self):
        """Closes all connections."""
        for peer in self.pending:
            peer.close()

    def _receive_handshake(self, peer):
        """Returns the handshake of a connection, or `None` if it is wrong or incomplete."""
        _, content, _ = self.pending[peer]
        try:
            received = peer.recv(MAX_HANDSHAKE_BYTES)
        except OSError:
            received = b""
        content += received
        if not received or len(content) > MAX_HANDSHAKE_BYTES:
            return self._drop(peer, "it sent no handshake")
        if len(content) < HEADER.size:
            return None
        kind, length = HEADER.unpack(content[: HEADER.size])
        if kind != HELLO or length > MAX_HANDSHAKE_BYTES:
            return self._drop(peer, "it sent no handshake")
        if len(content) < HEADER.size + length:
            return None
        received_handshake = _parse_handshake(content[HEADER.size :])
        if not received_handshake or not auth_tokens.tokens_match(
            received_handshake["token"], self.token
        ):
            send(peer, BAD_TOKEN)
            return self._drop(peer, "it lacks the token of this run")
        if not 0 < received_handshake["number"] < max(self.count, received_handshake["count"]):
            return self._drop(peer, "its worker number is out of range")
        self.pending.pop(peer)
        peer.setblocking(True)
        return received_handshake

    def _drop(self, peer, reason):
        """Closes a connection, with one warning per host and reason."""
        *_, host = self.pending.pop(peer)
        peer.close()
        line = f"a connection from {host} was closed: {reason}"
        if line not in self.logged and len(self.logged) < MAX_LOG_LINES:
            self.logged.add(line)
            log.warning(line)


def _parse_handshake(content):
    """Returns a handshake, a dict of fields of the right types, or `None` if it is malformed."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    right = isinstance(found, dict) and all(
        type(found.get(k)) is t for k, t in HANDSHAKE_FIELDS.items()
    )
    return found if right and 0 < found["port"] < 2**16 else None
