"""One trial: a whole run of a task, whatever becomes of it."""

from __future__ import annotations

import math
import traceback
from contextlib import contextmanager
from dataclasses import dataclass

from tasks.engine import record, resume, trainer
from zoo.errors import UsageError
from zoo.files import replacing
from zoo.lazy import tf

COMPLETED, STOPPED, FAILED = "completed", "stopped", "failed"
DIVERGED, MEMORY, KILLED = "diverged", "memory", "killed"  # kinds of failure, beside FAILED
LAGS = "lags behind the median of the other trials"


@dataclass(frozen=True)
class Outcome:
    """What became of a trial.

    Attributes:
        status: `completed`; `stopped`, because it lags; `failed`; `diverged`: its loss is no
            number; `memory`: there was too little; `killed` by another process.
        reason: why it is not complete, in a line.
    """

    status: str
    reason: str = ""


class Lagging(Exception):
    """The trial lags behind others, and is stopped."""


def run(task, out, report):
    """Trains a task in a folder, or goes on; returns the `Outcome`.

    Args:
        task: a `tasks.Task`.
        out: the folder of the run.
        report: called with the scores of all epochs so far, before the first if there are any
            and after each; it returns whether the trial is to go on.
    """

    def watch(history):
        if history and not report(scores(task, history)):
            raise Lagging

    try:
        if (out / resume.STATE).exists():
            watch(resume.State(out).history)
        with _watched(watch):
            trainer.train(task, out)
        return Outcome(COMPLETED)
    except Lagging:
        return Outcome(STOPPED, f"it {LAGS}")
    except record.Diverged as error:
        return Outcome(DIVERGED, str(error).partition(":")[0])
    except UsageError as error:
        return Outcome(FAILED, _line(error))
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        return Outcome(MEMORY, _line(error) or "out of memory")
    except Exception as error:
        _keep(out, traceback.format_exc())
        return Outcome(FAILED, f"{type(error).__name__}: {_line(error)}")


def scores(task, history):
    """Returns the score of each epoch of a history: the first of what the task chooses by.

    Raises:
        UsageError: the task has nothing to choose by, or it is no number.
    """
    found = []
    for row in history:
        merit = task.merit(row)
        if not merit:
            raise UsageError(
                "a search needs a validation split to choose by; there is none: leave out "
                "--validation-split none"
            )
        if not math.isfinite(merit[0]):
            raise UsageError(f"what {task.name} is chosen by is {merit[0]} in epoch {row['epoch']}")
        found.append(float(merit[0]))
    return found


@contextmanager
def _watched(watch):
    record.watchers.append(watch)
    try:
        yield
    finally:
        record.watchers.remove(watch)


def _keep(out, text):
    """Keeps what a person may want to read of an error that nobody expected."""
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out.parent / f"{out.name}.error.txt") as partial:
        partial.write_text(text)


def _line(error):
    """Returns the line of an error's message that says most: the first, or the last if the first
    only leads up to it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    return lines[-1 if lines[0].endswith(":") else 0][:500]
