"""Things to teach a model. One file per task; what tasks share is in `tasks.engine`."""

from tasks.engine.flags import Between, flag
from tasks.engine.task import Task, register, tasks

__all__ = ["Between", "Task", "flag", "get", "names", "register"]

get = tasks.get
names = tasks.names
