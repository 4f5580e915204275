"""How the processes of a run meet, and the messages that they send each other.

The chief opens a door at a port that all know. Each of the others knocks until it is let in, says
who it is and which port its TensorFlow will have, and waits. When all are there, they are told
where everybody is. A chief that is still busy with a run in which somebody was killed has no such
door; it ends, and its successor has one. Who lacks the token of the run (`tokens`) is not let in.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import select
import socket
import time

from tasks.distributed import auth_tokens, handshake
from tasks.distributed.messages import (
    BAD_TOKEN,
    HELLO,
    MAX_HANDSHAKE_BYTES,
    REFUSED,
    WELCOME,
    receive,
    send,
)
from zoo.errors import UsageError

RETRY_SECONDS = 0.3  # seconds between two attempts to reach the chief
WORKER_EXTRA_WAIT_SECONDS = (
    10.0  # seconds that the others wait longer than the chief, who knows who is missing
)
DNS_TIMEOUT_SECONDS = 30.0  # seconds that the chief's own name has to become known
log = logging.getLogger("zoo")


def free_port():
    """Returns a port that nobody uses."""
    with socket.socket() as sock:
        sock.bind(("", 0))
        return sock.getsockname()[1]


def split_address(address):
    """Returns the host and the port of `host:port`."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def accept_workers(cluster, hello, wait, token):
    """Waits, as the chief, for all; returns the connections by number, and all addresses.

    Nobody who lacks the token can do more than cause a line in the log.

    Args:
        cluster: a `clusters.ClusterConfig`.
        hello: what this process and each of the others has to say.
        wait: seconds to wait.
        token: that the others have to show.

    Raises:
        UsageError: somebody with the token did not come in time, or came with another run.
    """
    deadline, accepted, connections = (
        time.monotonic() + wait,
        {},
        handshake.PendingConnections(hello["count"], token),
    )
    with _listener(cluster, wait) as listener, contextlib.closing(connections):
        while missing := [n for n in range(1, hello["count"]) if n not in accepted]:
            left = deadline - time.monotonic()
            if left <= 0:
                names = ", ".join(f"worker {n} ({cluster.workers[n]})" for n in missing)
                _refuse(accepted, f"{names} did not come within {wait:g} s")
            open_to = [listener, *connections.pending, *(peer for peer, _ in accepted.values())]
            ready, *_ = select.select(
                open_to, [], [], min(left, handshake.HANDSHAKE_TIMEOUT_SECONDS)
            )
            # Those who wait say nothing: if there is something to read, it is their end.
            for number in [n for n, each in accepted.items() if each[0] in ready]:
                accepted.pop(number)[0].close()
            for peer, greeting in connections.greetings(ready, listener):
                _accept_worker(peer, greeting, hello, accepted)
    ports = [hello["port"], *(port for _, (_, port) in sorted(accepted.items()))]
    hosts = [split_address(worker)[0] for worker in cluster.workers]
    addresses = [f"{host}:{port}" for host, port in zip(hosts, ports, strict=True)]
    for peer, _ in accepted.values():
        send(peer, WELCOME, json.dumps(addresses).encode())
    return {number: peer for number, (peer, _) in accepted.items()}, addresses


def _listener(cluster, wait):
    """Returns a socket that listens at the address of the chief, and at no other.

    Raises:
        UsageError: it is no address of this machine, or the port is taken.
    """
    host, port = split_address(cluster.workers[0])
    deadline = time.monotonic() + min(wait, DNS_TIMEOUT_SECONDS)
    while True:
        try:
            family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            listener = socket.create_server(
                address[:2], family=family, backlog=handshake.MAX_PENDING
            )
        except socket.gaierror as error:  # a pod's name may take a moment to be known
            if time.monotonic() > deadline:
                raise _listen_error(cluster.workers[0], error) from error
            time.sleep(RETRY_SECONDS)
        except OSError as error:
            raise _listen_error(cluster.workers[0], error) from error
        else:
            _warn_of_loopback(cluster, host, address[0])
            return listener


