"""How the processes of a run meet, and the messages that they send each other.

The chief opens a door at a port that all know. Each of the others knocks until it is let in, says
who it is and which port its TensorFlow will have, and waits. When all are there, they are told
where everybody is. A chief that is still busy with a run in which somebody was killed has no such
door; it ends, and its successor has one.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import struct
import time

from zoo.errors import UsageError

HELLO, WELCOME, REFUSED, DATA, FAILED, BYE = b"HWRDFB"
TRY_EVERY = 0.3  # seconds between two attempts to reach the chief
PATIENT = 10.0  # seconds that the others wait longer than the chief, who knows who is missing
_HEAD = struct.Struct(">BQ")
_NOT_OURS = 2**20  # bytes that no greeting has


def free_port():
    """Returns a port that nobody uses."""
    with socket.socket() as asked:
        asked.bind(("", 0))
        return asked.getsockname()[1]


def split(address):
    """Returns the host and the port of `host:port`."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def welcome(place, hello, wait):
    """Waits, as the chief, for all; returns the connections by number, and all addresses."""
    deadline, known, missing = time.monotonic() + wait, {}, list(range(1, hello["count"]))
    with socket.create_server(("", split(place.workers[0])[1])) as door:
        while missing:
            left = deadline - time.monotonic()
            if left <= 0:
                names = ", ".join(f"worker {n} ({place.workers[n]})" for n in missing)
                _refuse(known, f"{names} did not come within {wait:g} s")
            ready, *_ = select.select([door, *(peer for peer, _ in known.values())], [], [], left)
            # Those who wait say nothing: if there is something to read, it is their end.
            for number in [n for n, each in known.items() if each[0] in ready]:
                known.pop(number)[0].close()
            if door in ready:
                _let_in(door, hello, known)
            missing = [n for n in range(1, hello["count"]) if n not in known]
    ports = [hello["port"], *(port for _, (_, port) in sorted(known.items()))]
    hosts = [split(worker)[0] for worker in place.workers]
    addresses = [f"{host}:{port}" for host, port in zip(hosts, ports, strict=True)]
    for peer, _ in known.values():
        send(peer, WELCOME, json.dumps(addresses).encode())
    return {number: peer for number, (peer, _) in known.items()}, addresses


def _let_in(door, hello, known):
    """Takes up one who knocks."""
    peer, _ = door.accept()
    peer.settimeout(TRY_EVERY * 10)
    try:
        kind, content = receive(peer, _NOT_OURS)
        if kind != HELLO:
            raise OSError
        theirs = json.loads(content)
        number = theirs["number"]
    except (OSError, ValueError, KeyError):
        peer.close()
        return
    peer.settimeout(None)
    _tuned(peer)
    for key, what in (("count", "count of workers"), ("run", "run")):
        if theirs[key] != hello[key]:
            words = f"worker {number} has another {what}: {_difference(theirs[key], hello[key])}"
            _refuse({**known, number: (peer, 0)}, words)
    if number in known:  # it was started again
        known.pop(number)[0].close()
    known[number] = peer, theirs["port"]


def _difference(one, other):
    """Says where two things differ that should not."""
    if not isinstance(one, dict):
        return f"{one}, not {other}"
    key = next(key for key in {**other, **one} if one.get(key) != other.get(key))
    return f"{key} is {one.get(key)!r} there and {other.get(key)!r} at worker 0"


def _refuse(known, words):
    for peer, _ in known.values():
        send(peer, REFUSED, words.encode())
        peer.close()
    raise UsageError(f"{words}; start all workers with the same command, or name fewer")


def join(place, hello, wait):
    """Goes to the chief; returns the connection to it, and all addresses."""
    deadline = time.monotonic() + wait
    while time.monotonic() < deadline:
        peer, kind, content = _asked(split(place.workers[0]), hello, deadline)
        if kind == WELCOME:
            return {0: peer}, json.loads(content)
        if peer:
            peer.close()
        if kind == REFUSED:
            raise UsageError(content.decode())
        time.sleep(TRY_EVERY)
    raise UsageError(
        f"worker 0 ({place.workers[0]}) did not come within {wait:g} s; start all workers, and see "
        "that this machine reaches that address"
    )


def _asked(address, hello, deadline):
    """Knocks at an address; returns connection, kind and content of the answer, or `None`s."""
    peer = None
    try:
        peer = socket.create_connection(address, timeout=TRY_EVERY * 10)
        _tuned(peer)
        send(peer, HELLO, json.dumps(hello).encode())
        # The chief gives up first: it knows who is missing.
        peer.settimeout(max(0.0, deadline - time.monotonic()) + PATIENT)
        answer = receive(peer, _NOT_OURS)
        peer.settimeout(None)
        return peer, *answer
    except OSError:
        return peer, None, b""


def _tuned(peer):
    """Lets a connection send at once, and notice within a minute that a machine is off."""
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def send(peer, kind, content=b""):
    """Sends a message, of one of the kinds above; to nobody, if the other one is gone."""
    with contextlib.suppress(OSError):  # who is gone is noticed by the one that listens
        peer.sendall(_HEAD.pack(kind, len(content)))
        peer.sendall(content)


def receive(peer, most=None):
    """Returns the kind and the content of a message; raises `OSError` where there is none."""
    kind, length = _HEAD.unpack(_read(peer, _HEAD.size))
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
