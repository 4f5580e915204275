"""Rendezvous: the workers of a run connect to the chief and exchange their addresses.

The chief listens at a port that all workers have. Each of them connects, with retries, sends its
number and the port of its TensorFlow server, and waits. Once all are connected, the chief sends the
addresses of all. A chief that still runs after a worker was killed does not listen; it ends, and is
restarted. Connections without the token of the run (`auth_tokens`) are rejected.
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
    ACCEPTED,
    BAD_TOKEN,
    HELLO,
    MAX_HANDSHAKE_BYTES,
    REFUSED,
    receive,
    send,
)
from zoo.errors import UsageError

RETRY_SECONDS = 0.3  # between two attempts to reach the chief
# Workers wait longer than the chief, whose error message names those that are missing.
WORKER_EXTRA_WAIT_SECONDS = 10.0
DNS_TIMEOUT_SECONDS = 30.0  # for the name of the chief to become resolvable
log = logging.getLogger("zoo")


def free_port():
    """Returns an unused port."""
    with socket.socket() as sock:
        sock.bind(("", 0))
        return sock.getsockname()[1]


def split_address(address):
    """Returns the host and the port of `host:port`."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def accept_workers(cluster, hello, wait, token):
    """Waits for all workers, as the chief; returns connections by number, and all addresses.

    Connections without the token cause no more than a warning.

    Args:
        cluster: A `clusters.ClusterConfig`.
        hello: The handshake of this process, with which those of the others are compared.
        wait: Seconds to wait.
        token: The token that the others must send.

    Raises:
        UsageError: A worker did not connect in time, or has another run.
    """
    deadline, accepted = time.monotonic() + wait, {}
    connections = handshake.PendingConnections(hello["count"], token)
    with _listener(cluster, wait) as listener, contextlib.closing(connections):
        while missing := [n for n in range(1, hello["count"]) if n not in accepted]:
            left = deadline - time.monotonic()
            if left <= 0:
                names = ", ".join(f"worker {n} ({cluster.workers[n]})" for n in missing)
                _refuse(accepted, f"{names} did not connect within {wait:g} s")
            open_to = [listener, *connections.pending, *(peer for peer, _ in accepted.values())]
            ready, *_ = select.select(
                open_to, [], [], min(left, handshake.HANDSHAKE_TIMEOUT_SECONDS)
            )
            # Accepted workers send nothing: if there is something to read, the connection ended.
            for number in [n for n, each in accepted.items() if each[0] in ready]:
                accepted.pop(number)[0].close()
            for peer, received in connections.handshakes(ready, listener):
                _accept_worker(peer, received, hello, accepted)
    ports = [hello["port"], *(port for _, (_, port) in sorted(accepted.items()))]
    hosts = [split_address(worker)[0] for worker in cluster.workers]
    addresses = [f"{host}:{port}" for host, port in zip(hosts, ports, strict=True)]
    for peer, _ in accepted.values():
        send(peer, ACCEPTED, json.dumps(addresses).encode())
    return {number: peer for number, (peer, _) in accepted.items()}, addresses


def _listener(cluster, wait):
    """Returns a socket that listens at the address of the chief only.

    Raises:
        UsageError: It is not an address of this machine, or the port is in use.
    """
    host, port = split_address(cluster.workers[0])
    deadline = time.monotonic() + min(wait, DNS_TIMEOUT_SECONDS)
    while True:
        try:
            family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            listener = socket.create_server(
                address[:2], family=family, backlog=handshake.MAX_PENDING
            )
        except socket.gaierror as error:  # the name of a pod may take a moment to become resolvable
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
            f"{host} is {address} on this machine, which other machines cannot reach; give worker "
            "0 an address that they can reach"
        )


def _listen_error(address, error):
    return UsageError(
        f"worker 0 cannot listen at {address} ({error.strerror}); the first of --workers must be "
        "an address of the machine of worker 0, with a free port"
    )


def _accept_worker(peer, received, hello, accepted):
    """Accepts a worker that sent the token."""
    _set_socket_options(peer)
    number = received["number"]
    for key, what in (("count", "count of workers"), ("run", "run")):
        if received[key] != hello[key]:
            difference = _describe_difference(received[key], hello[key])
            message = f"worker {number} has another {what}: {difference}"
            _refuse({**accepted, number: (peer, 0)}, message)
    if number in accepted:  # it was started again
        accepted.pop(number)[0].close()
    accepted[number] = peer, received["port"]


def _describe_difference(one, other):
    """Returns a description of the difference between two handshake values."""
    if not isinstance(one, dict):
        return f"{one}, not {other}"
    key = next(key for key in {**other, **one} if one.get(key) != other.get(key))
    return f"{key} is {one.get(key)!r} there and {other.get(key)!r} at worker 0"


def _refuse(accepted, message):
    for peer, _ in accepted.values():
        send(peer, REFUSED, message.encode())
        peer.close()
    raise UsageError(f"{message}; start all workers with the same command, or pass fewer workers")


def join(cluster, hello, wait, token):
    """Connects to the chief; returns the connection and all addresses.

    Args:
        cluster, hello, wait: As in `accept_workers`.
        token: A function that returns the current token; the chief may publish another.

    Raises:
        UsageError: The chief could not be reached in time, or has another run.
    """
    deadline, wrong_token = time.monotonic() + wait, False
    while time.monotonic() < deadline:
        request = {**hello, "token": token()}
        peer, kind, content = _request_to_join(split_address(cluster.workers[0]), request, deadline)
        if kind == ACCEPTED and (addresses := _parse_addresses(content, hello["count"])):
            return {0: peer}, addresses
        if peer:
            peer.close()
        if kind == REFUSED:
            raise UsageError(content.decode(errors="replace"))
        wrong_token = kind == BAD_TOKEN
        time.sleep(RETRY_SECONDS)
    if wrong_token:
        raise UsageError(
            f"worker 0 ({cluster.workers[0]}) has another token than this worker: give all workers "
            f"the same --out in a shared folder, or set {auth_tokens.TOKEN_VARIABLE} to the same "
            "secret"
        )
    raise UsageError(
        f"worker 0 ({cluster.workers[0]}) could not be reached within {wait:g} s; start all "
        "workers, and check that this machine can reach that address"
    )


def _parse_addresses(content, count):
    """Returns the addresses of all workers in a message, or `None` if it is malformed."""
    try:
        found = json.loads(content)
    except ValueError:
        return None
    right = isinstance(found, list) and len(found) == count
    return found if right and all(isinstance(each, str) for each in found) else None


def _request_to_join(address, hello, deadline):
    """Connects to an address; returns the connection, and kind and content of the response."""
    peer = None
    try:
        peer = socket.create_connection(address, timeout=RETRY_SECONDS * 10)
        _set_socket_options(peer)
        send(peer, HELLO, json.dumps(hello).encode())
        # The chief gives up first: it can name the workers that are missing.
        peer.settimeout(max(0.0, deadline - time.monotonic()) + WORKER_EXTRA_WAIT_SECONDS)
        answer = receive(peer, MAX_HANDSHAKE_BYTES)
        peer.settimeout(None)
        return peer, *answer
    except OSError:
        return peer, None, b""


def _set_socket_options(peer):
    """Disables send buffering, and detects within a minute that a machine is down."""
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
