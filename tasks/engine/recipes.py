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
DATA_DEPENDENT_FLAGS = ("image_bits",)  # flags whose 0 or `auto` is resolved from the data


def recipe(task):
    """Returns the dict that repeats a task's run."""
    return {"task": task.name, **task.recipe_fields()}


def write_recipe(out, task, **facts):
    """Writes what repeats a task's run, with further facts of `RECORDED`, into its folder."""
    write_text(out / RECIPE, yaml.safe_dump({**recipe(task), **facts}, sort_keys=False))


def read_recipe(path):
    """Returns the recipe in a file, a dict; raises `UsageError` if there is none."""
    recipe = safe_yaml.read(path, "a recipe")
    if not isinstance(recipe, dict) or "task" not in recipe:
        raise UsageError(f"{path} is no recipe: it names no task")
    if not isinstance(recipe["task"], str):
        raise UsageError(f"{path} is no recipe: its task is {recipe['task']!r:.100}, and no name")
    if not isinstance(recipe.get("resolved") or {}, dict):
        raise UsageError(f"{path} is no recipe: 'resolved' holds no values of flags by name")
    if recipe["task"] in tasks.names():
        task = tasks.get(recipe["task"])
        recipe = rename_former_flags(task, recipe)
        if recipe.get("resolved"):
            recipe["resolved"] = rename_former_flags(task, recipe["resolved"])
    return recipe


def task_from_recipe(recipe):
    """Returns the task that a recipe describes; flags that it does not name have their defaults.

    Where a flag was left to the program, the value counts that it was `resolved` to. What else a
    recipe records is not asked.

    Raises:
        UsageError: it names a flag that the task does not have, or a value that it refuses.
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
    """Returns a recipe that leaves the flags of some names to the program again."""
    resolved = recipe.get("resolved") or {}
    return {**recipe, "resolved": {k: v for k, v in resolved.items() if k not in names}}
