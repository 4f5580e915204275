"""Tasks: what a model can be trained for. One package per task; `tasks.engine` trains them all."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from tasks.engine.flags import Between, flag
from tasks.engine.task import Task, register, tasks

if TYPE_CHECKING:
    from tasks.api import transfer
    from tasks.api.run import Run
    from tasks.api.training import finetune, train
    from tasks.api.tuner import HyperModel

__all__ = [
    "Between",
    "HyperModel",
    "Run",
    "Task",
    "finetune",
    "flag",
    "get",
    "names",
    "register",
    "train",
    "transfer",
]
API = {  # imported on first use, since these modules import the tasks, which import this one
    "HyperModel": "tasks.api.tuner",
    "Run": "tasks.api.run",
    "finetune": "tasks.api.training",
    "train": "tasks.api.training",
    "transfer": "tasks.api.transfer",  # a module
}


def get(name: str) -> type[Task]:
    """Returns the task class called `name`, such as `classification`.

    Raises:
        UsageError: no task has this name; the message names similar ones.
    """
    return tasks.get(name)


def names() -> list[str]:
    """Returns the names of all tasks, sorted."""
    return tasks.names()


def __getattr__(name: str) -> object:
    if name not in API:
        raise AttributeError(f"module 'tasks' has no attribute {name!r}")
    module = importlib.import_module(API[name])
    return module if API[name].endswith(f".{name}") else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
