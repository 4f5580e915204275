"""Trials in processes of their own, so that each gives its memory back, whatever ends it."""

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

PROGRAM = "from tasks.tuning import nursery; nursery.main()"


class SubprocessExecutor:
    """Runs trials, one after the other, in processes of their own."""

    def __init__(self):
        self.nursery = None

    def run(self, task, out, report):
        """Runs a trial as `trial.run` does; of one that is killed, too, it returns the `Outcome`.

        Raises:
            KeyboardInterrupt: the trial was interrupted, and has left a checkpoint.
        """
        if self.nursery is None or self.nursery.poll() is not None:
            self.close()
            self.nursery = _start_fork_server()
            if self._receive() != {"ready": True}:
                raise UsageError("the process for trials did not start; see what it said above")
        self._send({"task": {"task": task.name, **dataclasses.asdict(task)}, "out": str(out)})
        found = None
        while answer := self._receive():
            if "scores" in answer:
                self._send({"go_on": report(answer["scores"])})
            elif "status" in answer:
                found = trial.TrialResult(**answer)
            else:
                return found or _result_of_exit(answer["ended"])
        return found or _result_of_exit(self.nursery.wait())

    def interrupt(self):
        """Interrupts the trial, as Ctrl-C does."""
        if self.nursery is not None and hasattr(os, "killpg"):
            with suppress(ProcessLookupError):
                os.killpg(self.nursery.pid, signal.SIGINT)

    def close(self):
        """Ends the process that trials are made from, and a trial that runs."""
        if self.nursery is not None:
            with suppress(OSError):
                self.nursery.stdin.close()
            self.nursery.wait()
            self.nursery.stdout.close()
            self.nursery = None

    def _send(self, what):
        with suppress(OSError, ValueError):  # if it is gone, that is heard next
            self.nursery.stdin.write(json.dumps(what) + "\n")
            self.nursery.stdin.flush()

    def _receive(self):
        """Returns the next answer, `None` if there will be none."""
        line = self.nursery.stdout.readline()
        return json.loads(line) if line.endswith("\n") else None


class InProcessExecutor:
    """Runs trials in this process; what one does not give back is missed by the next."""

    def run(self, task, out, report):
        """Runs a trial as `trial.run` does."""
        try:
            return trial.run(task, out, report)
        finally:
            keras.utils.clear_session()


def _start_fork_server():
    """Starts a process that knows the same modules, and is no target of the terminal's Ctrl-C."""
    hushed, stream = False, None
    with suppress(OSError, AttributeError):  # standard error may be no file, such as in a notebook
        hushed, stream = sys.stderr.fileno() != 2, sys.stderr.fileno()
    level = logging.getLogger("zoo").level
    return subprocess.Popen(
        subprocess_command.python_command(PROGRAM, str(int(hushed)), str(level)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stream,
        text=True,
        start_new_session=True,
    )


def _result_of_exit(status):
    """Returns the `Outcome` of a trial that ended without a word."""
    if status == -signal.SIGKILL:
        return trial.TrialResult(
            trial.OUT_OF_MEMORY, "it was killed (SIGKILL), as a system does where memory runs out"
        )
    if status < 0:
        return trial.TrialResult(trial.KILLED, f"it was killed ({signal.Signals(-status).name})")
    if status == fork_server.INTERRUPTED:
        raise KeyboardInterrupt
    return trial.TrialResult(trial.FAILED, f"its process ended with exit status {status}")
