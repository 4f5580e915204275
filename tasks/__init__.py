"""Tasks: what a model can be trained for. One package per task; `tasks.engine` trains them all."""

from __future__ import annotations

from tasks.engine.flags import Between, flag
from tasks.engine.task import Task, register, tasks

__all__ = ["Between", "Task", "flag", "get", "names", "register"]


def get(name: str) -> type[Task]:
    """Returns the task class called `name`, such as `classification`.

    Raises:
        UsageError: no task has this name; the message names similar ones.
    """
    return tasks.get(name)


def names() -> list[str]:
    """Returns the names of all tasks, sorted."""
    return tasks.names()
