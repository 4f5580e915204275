"""A trial: one run of a task, whose failures become results."""

from __future__ import annotations

import math
import traceback
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tasks.data import data_fingerprint
from tasks.engine import callbacks, recipes, resume, trainer
from zoo.atomic_files import atomic_write
from zoo.errors import UsageError
from zoo.lazy import tf

COMPLETED, STOPPED, FAILED = "completed", "stopped", "failed"
DIVERGED, OUT_OF_MEMORY, KILLED = (
    "diverged",
    "memory",
    "killed",
)  # failures with a status of their own
DATA_FLAGS = (  # flags that choose examples
    *("dataset", "data_dir", "train_split", "validation_split", "test_split", "group_by"),
)
BELOW_MEDIAN = "below the median of the other trials"


@dataclass(frozen=True)
class TrialResult:
    """The result of a trial.

    Attributes:
        status: `completed`; `stopped` early by the median rule; `failed`; `diverged`, if its loss
            is not finite; `memory`, if it ran out of memory; or `killed` by another process.
        reason: one line on why the trial is not completed.
    """

    status: str
    reason: str = ""


class TrialStopped(Exception):
    """Raised to stop a trial early."""


def run(task, out, report):
    """Trains a task in a run folder, or resumes it; returns the `TrialResult`.

    Args:
        task: a `tasks.Task`.
        out: the run folder.
        report: function of the scores of all epochs so far that returns whether to continue. It
            is called after each epoch and, if the trial is resumed, once before.
    """

    def watch(history):
        if len(history) == 1:  # a run that is resumed later compares its data itself
            _check_same_data(task, out)
        if history and not report(epoch_scores(task, history)):
            raise TrialStopped

    try:
        if (out / resume.STATE).exists():
            watch(resume.RunState(out).history)
        with _epoch_watcher(watch):
            trainer.train(task, out)
        return TrialResult(COMPLETED)
    except TrialStopped:
        return TrialResult(STOPPED, BELOW_MEDIAN)
    except callbacks.DivergenceError as error:
        return TrialResult(DIVERGED, str(error).partition(":")[0])
    except UsageError as error:
        return TrialResult(FAILED, _main_line(error))
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        return TrialResult(OUT_OF_MEMORY, _main_line(error) or "out of memory")
    except Exception as error:  # any failure is a result; the search goes on with other trials
        _write_traceback(out, traceback.format_exc())
        return TrialResult(FAILED, f"{type(error).__name__}: {_main_line(error)}")


def epoch_scores(task, history):
    """Returns the score of each epoch of a history: the first monitored metric of the task.

    Raises:
        UsageError: the history has no monitored metric, or the metric is not finite.
    """
    found = []
    for row in history:
        monitored_values = task.monitored_values(row)
        if not monitored_values:
            raise UsageError(
                "a search needs a validation split for the scores of trials; leave out "
                "--validation-split none"
            )
        if not math.isfinite(monitored_values[0]):
            raise UsageError(
                f"the monitored metric of {task.name} is {monitored_values[0]} in epoch "
                f"{row['epoch']}"
            )
        found.append(float(monitored_values[0]))
    return found


def _check_same_data(task, out):
    """Raises `UsageError` if a trial trains on other data than the first trial of its search.

    Only trials with the same flags of the data are compared.
    """
    flags = [name for name in DATA_FLAGS if hasattr(task, name)]
    data = resume.RunState(out).data
    for path in sorted(out.parent.glob(f"[0-9]*/{resume.STATE}")):
        first = path.parents[1]
        with suppress(UsageError):  # a damaged file of another trial
            recipe, known = recipes.read_recipe(first / recipes.RECIPE), resume.RunState(first).data
            if known and all(recipe.get(name) == getattr(task, name) for name in flags):
                break
    else:
        return
    differences = data_fingerprint.differences(known, data) if data else []
    if differences:
        raise UsageError(
            f"the data are not those of trial {first.name}: {'; '.join(differences)}; use the data "
            "that the search began with, or choose another --out"
        )


@contextmanager
def _epoch_watcher(watch):
    callbacks.epoch_listeners.append(watch)
    try:
        yield
    finally:
        callbacks.epoch_listeners.remove(watch)


def _write_traceback(out, text):
    """Writes the traceback of an unexpected error next to the run folder."""
    out.mkdir(parents=True, exist_ok=True)
    with atomic_write(out.parent / f"{out.name}.error.txt") as partial:
        partial.write_text(text)


def _main_line(error):
    """Returns the first line of an error message, or the last one if the first ends in a colon."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    return lines[-1 if lines[0].endswith(":") else 0][:500]
