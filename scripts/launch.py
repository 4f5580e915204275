"""Launches several workers on this machine: zoo launch -n 2 -- train classification.

The arguments after `--` are the command of every worker. Each line of output begins with the index
of the worker. If a worker is killed, all workers restart from the last checkpoint. On
several machines use Slurm or Kubernetes; see docs/clusters.md.
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

MAX_WORKERS = 1_000  # on one machine
POLL_INTERVAL = 0.1  # seconds
SHUTDOWN_GRACE = 20.0  # seconds for the other workers to exit after one has failed
FINAL_STATUSES = (
    0,
    process_group.EXIT_USAGE_ERROR,
    2,
    process_group.EXIT_INTERRUPTED,
)  # exit statuses after which a worker is not restarted
SIGNALS = (signal.SIGINT, signal.SIGTERM)
PROGRAM = "from scripts.__main__ import console; sys.exit(console())"
GPUS = Path("/proc/driver/nvidia/gpus")


def arguments(parser, words):
    """Adds the options of this command."""
    parser.add_argument(
        "-n", "--count", type=int, default=2, metavar="N", help="number of workers (default: 2)"
    )
    parser.add_argument(
        "--restarts",
        type=int,
        default=3,
        metavar="N",
        help="maximum restarts per worker (default: 3)",
    )
    parser.add_argument(
        "command",
        nargs=argparse.REMAINDER,
        metavar="-- COMMAND",
        help="command of zoo to run, such as train ...",
    )


def run(args):
    """Starts and supervises the workers; returns the exit status of the run."""
    words = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not 1 <= args.count <= MAX_WORKERS or args.restarts < 0:
        raise UsageError(f"-n must be from 1 to {MAX_WORKERS}, --restarts 0 or more")
    if not words:
        raise UsageError("no command given, such as: zoo launch -n 2 -- train classification")
    group = _WorkerGroup(words, args.count, args.restarts)
    before = {each: signal.signal(each, group.forward_signal) for each in SIGNALS}
    try:
        return group.supervise()
    finally:
        group.terminate()
        for number, handler in before.items():
            signal.signal(number, handler)


class _WorkerGroup:
    """The worker processes of a command."""

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
        """Starts or restarts a worker."""
        self.starts[number] += 1
        place = {clusters.WORKERS: self.workers, clusters.WORKER: str(number)}
        place[auth_tokens.TOKEN_VARIABLE] = self.token
        process = subprocess.Popen(
            subprocess_command.python_command(PROGRAM, *self.words),
            stdout=None if number == 0 else subprocess.PIPE,  # only worker 0 prints results
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            start_new_session=True,  # Ctrl-C reaches workers through `forward_signal` only
            env={**os.environ, **place, **self.devices[number]},
        )
        for stream in (process.stdout, process.stderr):
            if stream:
                reader = threading.Thread(target=_prefix_output, args=(number, stream), daemon=True)
                reader.start()
                self.readers.append(reader)
        self.processes[number] = process

    def supervise(self):
        """Restarts killed workers until the run is over; returns its exit status."""
        while True:
            statuses = [process.poll() for process in self.processes]
            if None not in statuses and all(status in FINAL_STATUSES for status in statuses):
                return max(statuses)
            for number, status in enumerate(statuses):
                if status is None or status == 0:
                    continue
                if 0 in statuses:  # another worker has finished, so the run is complete
                    return self.wait_for_exit()
                if status in FINAL_STATUSES or self.stopping:
                    self.wait_for_exit()
                    return status if status in FINAL_STATUSES else process_group.EXIT_INTERRUPTED
                if self.starts[number] > self.restarts:
                    _log(number, f"exited with status {status}; no restart left, see --restarts")
                    return process_group.EXIT_USAGE_ERROR
                _log(number, f"exited with status {status}; restarting it")
                self.start(number)
            time.sleep(POLL_INTERVAL)

    def wait_for_exit(self):
        """Waits for the other workers to exit; returns the status of the chief."""
        deadline = time.monotonic() + SHUTDOWN_GRACE
        while any(p.poll() is None for p in self.processes) and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL)
        return self.processes[0].poll() or 0

    def forward_signal(self, number, frame):
        """Forwards a signal to all workers: the first saves and stops, the third kills."""
        self.signals += 1
        self.stopping = True
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(number if self.signals < 3 else signal.SIGKILL)

    def terminate(self):
        """Kills the remaining workers and waits for the rest of their output."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        for reader in self.readers:
            reader.join(timeout=1)


def _gpu_assignments(count):
    """Returns the environment variables that assign the GPUs of this machine to each worker."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = sorted(GPUS.iterdir()) if named is None and GPUS.is_dir() else []
    gpus = [str(n) for n in range(len(found))] if named is None else named.split(",")
    gpus = [gpu for gpu in gpus if gpu.strip()]
    if named is None and not gpus:
        return [{}] * count
    each = len(gpus) // count  # 0 if there are fewer GPUs than workers, which then use the CPU
    return [
        {"CUDA_VISIBLE_DEVICES": ",".join(gpus[n * each : (n + 1) * each])} for n in range(count)
    ]


def _prefix_output(number, stream):
    for line in stream:
        print(f"[{number}] {line.rstrip()}", file=sys.stderr, flush=True)


def _log(number, words):
    print(f"zoo: worker {number} {words}", file=sys.stderr, flush=True)
