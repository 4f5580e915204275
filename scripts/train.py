"""Trains a task and writes its report: zoo train classification --model lenet5.

With a recipe the task need not be named: zoo train --recipe runs/NAME/recipe.yaml --out DIR.
Interrupted, the same command goes on where it was.
"""

from __future__ import annotations

import tasks
from scripts import _flags
from tasks.engine import recipes
from zoo.errors import UsageError


def arguments(parser, words):
    """Adds the flags of the task that the words name, or their recipe."""
    parser.add_argument(
        "task", nargs="?", metavar="TASK", help=f"one of {', '.join(tasks.names())}"
    )
    name = words[0] if words and not words[0].startswith("-") else _recipe_task(words)
    if name:
        _flags.add_task_flags(parser, tasks.get(name))
    else:
        _flags.add_run_flags(parser)


def run(args):
    """Trains, then prints the figures and where the report is."""
    if not args.task and not args.recipe:
        raise UsageError(f"name a task ({', '.join(tasks.names())}) or give a --recipe")
    task = _flags.task_from_args(args.task, args)
    _flags.train(args, task)


def _recipe_task(words):
    """Returns the task of the recipe among the words, or `None`."""
    for word, after in zip(words, [*words[1:], ""], strict=False):
        if word == "--recipe" and after:
            return recipes.read_recipe(after)["task"]
        if word.startswith("--recipe="):
            return recipes.read_recipe(word.partition("=")[2])["task"]
    return None
