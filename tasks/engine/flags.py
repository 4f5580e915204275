"""Declares the flags of a task, with help, range and choices, and checks their values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar, cast

from zoo.errors import UsageError, unknown_name_error

Value = TypeVar("Value")


@dataclasses.dataclass(frozen=True)
class Between:
    """A search range from `low` to `high`, on a log scale by default."""

    low: float
    high: float
    log: bool = True


MAX_VALUES = {int: 1_000_000_000, float: 1e6}  # of numbers whose flag declares no `high`


def flag(
    default: Value,
    help: str,
    *,
    choices: Iterable[Value] | None = None,
    search: Sequence[Value] | Between | None = None,
    low: float = 0,
    high: float | None = None,
    former: str = "",
) -> Value:
    """Declares a field of a task, which is a flag on the command line.

    Args:
        default: The default value, which also sets the type.
        help: One line of help.
        choices: The allowed values, or `None` for any of the type.
        search: The search space of `zoo tune`: a tuple of choices, a `Between`, or `None` to
            leave the flag out.
        low: The smallest allowed number.
        high: The largest allowed number, or `None` for `MAX_VALUES` of the type.
        former: The name in an earlier version, which still works but is not shown.
    """
    high = MAX_VALUES.get(type(default)) if high is None else high
    metadata = {"help": help, "choices": choices, "search": search, "low": low, "high": high}
    metadata["former"] = former
    return cast("Value", dataclasses.field(default=default, metadata=metadata))


def rename_former_flags(task: type, values: dict[str, Any]) -> dict[str, Any]:
    """Returns values by flag name with the former names of flags replaced by the present ones.

    Args:
        task: A task class.
        values: A dict by flag name, such as a recipe.
    """
    present = former_flag_names(task)
    return {present.get(name, name): value for name, value in values.items()}


def former_flag_names(task: type) -> dict[str, str]:
    """Returns the present name of each flag that has a former name, by former name.

    Args:
        task: A task class or a task.
    """
    fields = dataclasses.fields(task)
    return {x.metadata["former"]: x.name for x in fields if x.metadata.get("former")}


def flag_of(base: type, name: str, default: Value) -> Value:
    """Declares a flag of a base class once more, with another default.

    Args:
        base: The task class, or the dataclass of flags, that declares it.
        name: Its name.
        default: The default value.
    """
    (field,) = (field for field in dataclasses.fields(base) if field.name == name)
    return cast("Value", dataclasses.field(default=default, metadata=field.metadata))


def augment_flag(default, subject, levels):
    """Declares the flag of the augmentation of `subject`, one of `levels`, which is searched."""
    levels = tuple(levels)
    return flag(default, f"augmentation of {subject}", choices=levels, search=levels)


def patience_flag(metric):
    """Declares the early stopping flag of a task that monitors `metric`."""
    return flag(0, f"epochs without a better {metric} before training stops; 0: never")


def check_value(field, value):
    """Raises `UsageError` if a flag's value is of the wrong type or out of its range."""
    flag_name = f"--{field.name.replace('_', '-')}"
    kind = type(field.default)
    good = isinstance(value, kind) or (kind is float and isinstance(value, int))
    if not good or (kind is not bool and isinstance(value, bool)):
        raise UsageError(f"{flag_name} takes {describe_type(kind)}, not {value!r}")
    choices, low, high = (field.metadata[key] for key in ("choices", "low", "high"))
    if choices and value not in choices:
        raise unknown_name_error(f"choice of {flag_name}", value, list(choices))
    if kind in MAX_VALUES and not low <= value <= high:  # also refuses NaN
        raise UsageError(f"{flag_name} must be from {low:.15g} to {high:.15g}, not {value}")


def describe_type(kind):
    """Returns the description of a type in error messages, such as `a number`."""
    return {int: "an integer", float: "a number", str: "a word", bool: "yes or no"}[kind]
