"""The processes of one run: how they find each other, agree, and notice that one is gone.

TensorFlow exchanges tensors among workers. What is left goes through plain connections between
the chief, which is worker 0, and each of the others: who is there and at which port, what the
chief decided, and, by the end of a connection, that somebody was killed.
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

EXIT_RESTART = 75  # exit status of a worker that another one left alone: start all of them again
EXIT_USAGE_ERROR, EXIT_INTERRUPTED = (
    1,
    130,
)  # what the command line says after a user's mistake, and after Ctrl-C
GRACE_SECONDS = (
    10.0  # seconds that a process has to end by itself after it heard that another failed
)
SYNC_STEPS = 8  # steps after which workers ask each other whether to stop, or to save


class SingleProcess:
    """A process that is its own chief: the crew of every run that has one process.

    Attributes:
        number, count: which worker this is, from 0, and how many there are.
        talks: steps from one question to all to the next.
    """

    number, count, sync_interval = 0, 1, 1

    @property
    def chief(self):
        """Whether this process decides, and writes files."""
        return self.number == 0

    def broadcast(self, function):
        """Returns to all what a function without arguments returns to the chief, as JSON has it.

        What it raises is raised at the chief, and ends the others.
        """
        return function()

    def broadcast_bytes(self, function):
        """Returns to all the bytes that a function returns to the chief."""
        return function()

    def gather(self, content):
        """Returns to the chief the bytes of each worker, in order; to the others nothing."""
        return [content]

    def any(self, flag):
        """Tells all whether somebody says so."""
        return flag

    @contextlib.contextmanager
    def critical_section(self):
        """Keeps this process from ending, for the loss of another, in the middle of a file."""
        yield


class ProcessGroup(SingleProcess):
    """Several processes, each of which makes its own; they wait for each other.

    Args:
        cluster: a `clusters.ClusterConfig`.
        run: what all must have in common, a string.
        wait: seconds to wait for the others.
        out: the run's folder, beside which the token of the run is.

    Attributes:
        addresses: `host:port` of each worker's TensorFlow.

    Raises:
        UsageError: somebody did not come in time, or came with another run.
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
        """Ends the other workers, which say why."""
        if not self._leaving:
            self._leaving = True
            for peer in self._peers.values():
                messages.send(peer, messages.FAILED, json.dumps([status, message]).encode())

    def abandon(self, message):
        """Ends this process, which does not reach the others; they may know why."""
        time.sleep(1)  # who was killed is noticed by the end of its connection, which says more
        self.fail(EXIT_RESTART, message)
        _exit_process(
            EXIT_RESTART,
            f"{message}; this worker ends with status {EXIT_RESTART}, so that all can start again",
        )

    def leave(self):
        """Tells the others that the end of this process is no loss."""
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
        """Follows what a worker says until it says farewell or falls silent."""
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
        """Ends this process at once: what it computes with the others will never be complete."""
        if self._leaving:
            return
        with self._writing:
            name = f"worker {number} ({self.cluster.workers[number]})"
            self.fail(EXIT_RESTART, f"{name} is gone")
            _exit_process(
                EXIT_RESTART,
                f"{name} is gone; this one ends with status {EXIT_RESTART}, so that all can start "
                "again and go on",
            )

    def _peer_failed(self, number, status, message):
        """Ends this process, which may be waiting for the one that failed in vain."""
        if self._leaving:
            return
        self.fail(status, message)  # the chief passes it on
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
