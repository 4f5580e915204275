"""What the commands do, in Python: `finetune` and `train` return a `Run`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from tasks.api.run import Run
from tasks.api.training import finetune, train

if TYPE_CHECKING:
    from tasks.api.tuner import HyperModel

__all__ = ["HyperModel", "Run", "finetune", "train"]
TUNER = "tasks.api.tuner"  # imports keras-tuner, an extra


def __getattr__(name: str) -> object:
    if name != "HyperModel":
        raise AttributeError(f"module 'tasks.api' has no attribute {name!r}")
    return importlib.import_module(TUNER).HyperModel
