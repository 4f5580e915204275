"""Finds run folders and reads the summary of each, also of unfinished and damaged ones."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tasks.data import safe_yaml
from tasks.data.dataset import short_name
from tasks.engine.recipes import RECIPE
from tasks.engine.resume import REPORT, STATE
from tasks.engine.run_folder import OWNER
from tasks.report import run_files
from zoo import file_lock
from zoo.errors import UsageError, unknown_name_error

FINISHED, RUNNING, UNFINISHED, DAMAGED = "finished", "running", "unfinished", "damaged"
LOWER_IS_BETTER = re.compile(r"(^|_)(loss|ece|fid|kid)$|^fd_")


@dataclass(frozen=True)
class RunSummary:
    """What a table of runs shows of one run.

    Attributes:
        path: The run folder.
        status: `finished`; `running`, in a process on this machine; `unfinished`; or `damaged`.
        date: The modification time of its report, or of its last checkpoint, in UTC.
        task, model, dataset: Names; empty if unknown.
        metric: The name of the main figure; empty if the run has none.
        value, low, high: The main figure and the ends of its interval, `None` if unknown.
        seconds: The time that the run took so far, or `None`.
        detail: The progress of a run that is not finished, or what is damaged.
    """

    path: Path
    status: str
    date: datetime
    task: str = ""
    model: str = ""
    dataset: str = ""
    metric: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    seconds: float | None = None
    detail: str = ""


SORT_KEYS = {
    "name": lambda run: str(run.path),
    "model": lambda run: run.model,
    "dataset": lambda run: run.dataset,
    "figure": lambda run: _best_first(run.metric, run.value),
    "seconds": lambda run: float("inf") if run.seconds is None else run.seconds,
    "date": lambda run: run.date,
}


def list_runs(folder, *, sort="name"):
    """Returns the summaries of all runs below a folder, grouped by task.

    Args:
        folder: A folder that is searched recursively, without following symbolic links; or a
            single run.
        sort: The order within a task, a key of `SORT_KEYS`; `figure` is the best first.

    Raises:
        UsageError: There is no such folder or order, or the folder contains no run.
    """
    folder = Path(folder)
    if sort not in SORT_KEYS:
        raise unknown_name_error("order", sort, list(SORT_KEYS))
    if not folder.is_dir():
        raise UsageError(f"no folder {folder}; `zoo train` and `zoo finetune` create runs/")
    found = [read_summary(path) for path in find_runs(folder)]
    if not found:
        raise UsageError(f"no run in {folder}; pass the folder that contains the run folders")
    return sorted(found, key=lambda run: (run.task, SORT_KEYS[sort](run)))


def find_runs(folder):
    """Returns the paths of the run folders in a folder, sorted; a run has a recipe."""
    found = []
    for path, folders, files in os.walk(folder):
        if RECIPE in files:
            found.append(Path(path))
            folders.clear()  # a run contains no other run
    return sorted(found)


def read_summary(path):
    """Returns the `RunSummary` of a run folder; damaged files do not raise."""
    finished = (path / REPORT).exists()
    date = _modified(path, (REPORT,) if finished else (STATE, RECIPE))
    try:
        return _read_finished(path, date) if finished else _read_unfinished(path, date)
    except UsageError as error:
        return RunSummary(path, DAMAGED, date, detail=str(error))


def main_figure(figures):
    """Returns the name of the first figure with an interval, else of the first; `""` for none."""
    with_interval = (name for name in figures if f"{name}_low" in figures)
    return next(with_interval, next(iter(figures), ""))


def _read_finished(path, date):
    report = run_files.read_report(path / REPORT)
    figures = report["figures"]
    metric = main_figure(figures)
    ends = {end: figures.get(f"{metric}_{end}") for end in ("low", "high")}
    return RunSummary(
        path,
        FINISHED,
        date,
        *(report["task"], *_names(report["flags"])),
        metric=metric,
        value=figures.get(metric),
        seconds=figures.get("seconds"),
        **ends,
    )


def _read_unfinished(path, date):
    recipe = safe_yaml.read(path / RECIPE, "a recipe")
    if not isinstance(recipe, dict) or not isinstance(recipe.get("task"), str):
        raise UsageError(f"{path / RECIPE} is not a recipe: it names no task")
    done, seconds = 0, None
    if (path / STATE).exists():
        state = run_files.read_state(path / STATE)
        done, seconds = state["epoch"], sum(state.get("times", {}).values())
    status = RUNNING if _is_running(path) else UNFINISHED
    detail = f"epoch {done} of {recipe.get('epochs', '?')}"
    names = recipe["task"], *_names(recipe)
    return RunSummary(path, status, date, *names, seconds=seconds, detail=detail)


def _names(flags):
    """Returns the names of the model and of the data set in the flags of a run."""
    model = flags.get("model") or flags.get("backbone") or ""
    return str(model), short_name(str(flags.get("dataset") or ""))


def _is_running(path):
    """Returns whether the owner of the lock is a process on this machine."""
    number, host = file_lock.read_owner(path / OWNER) or (0, "")
    if not number or host != socket.gethostname():
        return False
    try:
        os.kill(number, 0)
    except PermissionError:  # a process of another user
        return True
    except OSError:
        return False
    return True


def _modified(path, names):
    existing = next((path / name for name in names if (path / name).exists()), path)
    return datetime.fromtimestamp(existing.stat().st_mtime, UTC).replace(microsecond=0)


def _best_first(metric, value):
    if value is None or value != value:
        return float("inf")
    return value if LOWER_IS_BETTER.search(metric) else -value
