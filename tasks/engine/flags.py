"""What declares a flag of a task, with its meaning, range and choices, and what checks one."""

from __future__ import annotations

import dataclasses

from zoo.errors import UsageError, unknown_name_error


@dataclasses.dataclass(frozen=True)
class Between:
    """A tuner's search range from `low` to `high`, on a log scale by default."""

    low: float
    high: float
    log: bool = True


MAX_VALUES = {int: 1_000_000_000, float: 1e6}  # of a number whose flag declares no `high`


def flag(default, help, *, choices=None, search=None, low=0, high=None, former=""):
    """Declares one field of a task.

    Args:
        default: its value, and so its type, when nobody says otherwise.
        help: what it means, in one line.
        choices: the values allowed, or `None` for any of the type.
        search: where `zoo tune` looks: a tuple of choices, a `Between`, or `None`.
        low: the smallest number allowed.
        high: the largest one, or `None` for `MAX_VALUES` of the type.
        former: the name that it had in an earlier version, which still works but is not shown.
    """
    high = MAX_VALUES.get(type(default)) if high is None else high
    metadata = {"help": help, "choices": choices, "search": search, "low": low, "high": high}
    return dataclasses.field(default=default, metadata={**metadata, "former": former})


def rename_former_flags(task, values):
    """Returns values by the present names of flags, where they have names of earlier versions.

    Args:
        task: a task class.
        values: a dict by name of a flag, such as a recipe.
    """
    fields = dataclasses.fields(task)
    present = {x.metadata["former"]: x.name for x in fields if x.metadata.get("former")}
    return {present.get(name, name): value for name, value in values.items()}


def patience_flag(figure):
    """Declares the flag for early stopping of a task whose best epoch is chosen by a figure."""
    return flag(0, f"epochs without a better {figure} before training stops; 0: never")


def check_value(field, value):
    """Raises `UsageError` if a flag's value is of another type or out of its range."""
    flag_name = f"--{field.name.replace('_', '-')}"
    kind = type(field.default)
    good = isinstance(value, kind) or (kind is float and isinstance(value, int))
    if not good or (kind is not bool and isinstance(value, bool)):
        raise UsageError(f"{flag_name} takes {describe_type(kind)}, not {value!r}")
    choices, low, high = (field.metadata[key] for key in ("choices", "low", "high"))
    if choices and value not in choices:
        raise unknown_name_error(f"choice of {flag_name}", value, list(choices))
    if kind in MAX_VALUES and not low <= value <= high:  # also refuses nan
        raise UsageError(f"{flag_name} must be from {low:.15g} to {high:.15g}, not {value}")


def describe_type(kind):
    """Returns what a type is called: `a number`."""
    return {int: "a whole number", float: "a number", str: "a word", bool: "yes or no"}[kind]
