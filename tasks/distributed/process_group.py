"""The process group of a run: rendezvous, broadcast, gather, and detection of lost workers.

TensorFlow exchanges tensors between workers. Everything else goes through TCP connections between
the chief, which is worker 0, and each of the others: addresses, decisions of the chief and, by the
end of a connection, that a worker was killed.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import queue
import sys
import threading
import time

from tasks.distributed import auth_tokens, messages, rendezvous
from zoo.errors import UsageError

EXIT_RESTART = 75  # exit status of a worker that lost another one: restart all of them
EXIT_USAGE_ERROR, EXIT_INTERRUPTED = 1, 130  # exit status after a usage error, and after Ctrl-C
GRACE_SECONDS = 10.0  # for a process to end by itself after another one failed
SYNC_STEPS = 8  # steps between agreements of the workers on stopping and saving


class SingleProcess:
    """The process group of a run with one process, which is its chief.

    Attributes:
        number, count: The index of this worker, from 0, and the number of workers.
        sync_interval: Steps between two agreements of all workers.
    """

    number, count, sync_interval = 0, 1, 1

    @property
    def chief(self):
        """Whether this process makes decisions and writes files."""
        return self.number == 0

    def broadcast(self, function):
        """Calls a function on the chief and returns its result, of JSON types, on all workers.

        Its exceptions are raised on the chief, and end the other workers.
        """
        return function()

    def broadcast_bytes(self, function):
        """Calls a function on the chief and returns its result, bytes, on all workers."""
        return function()

    def gather(self, content):
        """Returns the bytes of each worker, in order, on the chief; elsewhere `None`."""
        return [content]

    def any(self, flag):
        """Returns on all workers whether the flag of any worker is true."""
        return flag

    @contextlib.contextmanager
    def critical_section(self):
        """Defers the end of this process after the loss of another, while it writes a file."""
        yield


class ProcessGroup(SingleProcess):
    """The process group of several workers; the constructor waits until all are connected.

    Args:
        cluster: A `clusters.ClusterConfig`.
        run: A dict of JSON types that must be equal on all workers.
        wait: Seconds to wait for the others.
        out: The run folder, next to which the token of the run is stored.

    Attributes:
        addresses: `host:port` of the TensorFlow server of each worker.

    Raises:
        UsageError: A worker did not connect in time, or has another run.
    """

    sync_interval = SYNC_STEPS

    def __init__(self, cluster, run, wait, out):
        self.cluster, self.number, self.count = cluster, cluster.number, len(cluster.workers)
        self._inbox = {n: queue.Queue() for n in range(self.count)}
        self._writing, self._leaving = threading.RLock(), False
        handshake = {
            "number": self.number,
            "count": self.count,
            "run": run,
            "port": rendezvous.free_port(),
        }
        if self.chief:
            with auth_tokens.publish(out) as token:
                self._peers, self.addresses = rendezvous.accept_workers(
                    cluster, handshake, wait, token
                )
        else:
            known = functools.partial(auth_tokens.read_token, out)
            self._peers, self.addresses = rendezvous.join(cluster, handshake, wait, known)
        for number, peer in self._peers.items():
            threading.Thread(target=self._listen, args=(number, peer), daemon=True).start()
        atexit.register(self.leave)

    def broadcast(self, function):
        return json.loads(self.broadcast_bytes(lambda: json.dumps(function()).encode()))

    def broadcast_bytes(self, function):
        if not self.chief:
            return self._receive_from(0)
        content = function()
        for peer in self._peers.values():
            messages.send(peer, messages.DATA, content)
        return content

    def gather(self, content):
        if not self.chief:
            messages.send(self._peers[0], messages.DATA, content)
            return None
        return [content, *(self._receive_from(number) for number in sorted(self._peers))]

    def any(self, flag):
        flags = self.gather(b"1" if flag else b"")
        return self.broadcast_bytes(lambda: b"1" if any(flags) else b"") == b"1"

    @contextlib.contextmanager
    def critical_section(self):
        with self._writing:
            yield

    def fail(self, status, message):
        """Ends the other workers with a message."""
        if not self._leaving:
            self._leaving = True
            for peer in self._peers.values():
                messages.send(peer, messages.FAILED, json.dumps([status, message]).encode())

    def abandon(self, message):
        """Ends this process, which cannot reach the others."""
        time.sleep(1)  # for `_peer_lost`, which can name the worker that was killed
        self.fail(EXIT_RESTART, message)
        _exit_process(
            EXIT_RESTART,
            f"{message}; exiting with status {EXIT_RESTART}: restart all workers to resume",
        )

    def leave(self):
        """Announces a normal end of this process to the others."""
        if not self._leaving:
            self._leaving = True
            for peer in self._peers.values():
                messages.send(peer, messages.BYE)

    def _receive_from(self, number):
        """Returns the next message of a worker."""
        found = self._inbox[number].get()
        if isinstance(found, BaseException):
            raise found
        return found

    def _listen(self, number, peer):
        """Receives the messages of a worker until it leaves, fails or is lost."""
        kind, content = messages.DATA, None
        with peer:
            while kind == messages.DATA:
                if content is not None:
                    self._inbox[number].put(content)
                try:
                    kind, content = messages.receive(peer)
                except OSError:
                    self._peer_lost(number)
                    return
        if kind == messages.FAILED:
            self._peer_failed(number, *json.loads(content))

    def _peer_lost(self, number):
        """Ends this process at once: a collective operation would never complete."""
        if self._leaving:
            return
        with self._writing:
            name = f"worker {number} ({self.cluster.workers[number]})"
            self.fail(EXIT_RESTART, f"{name} was lost")
            _exit_process(
                EXIT_RESTART,
                f"{name} was lost; exiting with status {EXIT_RESTART}: restart all workers to "
                "resume",
            )

    def _peer_failed(self, number, status, message):
        """Ends this process, which may wait for the worker that failed."""
        if self._leaving:
            return
        self.fail(status, message)  # the chief forwards it
        stopped = status == EXIT_INTERRUPTED
        error = KeyboardInterrupt() if stopped else UsageError(f"worker {number}: {message}")
        if status != EXIT_RESTART:
            for inbox in self._inbox.values():
                inbox.put(error)
            time.sleep(GRACE_SECONDS)
        with self._writing:
            _exit_process(
                status, message if status == EXIT_RESTART else f"worker {number}: {message}"
            )


def _exit_process(status, message):
    print(f"zoo: {message}", file=sys.stderr, flush=True)
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    os._exit(status)
