"""The run folder: whose it is, how far it came, and how to go on from there.

Every file is replaced in one step, so that at any moment the folder holds a state from which to
go on, and a full disk costs the last epoch at most.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import zipfile
from pathlib import Path

from tasks.engine.task import RECORDED, tasks
from zoo.errors import UsageError, unknown
from zoo.files import replacing
from zoo.lazy import LazyModule, keras, np

yaml = LazyModule("yaml")

RECIPE, REPORT, MODEL = "recipe.yaml", "report.json", "model.keras"
STATE = "checkpoint/state.json"


def claim(out, task):
    """Makes `out` the folder of a task's run, or finds that it already is.

    Args:
        out: a `Path`.
        task: the `tasks.Task`.

    Raises:
        UsageError: the folder holds another recipe's run, or something else.
    """
    found = out / RECIPE
    if (out / STATE).exists() or (out / REPORT).exists():
        asked, read = recipe(task), read_recipe(found)
        there = recipe(to_task(read))
        defaults = {field.name: field.default for field in dataclasses.fields(task)}
        for key, value in asked.items():
            followed = key in _resolved(read) and value == defaults.get(key)  # from the same data
            if value != there.get(key) and not followed:
                raise UsageError(
                    f"{out} holds another run ({key}: {there.get(key)!r} there, {value!r} asked); "
                    "choose another --out"
                )
        return
    # A run that failed before its first epoch ended has left nothing to lose.
    if out.exists() and not found.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there and is no run's folder; choose another --out")
    write_text(found, yaml.safe_dump(recipe(task), sort_keys=False))


def recipe(task):
    """Returns the dict that repeats a task's run."""
    return {"task": task.name, **task.recorded()}


def record(out, flags):
    """Writes the values of flags that followed from the data into the recipe in a run's folder."""
    found = {**read_recipe(out / RECIPE), **flags, "resolved": list(flags)}
    write_text(out / RECIPE, yaml.safe_dump(found, sort_keys=False))


def model_in(out):
    """Returns the path of the model in a run's folder; raises `UsageError` if it has none yet."""
    if not (out / MODEL).exists():
        raise UsageError(f"{out} holds no finished run: it has no {MODEL}")
    return out / MODEL


def read_recipe(path):
    """Returns the recipe in a file, a dict; raises `UsageError` if there is none."""
    try:
        recipe = yaml.safe_load(Path(path).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"{path} cannot be read as a recipe: {error}") from error
    if not isinstance(recipe, dict) or "task" not in recipe:
        raise UsageError(f"{path} is no recipe: it names no task")
    return recipe


def to_task(recipe):
    """Returns the task that a recipe describes; flags that it does not name have their defaults.

    What else a recipe records is not asked.

    Raises:
        UsageError: it names a flag that the task does not have, or a value that it refuses.
    """
    flags = {key: value for key, value in recipe.items() if key not in ("task", *RECORDED)}
    make = tasks.get(recipe["task"])
    known = [field.name for field in dataclasses.fields(make)]
    for key in flags:
        if key not in known:
            raise unknown(f"flag of {recipe['task']}", key, known)
    return make(**flags)


def _resolved(recipe):
    found = recipe.get("resolved")
    return [key for key in found if key != "task"] if isinstance(found, list) else []


def without_resolved(recipe):
    """Returns a recipe without what followed from the data of its run, to be used with others."""
    return {key: value for key, value in recipe.items() if key not in _resolved(recipe)}


def write_text(path, text):
    """Writes a small file in one step."""
    with replacing(path) as partial:
        partial.write_text(text)


class State:
    """How far a run came, and the files that hold what its variables were then.

    Attributes:
        epoch: epochs completed.
        step: steps done of the epoch under way.
        seconds: time that these steps took.
        history: one dict of floats per completed epoch.
        best: the epoch, from 1, whose weights are kept as the best, or 0.
        weights, best_weights: names of the checkpoints' files.
        older: names of further checkpoints that are still there, the oldest first.
    """

    def __init__(self, out, *, begun=True):
        self.path = Path(out) / STATE
        self.epoch, self.step, self.seconds, self.history, self.best = 0, 0, 0.0, [], 0
        self.weights = self.best_weights = ""
        self.older = []
        if begun and self.path.exists():
            self.take(json.loads(self.path.read_text()))

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
        with replacing(self.path.parent / self.weights) as partial:
            np.savez(partial, **{name: _plain(array) for name, array in arrays.items()})
        if better:
            self.best, self.best_weights = self.epoch, self.weights
        self.older = older[max(0, len(older) - keep + 1) :]
        write_text(self.path, json.dumps(self.facts()))
        for name in before - {self.weights, self.best_weights, *self.older}:
            (self.path.parent / name).unlink(missing_ok=True)

    def read(self, name, team=None):
        """Returns the arrays of a checkpoint by name; raises `UsageError` if it is none.

        Args:
            name: of its file.
            team: the `crew.Alone` whose chief has the file; `None` where each process has it.
        """
        path = self.path.parent / name
        try:
            file = io.BytesIO(team.handed(path.read_bytes)) if team and team.count > 1 else path
            with np.load(file, allow_pickle=False) as archive:
                return {key: archive[key] for key in archive.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise UsageError(
                f"the checkpoint {path} cannot be read ({error}); start again with another --out"
            ) from error


def write_history(out, history):
    """Writes one row per epoch into `history.csv`."""
    columns = list(dict.fromkeys(key for row in history for key in row))
    with replacing(out / "history.csv") as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(history)


def assign(variables, arrays, prefix):
    """Gives variables the values under `prefix/NUMBER` among some arrays.

    Raises:
        UsageError: they are of another model.
    """
    for number, variable in enumerate(variables):
        array = arrays.get(f"{prefix}/{number}")
        if array is None or tuple(array.shape) != tuple(variable.shape):
            raise UsageError(
                f"the checkpoint does not fit the model at {variable.path}: it is of another "
                "version of this program; start again with another --out"
            )
        variable.assign(_typed(array, variable.dtype))


def values(variables, prefix):
    """Returns the values of variables as arrays by `prefix/NUMBER`."""
    return {f"{prefix}/{n}": keras.ops.convert_to_numpy(v) for n, v in enumerate(variables)}


def _plain(array):
    """Returns an array as a file of NumPy can hold it, bfloat16 as its bits."""
    return array.view("uint16") if array.dtype.name == "bfloat16" else array


def _typed(array, dtype):
    return array.view(np.dtype(dtype)) if dtype == "bfloat16" else array
