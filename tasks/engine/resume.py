"""The run folder: whose it is, how far it came, and how to go on from there.

Every file is replaced in one step, so that at any moment the folder holds a state from which to
go on, and a full disk costs the last epoch at most.
"""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

from tasks.engine.task import tasks
from zoo.errors import UsageError, unknown
from zoo.files import replacing
from zoo.lazy import LazyModule, np

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
        asked, there = (recipe(each) for each in (task, to_task(read_recipe(found))))
        for key, value in asked.items():
            if value != there.get(key):
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
    return {"task": task.name, **dataclasses.asdict(task)}


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

    Raises:
        UsageError: it names a flag that the task does not have, or a value that it refuses.
    """
    flags = {key: value for key, value in recipe.items() if key != "task"}
    make = tasks.get(recipe["task"])
    known = [field.name for field in dataclasses.fields(make)]
    for key in flags:
        if key not in known:
            raise unknown(f"flag of {recipe['task']}", key, known)
    return make(**flags)


def write_text(path, text):
    """Writes a small file in one step."""
    with replacing(path) as partial:
        partial.write_text(text)


class State:
    """How far a run came: what of it is not in the model's own variables.

    Attributes:
        epoch: epochs completed.
        history: one dict of floats per completed epoch.
        best: the epoch, from 1, whose weights are kept as the best, or 0.
        seeds: states of the model's random number generators; Keras saves not all of them.
        weights, best_weights: names of the checkpoints' files.
    """

    def __init__(self, out):
        self.path = Path(out) / STATE
        self.epoch, self.history, self.best, self.seeds = 0, [], 0, []
        self.weights = self.best_weights = ""
        if self.path.exists():
            vars(self).update(json.loads(self.path.read_text()))

    def file(self, name):
        """Returns the path of a checkpoint's file."""
        return self.path.parent / name

    def save(self, model, *, better):
        """Writes a checkpoint of `model` after one more epoch, then drops the one before."""
        old = {self.weights, self.best_weights}
        self.weights = f"epoch-{self.epoch:04}.weights.h5"
        with replacing(self.file(self.weights)) as partial:
            model.save_weights(partial)
        if better:
            self.best, self.best_weights = self.epoch, self.weights
        self.seeds = [np.asarray(seed).tolist() for seed in seeds(model)]
        facts = {key: value for key, value in vars(self).items() if key != "path"}
        write_text(self.path, json.dumps(facts))
        for name in old - {self.weights, self.best_weights, ""}:
            self.file(name).unlink(missing_ok=True)


def write_history(out, history):
    """Writes one row per epoch into `history.csv`."""
    columns = list(dict.fromkeys(key for row in history for key in row))
    with replacing(out / "history.csv") as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(history)


def restore(model, state):
    """Puts a model, its optimiser and its random states where the checkpoint left them."""
    if state.weights:
        model.optimizer.build(model.trainable_variables)
        model.load_weights(state.file(state.weights))
        for seed, value in zip(seeds(model), state.seeds, strict=True):
            seed.assign(np.array(value, seed.dtype))


def seeds(model):
    """Returns the variables that the model's random numbers come from, in order."""
    return [variable for variable in model.variables if variable.name == "seed_generator_state"]


def restore_best(model, state):
    """Gives a model the best weights of the run."""
    if state.best_weights and state.best_weights != state.weights:
        model.load_weights(state.file(state.best_weights))
