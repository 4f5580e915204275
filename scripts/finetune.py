"""Teaches a pretrained model your classes: zoo finetune resnet20.cifar10 FOLDER.

FOLDER has one folder of images per class. Without arguments it runs offline, on a sample
that comes with the package. Interrupted, the same command goes on where it was.
"""

from __future__ import annotations

import tasks
from scripts import _flags
from zoo.errors import UsageError

TASK = "classification"


def arguments(parser, words):
    """Adds this command's flags."""
    parser.add_argument("position_model", nargs="?", metavar="MODEL", help="as --model")
    parser.add_argument("position_dataset", nargs="?", metavar="DATASET", help="as --dataset")
    _flags.add(parser, tasks.get(TASK))


def run(args):
    """Trains, then prints the figures and where the report is."""
    from tasks.engine import trainer

    given = {}
    for name in ("model", "dataset"):
        value = getattr(args, f"position_{name}")
        if value is not None and hasattr(args, name):
            raise UsageError(f"the {name} is given twice: {value} and --{name} {vars(args)[name]}")
        if value is not None:
            given[name] = value
    task = _flags.to_task(TASK, args, given)
    out = _flags.folder(args, task)
    _flags.show(trainer.train(task, out), out, args.json)
