"""The engines of a search by name: oracles of keras-tuner, and two of our own."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import math
from contextlib import suppress

from tasks.engine import flags
from zoo.errors import UsageError, unknown_name_error

# Each is called as Oracle(space, *, trials, seed, task, **options) and is a `keras_tuner.Oracle`
# with the objective `oracles.objective()`; `task` is the `tasks.Task` that every trial starts from.
ENGINES = {
    "random": "tasks.tuning.oracles:Random",
    "grid": "tasks.tuning.oracles:Grid",
    "hyperband": "tasks.tuning.oracles:Hyperband",
    "bayesian": "tasks.tuning.oracles:Bayesian",
    "narrowing": "tasks.tuning.shrinking:Narrowing",
    "evolution": "tasks.tuning.evolution:Evolution",
}
COMMON_ARGUMENTS = ("space", "trials", "seed", "task")
OPTION_RANGES = {  # of options whose engines have none of their own
    "points": (1, 1_000),
    "first": (0, 10_000),
    "beta": (0, 1e6),
    "tournament": (-math.inf, 10_000),
    "factor": (-math.inf, 1_000),
}
ARCHITECTURE_SEARCH = (
    "evolution",
)  # engines that make up structures; ranges of flags are asked for
REQUIRED_PACKAGES = ("keras_tuner", "tensorboard", "grpc")  # keras-tuner imports the others


def make_oracle(name, space, *, trials, seed, task, **options):
    """Returns the oracle called `name`.

    Args:
        name: one of `ENGINES`.
        space: a `space.SearchSpace`.
        trials: how many there may be.
        seed: of the choices that the oracle makes.
        task: the `tasks.Task` that every trial starts from.
        options: of that oracle alone.

    Raises:
        UsageError: there is no such engine or option, nothing to search, or no keras-tuner.
    """
    check_engine(name)
    if not space.ranges and name not in ARCHITECTURE_SEARCH:
        raise UsageError(
            f"nothing is left to search for {task.name}; give a range: "
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
    """Returns the name of an engine; raises `UsageError` if it is none."""
    if name not in ENGINES:
        raise unknown_name_error("engine", name, list(ENGINES))
    return name


def _convert_option(name, key, value, default):
    """Returns the value of an option, of the type of its default.

    Raises:
        UsageError: it is of another type, or out of its range.
    """
    kind = type(default)
    found = ",".join(value) if kind is str and _is_list_of_str(value) else value
    if kind in (int, float) and isinstance(value, str):  # YAML reads 1e6, without a point, as one
        with suppress(ValueError):
            found = float(value)
    if kind is int and isinstance(found, float) and found.is_integer():
        found = int(found)
    numbers = (int, float) if kind is float else kind
    good = isinstance(found, numbers) and (kind is bool or not isinstance(found, bool))
    if not good:
        raise UsageError(f"{key} of {name} is {flags.describe_type(kind)}, not {value!r:.100}")
    low, high = OPTION_RANGES.get(key, (-math.inf, math.inf))
    if kind in (int, float) and not (math.isfinite(found) and low <= found <= high):
        raise UsageError(f"{key} of {name} must be from {low:g} to {high:g}, not {found}")
    return found


def _is_list_of_str(value):
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def _import_engine(module):
    """Returns the module of an engine; raises `UsageError` if what it needs is not installed."""
    for needed in REQUIRED_PACKAGES:
        if importlib.util.find_spec(needed) is None:
            raise UsageError(f"a search needs {needed}, by: pip install 'keras-zoo[tune]'")
    return importlib.import_module(module)
