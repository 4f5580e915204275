"""One trial: a whole run of a task, whatever becomes of it."""

from __future__ import annotations

import math
import traceback
from contextlib import contextmanager
from dataclasses import dataclass

from tasks.engine import callbacks, resume, trainer
from zoo.atomic_files import atomic_write
from zoo.errors import UsageError
from zoo.lazy import tf

COMPLETED, STOPPED, FAILED = "completed", "stopped", "failed"
DIVERGED, OUT_OF_MEMORY, KILLED = "diverged", "memory", "killed"  # kinds of failure, beside FAILED
BELOW_MEDIAN = "lags behind the median of the other trials"


@dataclass(frozen=True)
class TrialResult:
    """What became of a trial.

    Attributes:
        status: `completed`; `stopped`, because it lags; `failed`; `diverged`: its loss is no
            number; `memory`: there was too little; `killed` by another process.
        reason: why it is not complete, in a line.
    """

    status: str
    reason: str = ""


class TrialStopped(Exception):
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
        if history and not report(epoch_scores(task, history)):
            raise TrialStopped

    try:
        if (out / resume.STATE).exists():
            watch(resume.RunState(out).history)
        with _epoch_watcher(watch):
            trainer.train(task, out)
        return TrialResult(COMPLETED)
    except TrialStopped:
        return TrialResult(STOPPED, f"it {BELOW_MEDIAN}")
    except callbacks.DivergenceError as error:
        return TrialResult(DIVERGED, str(error).partition(":")[0])
    except UsageError as error:
        return TrialResult(FAILED, _main_line(error))
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        return TrialResult(OUT_OF_MEMORY, _main_line(error) or "out of memory")
    except Exception as error:
        _write_traceback(out, traceback.format_exc())
        return TrialResult(FAILED, f"{type(error).__name__}: {_main_line(error)}")


def epoch_scores(task, history):
    """Returns the score of each epoch of a history: the first of what the task chooses by.

    Raises:
        UsageError: the task has nothing to choose by, or it is no number.
    """
    found = []
    for row in history:
        monitored_values = task.monitored_values(row)
        if not monitored_values:
            raise UsageError(
                "a search needs a validation split to choose by; there is none: leave out "
                "--validation-split none"
            )
        if not math.isfinite(monitored_values[0]):
            raise UsageError(
                f"what {task.name} is chosen by is {monitored_values[0]} in epoch {row['epoch']}"
            )
        found.append(float(monitored_values[0]))
    return found


@contextmanager
def _epoch_watcher(watch):
    callbacks.epoch_listeners.append(watch)
    try:
        yield
    finally:
        callbacks.epoch_listeners.remove(watch)


def _write_traceback(out, text):
    """Keeps what a person may want to read of an error that nobody expected."""
    out.mkdir(parents=True, exist_ok=True)
    with atomic_write(out.parent / f"{out.name}.error.txt") as partial:
        partial.write_text(text)


def _main_line(error):
    """Returns the line of an error's message that says most: the first, or the last if the first
    only leads up to it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    return lines[-1 if lines[0].endswith(":") else 0][:500]
