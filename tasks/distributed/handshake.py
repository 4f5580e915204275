"""Connections to the chief from processes that may belong to no run of ours."""

from __future__ import annotations

import contextlib
import json
import logging
import time

from tasks.distributed import auth_tokens
from tasks.distributed.messages import BAD_TOKEN, HEADER, HELLO, MAX_HANDSHAKE_BYTES, send

HANDSHAKE_FIELDS = {
    "token": str,
    "number": int,
    "count": int,
    "run": dict,
    "port": int,
}  # of a greeting
HANDSHAKE_TIMEOUT_SECONDS = 5.0  # seconds that a connection has for its greeting
MAX_PENDING = 64  # connections at once that have not sent a greeting yet
MAX_LOG_LINES = 20  # lines at most about connections that were closed
log = logging.getLogger("zoo")


class PendingConnections:
    """Connections that have not shown the token yet, each with what it has sent so far.

    None is waited for: what each sends is taken as it comes, and who says nothing is dropped.
    """

    def __init__(self, count, token):
        self.count, self.token, self.pending, self.logged = count, token, {}, set()

    def greetings(self, ready, listener):
        """Takes what sockets that are `ready` have for us; yields each connection that has shown
        the token, with its greeting."""
        for peer in [peer for peer in self.pending if peer in ready]:
            if greeting := self._receive_greeting(peer):
                yield peer, greeting
        now = time.monotonic()
        late = [peer for peer, (until, *_) in self.pending.items() if until < now]
        for peer in late:
            self._drop(peer, "it sent no greeting")
        if listener in ready:
            with contextlib.suppress(OSError):  # it has gone again
                peer, address = listener.accept()
                peer.setblocking(False)
                self.pending[peer] = now + HANDSHAKE_TIMEOUT_SECONDS, bytearray(), address[0]
        if len(self.pending) > MAX_PENDING:
            self._drop(next(iter(self.pending)), "there are too many connections")

    def close(self):
        """Closes all connections."""
        for peer in self.pending:
            peer.close()

    def _receive_greeting(self, peer):
        """Returns the greeting of a connection, `None` if it is none or not complete."""
        _, content, _ = self.pending[peer]
        try:
            received = peer.recv(MAX_HANDSHAKE_BYTES)
        except OSError:
            received = b""
        content += received
        if not received or len(content) > MAX_HANDSHAKE_BYTES:
            return self._drop(peer, "it sent no greeting")
        if len(content) < HEADER.size:
            return None
        kind, length = HEADER.unpack(content[: HEADER.size])
        if kind != HELLO or length > MAX_HANDSHAKE_BYTES:
            return self._drop(peer, "it sent no greeting")
        if len(content) < HEADER.size + length:
            return None
        greeting = _parse_handshake(content[HEADER.size :])
        if not greeting or not auth_tokens.tokens_match(greeting["token"], self.token):
            send(peer, BAD_TOKEN)
            return self._drop(peer, "it lacks the token of this run")
        if not 0 < greeting["number"] < max(self.count, greeting["count"]):
            return self._drop(peer, "its number is that of no worker")
        self.pending.pop(peer)
        peer.setblocking(True)
        return greeting

    def _drop(self, peer, reason):
        """Closes a connection; says so once for each host and reason."""
        *_, host = self.pending.pop(peer)
        peer.close()
        line = f"a connection from {host} was closed: {reason}"
        if line not in self.logged and len(self.logged) < MAX_LOG_LINES:
            self.logged.add(line)
            log.warning(line)


def _parse_handshake(content):
    """Returns a greeting, a dict of fields of the right types, or `None` if it is none."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    right = isinstance(found, dict) and all(
        type(found.get(k)) is t for k, t in HANDSHAKE_FIELDS.items()
    )
    return found if right and 0 < found["port"] < 2**16 else None