def _warn_of_loopback(cluster, host, address):
    others = any(split_address(worker)[0] != host for worker in cluster.workers)
    if others and ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        log.warning(
            f"{host} is {address} on this machine, which other machines do not reach: name worker "
            "0 by an address that they do"
        )


def _listen_error(address, error):
    return UsageError(
        f"worker 0 cannot listen at {address} ({error.strerror}); the first of --workers is an "
        "address of worker 0's own machine, with a port that is free there"
    )


def _accept_worker(peer, greeting, hello, accepted):
    """Takes up a worker that has shown the token."""
    _set_socket_options(peer)
    number = greeting["number"]
    for key, what in (("count", "count of workers"), ("run", "run")):
        if greeting[key] != hello[key]:
            difference = _describe_difference(greeting[key], hello[key])
            message = f"worker {number} has another {what}: {difference}"
            _refuse({**accepted, number: (peer, 0)}, message)
    if number in accepted:  # it was started again
        accepted.pop(number)[0].close()
    accepted[number] = peer, greeting["port"]


def _describe_difference(one, other):
    """Says where two things differ that should not."""
    if not isinstance(one, dict):
        return f"{one}, not {other}"
    key = next(key for key in {**other, **one} if one.get(key) != other.get(key))
    return f"{key} is {one.get(key)!r} there and {other.get(key)!r} at worker 0"


def _refuse(accepted, message):
    for peer, _ in accepted.values():
        send(peer, REFUSED, message.encode())
        peer.close()
    raise UsageError(f"{message}; start all workers with the same command, or name fewer")


def join(cluster, hello, wait, token):
    """Goes to the chief; returns the connection to it, and all addresses.

    Args:
        cluster, hello, wait: as `welcome` has them.
        token: a function that returns the token as it is known now; the chief may make another.

    Raises:
        UsageError: the chief did not come in time, or has another run.
    """
    deadline, stranger = time.monotonic() + wait, False
    while time.monotonic() < deadline:
        request = {**hello, "token": token()}
        peer, kind, content = _request_to_join(split_address(cluster.workers[0]), request, deadline)
        if kind == WELCOME and (addresses := _parse_addresses(content, hello["count"])):
            return {0: peer}, addresses
        if peer:
            peer.close()
        if kind == REFUSED:
            raise UsageError(content.decode(errors="replace"))
        stranger = kind == BAD_TOKEN
        time.sleep(RETRY_SECONDS)
    if stranger:
        raise UsageError(
            f"worker 0 ({cluster.workers[0]}) has another token than this worker: give all the "
            "same "
            f"--out in a folder that all see, or set {auth_tokens.TOKEN_VARIABLE} to the same "
            "secret word"
        )
    raise UsageError(
        f"worker 0 ({cluster.workers[0]}) did not come within {wait:g} s; start all workers, and "
        "see "
        "that this machine reaches that address"
    )


def _parse_addresses(content, count):
    """Returns the addresses of all workers, `None` if a message does not hold them."""
    try:
        found = json.loads(content)
    except ValueError:
        return None
    right = isinstance(found, list) and len(found) == count
    return found if right and all(isinstance(each, str) for each in found) else None


def _request_to_join(address, hello, deadline):
    """Knocks at an address; returns connection, kind and content of the answer, or `None`s."""
    peer = None
    try:
        peer = socket.create_connection(address, timeout=RETRY_SECONDS * 10)
        _set_socket_options(peer)
        send(peer, HELLO, json.dumps(hello).encode())
        # The chief gives up first: it knows who is missing.
        peer.settimeout(max(0.0, deadline - time.monotonic()) + WORKER_EXTRA_WAIT_SECONDS)
        answer = receive(peer, MAX_HANDSHAKE_BYTES)
        peer.settimeout(None)
        return peer, *answer
    except OSError:
        return peer, None, b""


def _set_socket_options(peer):
    """Lets a connection send at once, and notice within a minute that a machine is off."""
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
