"""Recipes: the flags of a run in a YAML file that repeats it."""

from __future__ import annotations

import dataclasses

from tasks.data import safe_yaml
from tasks.engine.flags import rename_former_flags
from tasks.engine.task import RECORDED, tasks
from zoo.atomic_files import write_text
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import LazyModule

yaml = LazyModule("yaml")

RECIPE = "recipe.yaml"
DATA_DEPENDENT_FLAGS = ("image_bits", "scale")  # flags whose 0 or `auto` is resolved from the data


def recipe(task):
    """Returns the recipe of a task, a dict that repeats its run."""
    return {"task": task.name, **task.recipe_fields()}


def write_recipe(out, task, **facts):
    """Writes the recipe of a task, with further entries of `RECORDED`, into a run folder."""
    write_text(out / RECIPE, yaml.safe_dump({**recipe(task), **facts}, sort_keys=False))


def read_recipe(path):
    """Returns the recipe in a file, a dict; raises `UsageError` if it is not a recipe."""
    recipe = safe_yaml.read(path, "a recipe")
    if not isinstance(recipe, dict) or "task" not in recipe:
        raise UsageError(f"{path} is not a recipe: it names no task")
    if not isinstance(recipe["task"], str):
        raise UsageError(f"{path} is not a recipe: its task is {recipe['task']!r:.100}, not a name")
    if not isinstance(recipe.get("resolved") or {}, dict):
        raise UsageError(f"{path} is not a recipe: 'resolved' holds no values of flags by name")
    if recipe["task"] in tasks.names():
        task = tasks.get(recipe["task"])
        recipe = rename_former_flags(task, recipe)
        if recipe.get("resolved"):
            recipe["resolved"] = rename_former_flags(task, recipe["resolved"])
    return recipe


def task_from_recipe(recipe):
    """Returns the task that a recipe describes; flags that it does not name have their defaults.

    A flag at its default, such as `auto`, takes the value it was `resolved` to. Other recorded
    entries are ignored.

    Raises:
        UsageError: It names an unknown flag, or a value that is out of range.
    """
    flags = {key: value for key, value in recipe.items() if key not in ("task", *RECORDED)}
    make = tasks.get(recipe["task"])
    known = [field.name for field in dataclasses.fields(make)]
    for key in flags:
        if key not in known:
            raise unknown_name_error(f"flag of {recipe['task']}", key, known)
    defaults = {field.name: field.default for field in dataclasses.fields(make)}
    for key, value in (recipe.get("resolved") or {}).items():
        if key in defaults and flags.get(key, defaults[key]) == defaults[key]:
            flags[key] = value
    return make(**flags)


def without_resolved(recipe, names):
    """Returns a recipe without the resolved values of the flags in `names`."""
    resolved = recipe.get("resolved") or {}
    return {**recipe, "resolved": {k: v for k, v in resolved.items() if k not in names}}
