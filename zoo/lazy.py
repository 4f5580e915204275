"""Modules that load on first use, so that `import zoo` costs milliseconds.

Every other file of `zoo` and `tasks` takes Keras from here:

    from zoo.lazy import keras, np

A module of functions then imports instantly, because nothing inside a function
runs until it is called. Classes derived from Keras cannot wait, so they live in
`zoo/layers/` and `tasks/engine/custom_step.py`, which import Keras for real and are
themselves reached only through a lazy name.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import TYPE_CHECKING


class LazyModule(ModuleType):
    """Stands in for the module of the same name until an attribute is wanted."""

    def __getattr__(self, name):
        if name.startswith("__"):  # probes by inspect, pytest and doctest
            raise AttributeError(name)
        # TensorFlow greets every process with lines about its build; errors still show.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        importlib.import_module("logging").getLogger("tensorflow").addFilter(_is_relevant)
        value = getattr(importlib.import_module(self.__name__), name)
        setattr(self, name, value)
        return value


def _is_relevant(record):
    """Tells whether a line of TensorFlow's log is of use: not that functions are traced again."""
    return "tf.function retracing" not in str(record.msg)


if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf
else:
    keras = LazyModule("keras")
    np = LazyModule("numpy")
    tf = LazyModule("tensorflow")
