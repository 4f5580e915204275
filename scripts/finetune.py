"""Fine-tunes a pretrained classifier on your images: zoo finetune resnet20.cifar10 FOLDER.

FOLDER has one folder of images per class. Without arguments the command runs offline, on the
sample data set of the package. After an interruption, the same command resumes the run.
"""

from __future__ import annotations

import tasks
from scripts import _flags

TASK = "classification"


def arguments(parser, words):
    """Adds the options of this command."""
    _flags.add_positionals(parser)
    _flags.add_task_flags(parser, tasks.get(TASK))
    _flags.add_training_flags(parser)


def run(args):
    """Trains the model, then prints the figures and the path of the report."""
    task = _flags.task_from_args(TASK, args, _flags.positional_values(args))
    _flags.train(args, task)
