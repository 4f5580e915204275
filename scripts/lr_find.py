"""Finds a learning rate by a range test: zoo lr-find resnet20.cifar10 FOLDER.

The model, the data and the flags are those of `zoo finetune`; nothing of the model is kept. The
rate rises step by step until the loss runs away, and the one to take is where it fell fastest.
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
    """Adds this command's flags."""
    from tasks.advice import lr_find

    _flags.add_positionals(parser)
    _flags.add_task_flags(parser, tasks.get(TASK), run=False)
    parser.add_argument("--low", type=float, default=lr_find.MIN_LEARNING_RATE, help="first rate")
    parser.add_argument("--high", type=float, default=lr_find.MAX_LEARNING_RATE, help="last rate")
    parser.add_argument("--steps", type=int, default=lr_find.NUM_STEPS, help="rates between them")
    parser.add_argument("--recipe", metavar="FILE", help="a recipe.yaml to start from")
    parser.add_argument("--plot", metavar="FILE", default="lr-find.svg", help="picture to write")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args):
    """Prints the rate to take, and draws the loss by rate."""
    from tasks.advice import lr_find, lr_plot

    task = _flags.task_from_args(TASK, args, _flags.positional_values(args))
    if not args.plot.endswith(".svg"):
        raise UsageError(f"--plot takes the name of an SVG file, not {args.plot}")
    found = lr_find.lr_find(task, low=args.low, high=args.high, steps=args.steps)
    with atomic_write(Path(args.plot)) as partial:
        drawn = lr_plot.lr_svg(found.rates, found.losses, found.smoothed, found.suggestion)
        partial.write_text(drawn, encoding="utf-8")
    if args.json:
        print(json.dumps({**dataclasses.asdict(found), "plot": args.plot}))
        return
    print(f"take --learning-rate {found.suggestion:.1e}, where the loss falls fastest")
    print(f"it is lowest at {found.lowest:.1e}; from there on the rate is too high")
    print(f"picture: {args.plot}")
