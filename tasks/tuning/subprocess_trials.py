"""Executors that run each trial in a process of its own, which returns all its memory."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
from contextlib import suppress

from tasks.distributed import subprocess_command
from tasks.tuning import fork_server, trial
from zoo.errors import UsageError
from zoo.lazy import keras

PROGRAM = "from tasks.tuning import fork_server; fork_server.main()"


class SubprocessExecutor:
    """Runs trials one after the other, each in its own process."""

    def __init__(self):
        self.server = None

    def run(self, task, out, report):
        """Runs a trial as `trial.run` does; also returns a `TrialResult` for a killed trial.

        Raises:
            KeyboardInterrupt: the trial was interrupted and has saved a checkpoint.
        """
        if self.server is None or self.server.poll() is not None:
            self.close()
            self.server = _start_fork_server()
            if self._receive() != {"ready": True}:
                raise UsageError("the process for trials did not start; see its output above")
        self._send({"task": {"task": task.name, **dataclasses.asdict(task)}, "out": str(out)})
        found = None
        while response := self._receive():
            if "scores" in response:
                self._send({"go_on": report(response["scores"])})
            elif "status" in response:
                found = trial.TrialResult(**response)
            else:
                return found or _result_of_exit(response["ended"])
        return found or _result_of_exit(self.server.wait())

    def interrupt(self):
        """Interrupts the running trial, as Ctrl-C does."""
        if self.server is not None and hasattr(os, "killpg"):
            with suppress(ProcessLookupError):
                os.killpg(self.server.pid, signal.SIGINT)

    def close(self):
        """Terminates the fork server and the running trial, if any."""
        if self.server is not None:
            with suppress(OSError):
                self.server.stdin.close()
            self.server.wait()
            self.server.stdout.close()
            self.server = None

    def _send(self, what):
        with suppress(OSError, ValueError):  # if it has exited, the next `_receive` returns `None`
            self.server.stdin.write(json.dumps(what) + "\n")
            self.server.stdin.flush()

    def _receive(self):
        """Returns the next response, or `None` if the process has exited."""
        line = self.server.stdout.readline()
        return json.loads(line) if line.endswith("\n") else None


class InProcessExecutor:
    """Runs trials in this process; memory that a trial leaks is missing for the next."""

    def run(self, task, out, report):
        """Runs a trial as `trial.run` does."""
        try:
            return trial.run(task, out, report)
        finally:
            keras.utils.clear_session()


def _start_fork_server():
    """Starts the fork server, in a session of its own so that Ctrl-C does not reach it."""
    silenced, stream = False, None
    with suppress(OSError, AttributeError):  # standard error may not be a file, as in a notebook
        silenced, stream = sys.stderr.fileno() != 2, sys.stderr.fileno()
    level = logging.getLogger("zoo").level
    return subprocess.Popen(
        subprocess_command.python_command(PROGRAM, str(int(silenced)), str(level)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stream,
        text=True,
        start_new_session=True,
    )


def _result_of_exit(status):
    """Returns the `TrialResult` of a trial whose process ended without sending one."""
    if status == -signal.SIGKILL:
        return trial.TrialResult(
            trial.OUT_OF_MEMORY, "killed (SIGKILL), probably because the machine ran out of memory"
        )
    if status < 0:
        return trial.TrialResult(trial.KILLED, f"killed ({signal.Signals(-status).name})")
    if status == fork_server.INTERRUPTED:
        raise KeyboardInterrupt
    return trial.TrialResult(trial.FAILED, f"the process ended with exit status {status}")
