"""The run folder: whose it is, how far it came, and how to go on from there.

Every file is replaced in one step, so that at any moment the folder holds a state from which to
go on, and a full disk costs the last epoch at most.
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

REPORT, MODEL = "report.json", "model.keras"
STATE = "checkpoint/state.json"
# What reading a damaged archive raises; RuntimeError where a flag says that it is encrypted or
# compressed in an unknown way.
READ_ERRORS = (
    *(OSError, ValueError, EOFError, KeyError, RuntimeError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)
DATA_LOCATION_FLAGS = ("dataset", "data_dir")  # flags that say where data are


def check_folder(out, task):
    """Refuses a folder that is not that of a task's run, nor free to become it; writes nothing.

    An unfinished run may go on with its data in another place, if `same_data` finds them the same.

    Args:
        out: a `Path`.
        task: the `tasks.Task`.

    Returns:
        Whether the folder holds something of the run.

    Raises:
        UsageError: the folder holds another recipe's run, or something else.
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
            # A recipe repeats a run with what its flags were resolved to, also into its own folder.
            if value not in (existing.get(key), resolved.get(key)):
                raise UsageError(
                    f"{out} holds another run ({key}: {existing.get(key)!r} there, {value!r} "
                    "asked); "
                    "choose another --out"
                )
        return True
    # A run that failed before its first epoch ended has left nothing to lose.
    if out.exists() and not found.exists() and (not out.is_dir() or _has_other_files(out)):
        raise UsageError(f"{out} is there and is no run's folder; choose another --out")
    return False


def claim_folder(out, task):
    """Makes `out` the folder of a task's run, or finds that it already is, as `check` does."""
    if not check_folder(out, task):
        recipes.write_recipe(out, task)


def check_same_data(out, state, found):
    """Refuses to go on with other data than a run began with.

    Args:
        out: the run's folder.
        state: its `State`.
        found: what `Task.data_identity` returns of the data that are there now.

    Raises:
        UsageError: they differ; it says how.
    """
    differences = data_fingerprint.differences(state.data, found)
    if state.data and differences:
        raise UsageError(
            f"{out} was trained on other data: {'; '.join(differences)}. Give it the data that it "
            "began with, or choose another --out"
        )


def model_path(out):
    """Returns the path of the model in a run's folder; raises `UsageError` if it has none yet."""
    if not (out / MODEL).exists():
        raise UsageError(f"{out} holds no finished run: it has no {MODEL}")
    return out / MODEL


def read_report(out):
    """Returns the record of a finished run, `None` if there is none.

    Raises:
        UsageError: it is damaged.
    """
    return run_files.read_report(out / REPORT) if (out / REPORT).exists() else None


class RunState:
    """How far a run came, and the files that hold what its variables were then.

    Attributes:
        epoch: epochs completed.
        step: steps done of the epoch under way.
        seconds: time that these steps took.
        history: one dict of floats per completed epoch.
        best: the epoch, from 1, whose weights are kept as the best, or 0.
        weights, best_weights: names of the checkpoints' files.
        older: names of further checkpoints that are still there, the oldest first.
        times: seconds that the run took so far, by part.
        data: what `Task.data_identity` returned; empty in folders of earlier versions.
    """

    def __init__(self, out, *, begun=True):
        self.path = Path(out) / STATE
        self.epoch, self.step, self.seconds, self.history, self.best = 0, 0, 0.0, [], 0
        self.weights = self.best_weights = ""
        self.older, self.times, self.data = [], {}, {}
        if begun and self.path.exists():
            self.take(run_files.read_state(self.path))

    def facts(self):
        """Returns all that the state is, but for its place, as JSON has it."""
        return {key: value for key, value in vars(self).items() if key != "path"}

    def take(self, facts):
        """Becomes the state whose `facts` are given."""
        vars(self).update(facts)

    def save(self, arrays, *, better=False, keep=1):
        """Writes a checkpoint, then drops those that are not wanted any more.

        Until the last moment, when the small file that names it is replaced, the one before
        holds.

        Args:
            arrays: name to array, of all that changes in a run.
            better: whether its weights are the best so far.
            keep: how many of the latest checkpoints to keep.
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
        """Returns the arrays of a checkpoint by name; raises `UsageError` if it is none.

        Args:
            name: of its file.
            process_group: the `process_group.SingleProcess` whose chief has the file; `None` where
                each
            process has it.
        """
        path = self.path.parent / name
        try:
            several = process_group and process_group.count > 1
            with (
                io.BytesIO(process_group.broadcast_bytes(path.read_bytes))
                if several
                else path.open("rb") as file
            ):
                archive = np.load(file, allow_pickle=False)
                if isinstance(archive, np.ndarray):
                    raise ValueError("it is one array, and no archive of arrays")
                return {key: archive[key] for key in archive.files}
        except READ_ERRORS as error:
            raise UsageError(
                f"the checkpoint {path} cannot be read ({error}); start again with another --out"
            ) from error


def write_history(out, history):
    """Writes one row per epoch into `history.csv`."""
    columns = list(dict.fromkeys(key for row in history for key in row))
    with atomic_write(out / "history.csv") as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, [escape_formula(column) for column in columns])
        writer.writeheader()
        writer.writerows(map(escape_row, history))


def assign_values(variables, arrays, prefix):
    """Gives variables the values under `prefix/NUMBER` among some arrays.

    Raises:
        UsageError: they are of another model.
    """
    for number, variable in enumerate(variables):
        array = arrays.get(f"{prefix}/{number}")
        numbers = array is not None and array.dtype.kind in "biufc"
        if not numbers or tuple(array.shape) != tuple(variable.shape):
            raise UsageError(
                f"the checkpoint does not fit the model at {variable.path}: it is of another "
                "version of this program; start again with another --out"
            )
        variable.assign(_from_storable(array, variable.dtype))


def variable_values(variables, prefix):
    """Returns the values of variables as arrays by `prefix/NUMBER`."""
    return {f"{prefix}/{n}": keras.ops.convert_to_numpy(v) for n, v in enumerate(variables)}


def _has_other_files(out):
    """Tells whether a folder holds something that a run has not put there before its recipe."""
    return any(path.name not in run_folder.OWN_FILES for path in out.iterdir())


def _to_storable(array):
    """Returns an array as a file of NumPy can hold it, bfloat16 as its bits."""
    return array.view("uint16") if array.dtype.name == "bfloat16" else array


def _from_storable(array, dtype):
    return array.view(np.dtype(dtype)) if dtype == "bfloat16" else array
