"""Resuming a run: the check of its folder, its state, and its checkpoints.

Every file is replaced atomically, so that at any moment the folder holds a state to resume from,
and a full disk costs the last epoch at most.
"""

from __future__ import annotations

import csv
import io
import json
import struct
import zipfile
import zlib
from pathlib import Path

from tasks.data import data_fingerprint
from tasks.engine import recipes, run_folder
from tasks.report import run_files
from tasks.report.csv_cells import escape_formula, escape_row
from zoo.atomic_files import atomic_write, write_text
from zoo.errors import UsageError
from zoo.lazy import keras, np
from zoo.paths import check_regular

REPORT, MODEL = "report.json", "model.keras"
STATE = "checkpoint/state.json"
# Exceptions from reading a damaged archive; RuntimeError if it is marked as encrypted or
# compressed in an unknown way.
READ_ERRORS = (
    *(OSError, ValueError, EOFError, KeyError, RuntimeError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)
DATA_LOCATION_FLAGS = ("dataset", "data_dir")


def check_folder(out, task):
    """Raises `UsageError` if a folder cannot be that of a task's run; writes nothing.

    An interrupted run may resume with its data in another location, if `check_same_data` accepts
    them.

    Args:
        out: A `Path`.
        task: The `tasks.Task`.

    Returns:
        Whether the folder holds a state or a report of this run.

    Raises:
        UsageError: The folder holds the run of another recipe, or other files.
    """
    found = out / recipes.RECIPE
    finished = (out / REPORT).exists()
    if finished or (out / STATE).exists():
        read = recipes.read_recipe(found)
        requested, resolved = recipes.recipe(task), read.get("resolved") or {}
        moved = DATA_LOCATION_FLAGS if not finished and RunState(out).data else ()
        location = {key: requested[key] for key in moved if key in requested}
        existing = recipes.recipe(recipes.task_from_recipe({**read, **location, "resolved": {}}))
        for key, value in requested.items():
            # A recipe repeats a run with the resolved values, also in the folder of that run.
            if value not in (existing.get(key), resolved.get(key)):
                raise UsageError(
                    f"{out} contains another run ({key}: {existing.get(key)!r} there, {value!r} "
                    "requested); choose another --out"
                )
        return True
    # A run that failed in its first epoch has left nothing that could be lost.
    if out.exists() and not found.exists() and (not out.is_dir() or _has_other_files(out)):
        raise UsageError(f"{out} exists and is not a run folder; choose another --out")
    return False


def claim_folder(out, task):
    """Writes the recipe of a task into `out`, unless `check_folder` finds its run there."""
    if not check_folder(out, task):
        recipes.write_recipe(out, task)


def check_same_data(out, state, found):
    """Raises `UsageError` if a run would be resumed with other data than it began with.

    Args:
        out: The run folder.
        state: Its `RunState`.
        found: The `Task.data_fingerprint` of the present data.

    Raises:
        UsageError: The data differ; the message states how.
    """
    differences = data_fingerprint.differences(state.data, found)
    if state.data and differences:
        raise UsageError(
            f"{out} was trained on other data: {'; '.join(differences)}. Use the data that it "
            "began with, or choose another --out"
        )


def model_path(out):
    """Returns the path of the model in a run folder; raises `UsageError` if there is none."""
    if not (out / MODEL).exists():
        raise UsageError(f"{out} contains no finished run: {MODEL} is missing")
    return out / MODEL


def read_report(out):
    """Returns the report of a finished run, or `None` if the run is not finished.

    Raises:
        UsageError: The report is damaged.
    """
    return run_files.read_report(out / REPORT) if (out / REPORT).exists() else None


class RunState:
    """The progress of a run, and its checkpoint files.

    Attributes:
        epoch: Epochs completed.
        step: Steps completed in the current epoch.
        seconds: Seconds that these steps took.
        history: One dict of floats per completed epoch.
        best: The epoch, from 1, whose weights are kept as the best, or 0.
        weights, best_weights: Names of the checkpoint files.
        older: Names of further checkpoints that are kept, the oldest first.
        times: Seconds spent so far, by phase of the run.
        data: What `Task.data_fingerprint` returned; empty in folders of earlier versions.
    """

    def __init__(self, out, *, begun=True):
        self.path = Path(out) / STATE
        self.epoch, self.step, self.seconds, self.history, self.best = 0, 0, 0.0, [], 0
        self.weights = self.best_weights = ""
        self.older, self.times, self.data = [], {}, {}
        if begun and self.path.exists():
            self.take(run_files.read_state(self.path))

    def facts(self):
        """Returns the state without its path, as JSON types."""
        return {key: value for key, value in vars(self).items() if key != "path"}

    def take(self, facts):
        """Replaces the state by `facts`."""
        vars(self).update(facts)

    def save(self, arrays, *, better=False, keep=1):
        """Writes a checkpoint, then removes those that are no longer needed.

        The previous checkpoint remains valid until the state file, which names the new one, is
        replaced as the last step.

        Args:
            arrays: Arrays by name, of everything that changes during a run.
            better: Whether its weights are the best so far.
            keep: The number of latest checkpoints to keep.
        """
        before = {self.weights, self.best_weights, *self.older} - {""}
        older = [*self.older, self.weights]
        self.weights = f"epoch-{self.epoch:04}-step-{self.step:07}.npz"
        older = [name for name in older if name not in ("", self.weights)]
        with atomic_write(self.path.parent / self.weights) as partial:
            np.savez(partial, **{name: _to_storable(array) for name, array in arrays.items()})
        if better:
            self.best, self.best_weights = self.epoch, self.weights
        self.older = older[max(0, len(older) - keep + 1) :]
        write_text(self.path, json.dumps(self.facts()))
        for name in before - {self.weights, self.best_weights, *self.older}:
            (self.path.parent / name).unlink(missing_ok=True)

    def read(self, name, process_group=None):
        """Returns the arrays of a checkpoint by name; raises `UsageError` if it is damaged.

        Args:
            name: The name of its file.
            process_group: The process group whose chief has the file; `None` if each process has
                it.
        """
        path = self.path.parent / name
        try:
            several = process_group and process_group.count > 1
            with (
                io.BytesIO(process_group.broadcast_bytes(lambda: check_regular(path).read_bytes()))
                if several
                else check_regular(path).open("rb") as file
            ):
                archive = np.load(file, allow_pickle=False)
                if isinstance(archive, np.ndarray):
                    raise ValueError("it is a single array, not an archive of arrays")
                return {key: archive[key] for key in archive.files}
        except READ_ERRORS as error:
            raise UsageError(
                f"the checkpoint {path} cannot be read ({error}); start again with another --out"
            ) from error


def write_history(out, history):
    """Writes one row per epoch into `history.csv`."""
    columns = list(dict.fromkeys(key for row in history for key in row))
    with atomic_write(out / run_files.HISTORY) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, [escape_formula(column) for column in columns])
        writer.writeheader()
        writer.writerows(map(escape_row, history))


