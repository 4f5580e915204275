"""A fork server: a process that imports TensorFlow once and forks a child for each trial.

Importing TensorFlow takes longer than many trials, and a trial in a process of its own returns
all its memory. So one process imports it, computes nothing, and forks for each trial. It is started
by `subprocess_trials.SubprocessExecutor`, reads requests from standard input and writes responses
to standard output, both as JSON lines.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path

from tasks.tuning import trial
from zoo import file_lock, terminal

ORPHANED, INTERRUPTED = 3, 130  # exit status of a trial without its search, and after Ctrl-C


def main():
    """Reads requests line by line and runs each trial in a child process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the child of the trial handles it
    responses = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of libraries must not mix with responses
    _setup_logging(quiet=sys.argv[1] == "1", level=int(sys.argv[2]))
    _preload()
    _send(responses, ready=True)
    while (request := _next_request()) is not None:
        if not hasattr(os, "fork"):
            _run_trial(request, responses)
            _send(responses, ended=0)
        elif child := os.fork():
            _, status = os.waitpid(child, 0)
            _send(responses, ended=os.waitstatus_to_exitcode(status))
        else:
            _run_child(request, responses)


def _run_child(request, responses):
    """Runs a trial in the child process, then exits."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _run_trial(request, responses)
        status = 0
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BaseException:  # the child must not return into the loop of its parent
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)  # without closing the files of the parent process


def _setup_logging(*, quiet, level):
    """Logs to standard error as the search does; `quiet` silences native libraries, too."""
    if quiet:
        sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.stderr = sys.__stderr__ = terminal.wrap_stream(sys.stderr, messages=True)
    log = logging.getLogger("zoo")
    log.addHandler(logging.StreamHandler(sys.stderr))
    log.setLevel(level)
    log.propagate = False


def _preload():
    """Imports what trials need. Runs no operation: its threads would not survive a fork."""
    import keras  # noqa: F401
    import tensorflow  # noqa: F401

    from tasks.engine import trainer  # noqa: F401


def _run_trial(request, responses):
    """Runs a trial and sends its scores after each epoch."""
    from tasks.engine import recipes

    replies = queue.Queue()
    threading.Thread(target=_forward_replies, args=(replies,), daemon=True).start()
    out = Path(request["out"])

    def report(scores):
        _send(responses, scores=scores)
        return json.loads(replies.get())["go_on"]

    out.parent.mkdir(parents=True, exist_ok=True)
    with file_lock.hold_lock(out.parent / f"{out.name}.lock", lambda: None):
        found = trial.run(recipes.task_from_recipe(request["task"]), out, report)
    _send(responses, status=found.status, reason=found.reason)


def _next_request():
    """Returns the next request, or `None` at the end; skips replies that a killed trial left."""
    while line := _read_line():
        with suppress(json.JSONDecodeError):
            request = json.loads(line)
            if isinstance(request, dict) and "task" in request:
                return request
    return None


def _forward_replies(replies):
    """Forwards replies to the trial; exits if the search is gone, so that others can resume it."""
    while line := _read_line():
        replies.put(line)
    os._exit(ORPHANED)


def _read_line():
    """Returns the next line of standard input without reading ahead; "" at its end."""
    letters = bytearray()
    while (letter := os.read(0, 1)) not in (b"", b"\n"):
        letters += letter
    return letters.decode()


def _send(responses, **what):
    responses.write(json.dumps(what) + "\n")
    responses.flush()
