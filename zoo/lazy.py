"""Lazy imports, so that `import zoo` takes milliseconds.

Every other file of `zoo` and `tasks` imports Keras, NumPy and TensorFlow from here:

    from zoo.lazy import keras, np

A module of functions is then imported instantly, because nothing inside a function runs before it
is called. Subclasses of Keras classes need Keras at import. They are in `zoo/layers/` and files
such as `tasks/engine/custom_step.py`, which are themselves imported lazily.
"""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING


class LazyModule(ModuleType):
    """Imports the module of the same name when an attribute is first accessed."""

    def __getattr__(self, name):
        if name.startswith("__"):  # probes by inspect, pytest and doctest
            raise AttributeError(name)
        # Hide TensorFlow's information about its build, but not its errors.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        importlib.import_module("logging").getLogger("tensorflow").addFilter(_is_relevant)
        value = getattr(importlib.import_module(self.__name__), name)
        setattr(self, name, value)
        return value


def attach(package, modules):
    """Returns `__getattr__` and `__dir__` of a package that imports its public names lazily.

    Args:
        package: the `__name__` of the package.
        modules: the full name of the module that defines each public name, by name.
    """

    def __getattr__(name):  # noqa: N807
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(modules[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def __dir__():  # noqa: N807
        return sorted(modules)

    return __getattr__, __dir__


def _is_relevant(record):
    """Returns whether to show a log record of TensorFlow: all but warnings about retracing."""
    return "tf.function retracing" not in str(record.msg)


if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf
else:
    keras = LazyModule("keras")
    np = LazyModule("numpy")
    tf = LazyModule("tensorflow")
