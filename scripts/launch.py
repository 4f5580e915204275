"""Starts workers on this machine that train together: zoo launch -n 2 -- train classification.

What comes after `--` is the command of every worker, whose lines begin with its number. A worker
that is killed is started again; the others then end and are started again too, and all go on from
the last checkpoint. On several machines it is Slurm or Kubernetes that does so; see
docs/clusters.md.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from tasks.distributed import auth_tokens, clusters, process_group, rendezvous, subprocess_command
from zoo.errors import UsageError

MAX_WORKERS = 1_000  # workers on one machine
POLL_INTERVAL = 0.1  # seconds from one look at the workers to the next
SHUTDOWN_GRACE = 20.0  # seconds that they have to end when one has failed
FINAL_STATUSES = (
    0,
    process_group.EXIT_USAGE_ERROR,
    2,
    process_group.EXIT_INTERRUPTED,
)  # exit statuses after which there is no second attempt
SIGNALS = (signal.SIGINT, signal.SIGTERM)
PROGRAM = "from scripts.__main__ import console; sys.exit(console())"
GPUS = Path("/proc/driver/nvidia/gpus")


def arguments(parser, words):
    """Adds this command's flags."""
    parser.add_argument("-n", "--count", type=int, default=2, metavar="N", help="workers (2)")
    parser.add_argument(
        "--restarts", type=int, default=3, metavar="N", help="of each worker, at most (3)"
    )
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="of zoo, such as train ..."
    )


def run(args):
    """Starts the workers and looks after them; returns the exit status of the run."""
    words = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not 1 <= args.count <= MAX_WORKERS or args.restarts < 0:
        raise UsageError(f"-n takes 1 or more workers, at most {MAX_WORKERS}; --restarts 0 or more")
    if not words:
        raise UsageError("launch needs a command: zoo launch -n 2 -- train classification")
    group = _WorkerGroup(words, args.count, args.restarts)
    before = {each: signal.signal(each, group.forward_signal) for each in SIGNALS}
    try:
        return group.supervise()
    finally:
        group.terminate()
        for number, handler in before.items():
            signal.signal(number, handler)


class _WorkerGroup:
    """The workers of a command, each a process."""

    def __init__(self, words, count, restarts):
        self.words, self.restarts, self.stopping, self.signals = words, restarts, False, 0
        self.workers = ",".join(f"localhost:{rendezvous.free_port()}" for _ in range(count))
        self.token = os.environ.get(auth_tokens.TOKEN_VARIABLE) or auth_tokens.generate()
        self.devices = _gpu_assignments(count)
        self.starts = [0] * count
        self.processes, self.readers = [None] * count, []
        for number in range(count):
            self.start(number)

    def start(self, number):
        """Starts a worker, for the first time or again."""
        self.starts[number] += 1
        place = {clusters.WORKERS: self.workers, clusters.WORKER: str(number)}
        place[auth_tokens.TOKEN_VARIABLE] = self.token
        process = subprocess.Popen(
            subprocess_command.python_command(PROGRAM, *self.words),
            stdout=None if number == 0 else subprocess.PIPE,  # results are one worker's to tell
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            start_new_session=True,  # a signal from the keyboard comes through this process alone
            env={**os.environ, **place, **self.devices[number]},
        )
        for stream in (process.stdout, process.stderr):
            if stream:
                reader = threading.Thread(target=_prefix_output, args=(number, stream), daemon=True)
                reader.start()
                self.readers.append(reader)
        self.processes[number] = process

    def supervise(self):
        """Starts workers again that were killed, until the run is over; returns its status."""
        while True:
            statuses = [process.poll() for process in self.processes]
            if None not in statuses and all(status in FINAL_STATUSES for status in statuses):
                return max(statuses)
            for number, status in enumerate(statuses):
                if status is None or status == 0:
                    continue
                if 0 in statuses:  # all was done before this one ended
                    return self.wait_for_exit()
                if status in FINAL_STATUSES or self.stopping:
                    self.wait_for_exit()
                    return status if status in FINAL_STATUSES else process_group.EXIT_INTERRUPTED
                if self.starts[number] > self.restarts:
                    _log(number, f"ended with status {status}, once too often: --restarts")
                    return process_group.EXIT_USAGE_ERROR
                _log(number, f"ended with status {status}; it is started again")
                self.start(number)
            time.sleep(POLL_INTERVAL)

    def wait_for_exit(self):
        """Waits for the others to end by themselves; returns the status of the chief."""
        deadline = time.monotonic() + SHUTDOWN_GRACE
        while any(p.poll() is None for p in self.processes) and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL)
        return self.processes[0].poll() or 0

    def forward_signal(self, number, frame):
        """Hands a signal on to all workers: they save and stop, or at once, or are killed."""
        self.signals += 1
        self.stopping = True
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(number if self.signals < 3 else signal.SIGKILL)

    def terminate(self):
        """Ends what is still there, and waits for its last words."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        for reader in self.readers:
            reader.join(timeout=1)


def _gpu_assignments(count):
    """Returns for each worker the variables that give it its share of this machine's GPUs."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = sorted(GPUS.iterdir()) if named is None and GPUS.is_dir() else []
    gpus = [str(n) for n in range(len(found))] if named is None else named.split(",")
    gpus = [gpu for gpu in gpus if gpu.strip()]
    if named is None and not gpus:
        return [{}] * count
    each = len(gpus) // count  # none: a GPU is not shared, and all are on the processor
    return [
        {"CUDA_VISIBLE_DEVICES": ",".join(gpus[n * each : (n + 1) * each])} for n in range(count)
    ]


def _prefix_output(number, stream):
    for line in stream:
        print(f"[{number}] {line.rstrip()}", file=sys.stderr, flush=True)


def _log(number, words):
    print(f"zoo: worker {number} {words}", file=sys.stderr, flush=True)
