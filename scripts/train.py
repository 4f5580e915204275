"""Trains a model for a task and writes a report: zoo train classification --model lenet5.

`zoo train TASK --help` lists the flags of a task. After an interruption, the same command resumes
the run. A recipe repeats a run:

    zoo train --recipe runs/NAME/recipe.yaml --out DIR
"""

from __future__ import annotations

import tasks
from scripts import _flags
from tasks.engine import recipes
from zoo.errors import UsageError


def arguments(parser, words):
    """Adds the flags of the task that the command line or its recipe names."""
    parser.add_argument(
        "task", nargs="?", metavar="TASK", help=f"one of {', '.join(tasks.names())}"
    )
    name = words[0] if words and not words[0].startswith("-") else _recipe_task(words)
    if name:
        _flags.add_task_flags(parser, tasks.get(name))
    else:
        _flags.add_run_flags(parser)
    _flags.add_training_flags(parser, tasks.get(name) if name else None)


def run(args):
    """Trains the model, then prints the figures and the path of the report."""
    if not args.task and not args.recipe:
        raise UsageError(f"no task given; pass one of {', '.join(tasks.names())}, or a --recipe")
    task = _flags.task_from_args(args.task, args)
    _flags.train(args, task)


def _recipe_task(words):
    """Returns the task of the recipe on the command line, or `None`."""
    for word, after in zip(words, [*words[1:], ""], strict=False):
        if word == "--recipe" and after:
            return recipes.read_recipe(after)["task"]
        if word.startswith("--recipe="):
            return recipes.read_recipe(word.partition("=")[2])["task"]
    return None
