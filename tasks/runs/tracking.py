"""Experiment trackers: the flags, the history and the figures of a run in MLflow, W&B or Trackio.

Nothing is sent anywhere unless a variable of the tracker asks for it: MLflow writes to a file store
beside the run unless MLFLOW_TRACKING_URI is set, W&B is offline unless WANDB_MODE is, and Trackio
is local. A resumed run goes on where the tracker has it.
"""

from __future__ import annotations

import dataclasses
import importlib
import io
import json
import math
import os
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path

from tasks.distributed import strategies
from tasks.engine import callbacks, resume
from zoo import atomic_files
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import LazyModule, keras
from zoo.paths import read_text

mlflow = LazyModule("mlflow")
wandb = LazyModule("wandb")
trackio = LazyModule("trackio")

PROJECT = "keras-zoo"  # the experiment or project, by default
RECORD = "tracked.json"  # in the run folder: the id of the run in each tracker
# Some trackers report their own use to their makers by default.
PRIVATE = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_MODE": "offline",
}
STORE = "mlruns"  # the file store of MLflow, beside the run folder
MAX_PARAM_LENGTH = 500  # of a flag in MLflow


@contextmanager
def tracked(name, task, out):
    """Returns a scope in which a run is logged to a tracker; its figures are logged at the end.

    Args:
        name: `mlflow`, `wandb` or `trackio`, or `""` for none.
        task: The task that is trained.
        out: The run folder.

    Raises:
        UsageError: There is no such tracker, or it is not installed.
    """
    if name and name not in TRACKERS:
        raise unknown_name_error("tracker", name, list(TRACKERS))
    if not name or not strategies.is_chief():
        yield
        return
    out, flags = Path(out), dataclasses.asdict(task)
    if (out / resume.REPORT).exists():  # was logged as it was trained
        yield
        return
    for variable, value in PRIVATE.items():
        os.environ.setdefault(variable, value)
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError(f"--track {name} needs {name}: pip install 'keras-zoo[{name}]'") from error
    run = _TrackedRun(name, out, flags)
    start = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: run.start())
    callbacks.keras_callbacks.append(start)
    callbacks.epoch_listeners.append(run.log_epoch)
    try:
        yield
        figures = resume.read_report(out)["figures"]
        run.start().log({f"test_{key}": value for key, value in figures.items()}, task.epochs)
        run.finish(True)
    except BaseException:
        run.finish(False)
        raise
    finally:
        callbacks.epoch_listeners.remove(run.log_epoch)
        callbacks.keras_callbacks.remove(start)


@contextmanager
def resumed(task, out):
    """Returns a scope in which a run is logged to the trackers that it began with, if any.

    Raises:
        UsageError: A tracker is not installed any more, or the record in the folder is damaged.
    """
    with ExitStack() as stack:
        for name in _ids(Path(out)):
            stack.enter_context(tracked(name, task, out))
        yield


class _MLflow:
    def __init__(self, out, flags, run_id):
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            mlflow.set_tracking_uri((out.absolute().parent / STORE).as_uri())
        if not os.environ.get("MLFLOW_EXPERIMENT_NAME"):
            mlflow.set_experiment(PROJECT)
        self.run = mlflow.start_run(run_id=run_id, run_name=out.name)
        self.id, self.out = self.run.info.run_id, out
        if not run_id:
            mlflow.log_params({k: str(v)[:MAX_PARAM_LENGTH] for k, v in flags.items()})

    def log(self, values, step):
        mlflow.log_metrics(values, step=step)

    def finish(self, done):
        if done:
            mlflow.log_artifact(str(self.out / "report.html"))
        mlflow.end_run("FINISHED" if done else "KILLED")


class _Wandb:
    def __init__(self, out, flags, run_id):
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=out.name,
            dir=str(out.absolute().parent),
            config=flags,
            id=run_id,
            resume="allow",
        )
        self.id = self.run.id

    def log(self, values, step):
        self.run.log({**values, "epoch": step})

    def finish(self, done):
        self.run.finish(exit_code=0 if done else 1)


class _Trackio:
    def __init__(self, out, flags, run_id):
        self.id = run_id or out.name
        with redirect_stdout(io.StringIO()):
            trackio.init(project=PROJECT, name=self.id, config=flags, resume="allow")
        callbacks.print_status(f"{self.id} is logged: trackio show --project {PROJECT}")

    def log(self, values, step):
        trackio.log(values, step=step)

    def finish(self, done):
        with redirect_stdout(io.StringIO()):
            trackio.finish()


TRACKERS = {"mlflow": _MLflow, "wandb": _Wandb, "trackio": _Trackio}


def _ids(out):
    """Returns the ids of a run by tracker."""
    path = out / RECORD
    if not path.is_file():
        return {}
    try:
        found = json.loads(read_text(path))
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(x, str) for x in found.values()):
        raise UsageError(
            f"{path} is damaged: it has no ids of runs; delete it to log the rest of the "
            "run as a new one"
        )
    return found


class _TrackedRun:
    """A run of a tracker, which starts with the training: a refused run is not logged."""

    def __init__(self, name, out, flags):
        self.name, self.out, self.flags, self.tracker = name, out, flags, None
        self.earlier_id = _ids(out).get(name)

    def start(self):
        """Returns the tracker, whose run is started and recorded in the run folder if need be."""
        if self.tracker is None:
            self.tracker = TRACKERS[self.name](self.out, self.flags, self.earlier_id)
            record = json.dumps({**_ids(self.out), self.name: self.tracker.id})
            atomic_files.write_text(self.out / RECORD, record + "\n")
        return self.tracker

    def log_epoch(self, history):
        row = {key: value for key, value in history[-1].items() if _is_finite(value)}
        self.start().log(row, int(row.pop("epoch")))

    def finish(self, done):
        if self.tracker is not None:
            self.tracker.finish(done)


def _is_finite(value):
    return isinstance(value, int | float) and math.isfinite(value)
