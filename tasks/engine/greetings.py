"""Connections to the chief from processes that may belong to no run of ours."""

from __future__ import annotations

import contextlib
import json
import logging
import time

from tasks.engine import tokens
from tasks.engine.messages import HEAD, HELLO, LONGEST, STRANGER, send

FIELDS = {"token": str, "number": int, "count": int, "run": dict, "port": int}  # of a greeting
GREETING = 5.0  # seconds that a connection has for its greeting
MOST = 64  # connections at once that have not sent a greeting yet
LOGGED = 20  # lines at most about connections that were closed
log = logging.getLogger("zoo")


class Strangers:
    """Connections that have not shown the token yet, each with what it has sent so far.

    None is waited for: what each sends is taken as it comes, and who says nothing is dropped.
    """

    def __init__(self, count, token):
        self.count, self.token, self.pending, self.logged = count, token, {}, set()

    def greetings(self, ready, door):
        """Takes what sockets that are `ready` have for us; yields each connection that has shown
        the token, with its greeting."""
        for peer in [peer for peer in self.pending if peer in ready]:
            if theirs := self._heard(peer):
                yield peer, theirs
        now = time.monotonic()
        late = [peer for peer, (until, *_) in self.pending.items() if until < now]
        for peer in late:
            self._drop(peer, "it sent no greeting")
        if door in ready:
            with contextlib.suppress(OSError):  # it has gone again
                peer, address = door.accept()
                peer.setblocking(False)
                self.pending[peer] = now + GREETING, bytearray(), address[0]
        if len(self.pending) > MOST:
            self._drop(next(iter(self.pending)), "there are too many connections")

    def close(self):
        """Closes all connections."""
        for peer in self.pending:
            peer.close()

    def _heard(self, peer):
        """Returns the greeting of a connection, `None` if it is none or not complete."""
        _, content, _ = self.pending[peer]
        try:
            some = peer.recv(LONGEST)
        except OSError:
            some = b""
        content += some
        if not some or len(content) > LONGEST:
            return self._drop(peer, "it sent no greeting")
        if len(content) < HEAD.size:
            return None
        kind, length = HEAD.unpack(content[: HEAD.size])
        if kind != HELLO or length > LONGEST:
            return self._drop(peer, "it sent no greeting")
        if len(content) < HEAD.size + length:
            return None
        theirs = _parsed(content[HEAD.size :])
        if not theirs or not tokens.same(theirs["token"], self.token):
            send(peer, STRANGER)
            return self._drop(peer, "it lacks the token of this run")
        if not 0 < theirs["number"] < max(self.count, theirs["count"]):
            return self._drop(peer, "its number is that of no worker")
        self.pending.pop(peer)
        peer.setblocking(True)
        return theirs

    def _drop(self, peer, reason):
        """Closes a connection; says so once for each host and reason."""
        *_, host = self.pending.pop(peer)
        peer.close()
        line = f"a connection from {host} was closed: {reason}"
        if line not in self.logged and len(self.logged) < LOGGED:
            self.logged.add(line)
            log.warning(line)


def _parsed(content):
    """Returns a greeting, a dict of fields of the right types, or `None` if it is none."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    right = isinstance(found, dict) and all(type(found.get(k)) is t for k, t in FIELDS.items())
    return found if right and 0 < found["port"] < 2**16 else None
