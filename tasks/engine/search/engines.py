"""The engines of a search by name: oracles of keras-tuner, and two of our own."""

from __future__ import annotations

import importlib
import importlib.util
import inspect

from zoo.errors import UsageError, unknown

# Each is called as Oracle(space, *, trials, seed, task, **options) and is a `keras_tuner.Oracle`
# with the objective `oracles.objective()`; `task` is the `tasks.Task` that every trial starts from.
ENGINES = {
    "random": "tasks.engine.search.oracles:Random",
    "grid": "tasks.engine.search.oracles:Grid",
    "hyperband": "tasks.engine.search.oracles:Hyperband",
    "bayesian": "tasks.engine.search.oracles:Bayesian",
    "narrowing": "tasks.engine.search.narrowing:Narrowing",
    "evolution": "tasks.engine.search.evolution:Evolution",
}
COMMON = ("space", "trials", "seed", "task")
SPACELESS = ("evolution",)  # engines that make up structures; ranges of flags are asked for
NEEDED = ("keras_tuner", "tensorboard", "grpc")  # keras-tuner imports the others


def oracle(name, space, *, trials, seed, task, **options):
    """Returns the oracle called `name`.

    Args:
        name: one of `ENGINES`.
        space: a `space.Space`.
        trials: how many there may be.
        seed: of the choices that the oracle makes.
        task: the `tasks.Task` that every trial starts from.
        options: of that oracle alone.

    Raises:
        UsageError: there is no such engine or option, nothing to search, or no keras-tuner.
    """
    checked(name)
    if not space.ranges and name not in SPACELESS:
        raise UsageError(
            f"nothing is left to search for {task.name}; give a range: "
            "--search learning_rate=1e-4..1e-1"
        )
    module, _, kind = ENGINES[name].partition(":")
    make = getattr(_imported(module), kind)
    known = [key for key in inspect.signature(make).parameters if key not in COMMON]
    for key in options:
        if key not in known:
            raise unknown(f"option of {name}", key, known or ["none"])
    return make(space, trials=trials, seed=seed, task=task, **options)


def checked(name):
    """Returns the name of an engine; raises `UsageError` if it is none."""
    if name not in ENGINES:
        raise unknown("engine", name, list(ENGINES))
    return name


def _imported(module):
    """Returns the module of an engine; raises `UsageError` if what it needs is not installed."""
    for needed in NEEDED:
        if importlib.util.find_spec(needed) is None:
            raise UsageError(f"a search needs {needed}, by: pip install 'keras-zoo[tune]'")
    return importlib.import_module(module)
