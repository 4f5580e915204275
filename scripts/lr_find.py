"""Finds a learning rate with a range test: zoo lr-find resnet20.cifar10 FOLDER.

Takes the model, data set and flags of `zoo finetune`; the model is not saved. The learning rate
rises at each step until the loss diverges. The suggested rate is the one at which the loss falls
fastest.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import tasks
from scripts import _flags
from zoo.atomic_files import atomic_write
from zoo.errors import UsageError

TASK = "classification"


def arguments(parser, words):
    """Adds the options of this command."""
    from tasks.advice import lr_find

    _flags.add_positionals(parser)
    _flags.add_task_flags(parser, tasks.get(TASK), run=False)
    for name, kind, default, text in (
        ("low", float, lr_find.MIN_LEARNING_RATE, "first learning rate"),
        ("high", float, lr_find.MAX_LEARNING_RATE, "last learning rate"),
        ("steps", int, lr_find.NUM_STEPS, "number of steps"),
    ):
        parser.add_argument(
            f"--{name}",
            type=kind,
            default=default,
            metavar=_flags.METAVARS[kind],
            help=f"{text} (default: {default:g})",
        )
    parser.add_argument("--recipe", metavar="FILE", help="recipe.yaml to take flags from")
    parser.add_argument(
        "--plot",
        metavar="FILE",
        default="lr-find.svg",
        help="SVG file for the plot of loss against learning rate (default: lr-find.svg)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args):
    """Prints the suggested learning rate and plots the loss against the learning rate."""
    from tasks.advice import lr_find, lr_plot

    task = _flags.task_from_args(TASK, args, _flags.positional_values(args))
    if not args.plot.endswith(".svg"):
        raise UsageError(f"--plot must name an SVG file, not {args.plot}")
    found = lr_find.lr_find(task, low=args.low, high=args.high, steps=args.steps)
    with atomic_write(Path(args.plot)) as partial:
        drawn = lr_plot.lr_svg(found.rates, found.losses, found.smoothed, found.suggestion)
        partial.write_text(drawn, encoding="utf-8")
    if args.json:
        print(json.dumps({**dataclasses.asdict(found), "plot": args.plot}))
        return
    print(f"suggestion: --learning-rate {found.suggestion:.1e}, where the loss falls fastest")
    print(f"lowest loss at {found.lowest:.1e}; higher rates are too high")
    print(f"plot: {args.plot}")
