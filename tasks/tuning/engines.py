"""Search engines by name: the oracles of keras-tuner, and two of this package."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import math
from contextlib import suppress

from tasks.engine import flags
from zoo.errors import UsageError, unknown_name_error

# Each is called as Oracle(space, *, trials, seed, task, **options) and returns a
# `keras_tuner.Oracle` with the objective `oracles.objective()`; `task` is the base task of all
# trials.
ENGINES = {
    "random": "tasks.tuning.oracles:Random",
    "grid": "tasks.tuning.oracles:Grid",
    "hyperband": "tasks.tuning.oracles:Hyperband",
    "bayesian": "tasks.tuning.oracles:Bayesian",
    "shrinking": "tasks.tuning.shrinking:Shrinking",
    "evolution": "tasks.tuning.evolution:Evolution",
}
FORMER_NAMES = {"narrowing": "shrinking"}  # names of earlier versions, which still work
COMMON_ARGUMENTS = ("space", "trials", "seed", "task")
OPTION_RANGES = {  # of options that their engines do not check themselves
    "points": (1, 1_000),
    "first": (0, 10_000),
    "beta": (0, 1e6),
    "tournament": (-math.inf, 10_000),
    "factor": (-math.inf, 1_000),
}
# Engines that generate architectures; they search flags only if --search lists them.
ARCHITECTURE_SEARCH = ("evolution",)
REQUIRED_PACKAGES = ("keras_tuner", "tensorboard", "grpc")  # keras-tuner imports the others


def make_oracle(name, space, *, trials, seed, task, **options):
    """Returns the oracle of an engine.

    Args:
        name: one of `ENGINES`.
        space: a `space.SearchSpace`.
        trials: the maximum number of trials.
        seed: the random seed of the oracle.
        task: the base `tasks.Task` of all trials.
        options: options of this engine.

    Raises:
        UsageError: there is no such engine or option, the search space is empty, or keras-tuner
            is not installed.
    """
    name = check_engine(name)
    if not space.ranges and name not in ARCHITECTURE_SEARCH:
        raise UsageError(
            f"the search space of {task.name} is empty; pass a range: "
            "--search learning_rate=1e-4..1e-1"
        )
    module, _, kind = ENGINES[name].partition(":")
    make = getattr(_import_engine(module), kind)
    known = {
        key: parameter.default
        for key, parameter in inspect.signature(make).parameters.items()
        if key not in COMMON_ARGUMENTS
    }
    for key in options:
        if key not in known:
            raise unknown_name_error(f"option of {name}", key, list(known) or ["none"])
    options = {key: _convert_option(name, key, value, known[key]) for key, value in options.items()}
    return make(space, trials=trials, seed=seed, task=task, **options)


def check_engine(name):
    """Returns the present name of an engine; raises `UsageError` if there is none such."""
    name = FORMER_NAMES.get(name, name)
    if name not in ENGINES:
        raise unknown_name_error("engine", name, list(ENGINES))
    return name


def _convert_option(name, key, value, default):
    """Returns the value of an option, converted to the type of its default.

    Raises:
        UsageError: the value is of another type, or out of range.
    """
    kind = type(default)
    found = ",".join(value) if kind is str and _is_list_of_str(value) else value
    if kind in (int, float) and isinstance(
        value, str
    ):  # YAML reads 1e6, without a decimal point, as a string
        with suppress(ValueError):
            found = float(value)
    if kind is int and isinstance(found, float) and found.is_integer():
        found = int(found)
    numbers = (int, float) if kind is float else kind
    good = isinstance(found, numbers) and (kind is bool or not isinstance(found, bool))
    if not good:
        raise UsageError(f"{key} of {name} must be {flags.describe_type(kind)}, not {value!r:.100}")
    low, high = OPTION_RANGES.get(key, (-math.inf, math.inf))
    if kind in (int, float) and not (math.isfinite(found) and low <= found <= high):
        raise UsageError(f"{key} of {name} must be from {low:g} to {high:g}, not {found}")
    return found


def _is_list_of_str(value):
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def _import_engine(module):
    """Returns the module of an engine; raises `UsageError` if a dependency is not installed."""
    for needed in REQUIRED_PACKAGES:
        if importlib.util.find_spec(needed) is None:
            raise UsageError(
                f"a search needs {needed}; install it with: pip install 'keras-zoo[tune]'"
            )
    return importlib.import_module(module)