def assign_values(variables, arrays, prefix):
    """Assigns the arrays named `prefix/NUMBER` to variables.

    Raises:
        UsageError: They are of another model.
    """
    for number, variable in enumerate(variables):
        array = arrays.get(f"{prefix}/{number}")
        numbers = array is not None and array.dtype.kind in "biufc"
        if not numbers or tuple(array.shape) != tuple(variable.shape):
            raise UsageError(
                f"the checkpoint does not match the model at {variable.path}: it is from another "
                "version of keras-zoo; start again with another --out"
            )
        variable.assign(_from_storable(array, variable.dtype))


def variable_values(variables, prefix):
    """Returns the values of variables as arrays by `prefix/NUMBER`."""
    return {f"{prefix}/{n}": keras.ops.convert_to_numpy(v) for n, v in enumerate(variables)}


def _has_other_files(out):
    """Returns whether a folder holds files that a run does not write before its recipe."""
    return any(path.name not in run_folder.OWN_FILES for path in out.iterdir())


def _to_storable(array):
    """Returns an array as NumPy can store it: bfloat16 as its bits."""
    return array.view("uint16") if array.dtype.name == "bfloat16" else array


def _from_storable(array, dtype):
    return array.view(np.dtype(dtype)) if dtype == "bfloat16" else array
