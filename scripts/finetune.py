"""Teaches a pretrained model your classes: zoo finetune resnet20.cifar10 FOLDER.

FOLDER has one folder of images per class. Without arguments it runs offline, on a sample
that comes with the package. Interrupted, the same command goes on where it was.
"""

from __future__ import annotations

import tasks
from scripts import _flags

TASK = "classification"


def arguments(parser, words):
    """Adds this command's flags."""
    _flags.add_positionals(parser)
    _flags.add_task_flags(parser, tasks.get(TASK))


def run(args):
    """Trains, then prints the figures and where the report is."""
    task = _flags.task_from_args(TASK, args, _flags.positional_values(args))
    _flags.train(args, task)
