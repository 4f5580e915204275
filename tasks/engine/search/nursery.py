"""A process that has loaded what trials need, and makes of itself one process for each of them.

To load TensorFlow takes longer than many a trial, and a trial that is a process gives all its
memory back. So one process loads it, computes nothing, and forks for each trial. Started by
`apart.Apart`; it reads a JSON object a line from standard input and answers likewise.
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

from tasks.engine.search import trial
from zoo import locks, terminal

GONE, INTERRUPTED = 3, 130  # exit status of a trial whose search is gone, and after Ctrl-C


def main():
    """Reads what to try, line by line, and runs each in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the trial, which gets it too
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    _speak(hushed=sys.argv[1] == "1", level=int(sys.argv[2]))
    _load()
    _say(answers, ready=True)
    while (order := _order()) is not None:
        if not hasattr(os, "fork"):
            _try(order, answers)
            _say(answers, ended=0)
        elif child := os.fork():
            _, status = os.waitpid(child, 0)
            _say(answers, ended=os.waitstatus_to_exitcode(status))
        else:
            _be_the_trial(order, answers)


def _be_the_trial(order, answers):
    """Runs a trial in a process that ends with it, whatever comes."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _try(order, answers)
        status = 0
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)  # what the process above has open is not this one's to close


def _speak(*, hushed, level):
    """Says on standard error what the search would say, and where it hushes native libraries so
    does this."""
    if hushed:
        sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.stderr = sys.__stderr__ = terminal.wrapped(sys.stderr)
    log = logging.getLogger("zoo")
    log.addHandler(logging.StreamHandler(sys.stderr))
    log.setLevel(level)
    log.propagate = False


def _load():
    """Loads what trials need. No operation runs: its threads would not be there after a fork."""
    import keras  # noqa: F401
    import tensorflow  # noqa: F401

    from tasks.engine import trainer  # noqa: F401


def _try(order, answers):
    """Runs a trial, and says after each epoch how it is doing."""
    from tasks.engine import resume

    replies = queue.Queue()
    threading.Thread(target=_listen, args=(replies,), daemon=True).start()
    out = Path(order["out"])

    def report(scores):
        _say(answers, scores=scores)
        return json.loads(replies.get())["go_on"]

    out.parent.mkdir(parents=True, exist_ok=True)
    with locks.held(out.parent / f"{out.name}.lock", lambda: None):
        found = trial.run(resume.to_task(order["task"]), out, report)
    _say(answers, status=found.status, reason=found.reason)


def _order():
    """Returns the next order, `None` if there will be none; replies to a trial that was killed
    before it read them, or all of them, are passed over."""
    while line := _line():
        with suppress(json.JSONDecodeError):
            order = json.loads(line)
            if isinstance(order, dict) and "task" in order:
                return order
    return None


def _listen(replies):
    """Passes replies on. Where the search is gone so is the trial: another may take it up."""
    while line := _line():
        replies.put(line)
    os._exit(GONE)


def _line():
    """Returns the next line of standard input, of which no byte is read ahead; "" at its end."""
    letters = bytearray()
    while (letter := os.read(0, 1)) not in (b"", b"\n"):
        letters += letter
    return letters.decode()


def _say(answers, **what):
    answers.write(json.dumps(what) + "\n")
    answers.flush()
