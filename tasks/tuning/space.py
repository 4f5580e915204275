"""What a search looks through: a range for each flag, as tasks declare it or a user writes it."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tasks.engine.flags import Between
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import LazyModule

keras_tuner = LazyModule("keras_tuner")

SIGNIFICANT_DIGITS = 6  # of a rate that is tried; a worker gets it in 32 bits, which hold 7
HYPERBAND_EPOCHS = "tuner/epochs"  # how Hyperband says how long a trial is
LOG_SCALE_RATIO = (
    10  # a range of the user's own is searched on a log scale from this ratio of its ends on
)
SCALES = {"log": True, "linear": False}
_SEPARATOR = re.compile(r",(?=\s*[a-z][\w-]*\s*(?:=|,|$))")  # a comma in a value is none of these
_INTERVAL = re.compile(r"([^|\s:]+?)\.\.([^|\s:]+)(?::(\w+))?")


@dataclass(frozen=True)
class Choices:
    """The values that a flag may have in a search."""

    values: tuple


@dataclass(frozen=True)
class SearchSpace:
    """The ranges of a search.

    Attributes:
        ranges: `Choices` or `tasks.engine.flags.Between` by the name of the flag, in order.
        kinds: the type of every flag of the task, by name.
    """

    ranges: Mapping[str, Choices | Between]
    kinds: Mapping[str, type]

    def hyperparameters(self):
        """Returns the ranges as `keras_tuner.HyperParameters`."""
        found = keras_tuner.HyperParameters()
        for name, span in self.ranges.items():
            if isinstance(span, Choices):
                found.Choice(name, list(span.values), ordered=self.kinds[name] is not str)
            else:
                make = found.Int if self.kinds[name] is int else found.Float
                sampling = "log" if span.log else "linear"
                make(name, span.low, span.high, sampling=sampling)
        return found

    def discretized(self, points):
        """Returns a space in which each range is a list of so many values, its ends among them."""
        ranges = {name: self._listed(name, span, points) for name, span in self.ranges.items()}
        return SearchSpace(ranges, self.kinds)

    def at(self, name, place):
        """Returns the value at a place of a range `Between`: 0 is its low end, 1 the high one."""
        span, (low, high) = self.ranges[name], self._ends(name)
        value = low * (high / low) ** place if span.log else low + place * (high - low)
        if self.kinds[name] is int:
            return int(min(span.high, max(span.low, round(value))))
        return _round_value(value)

    def place(self, name, value):
        """Returns the place of a value in a range `Between`, as `at` takes it."""
        low, high = self._ends(name)
        if self.ranges[name].log:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    def flags(self, values):
        """Returns the flags that values of hyperparameters mean, each of its type.

        What is no flag is left out; Hyperband's number of epochs is the flag `epochs`.

        Args:
            values: by name, such as a `keras_tuner.Trial` has; numbers may have lost digits.
        """
        found = {
            name: _restore_value(value, self.ranges.get(name), self.kinds[name])
            for name, value in values.items()
            if name in self.kinds
        }
        return found | (
            {"epochs": int(values[HYPERBAND_EPOCHS])} if HYPERBAND_EPOCHS in values else {}
        )

    def _ends(self, name):
        """Returns the ends of a range, in which each whole number has as much room."""
        span, room = self.ranges[name], 0.5 if self.kinds[name] is int else 0
        return span.low - room, span.high + room

    def _listed(self, name, span, points):
        if isinstance(span, Choices):
            return span
        values = [self.at(name, number / max(1, points - 1)) for number in range(points)]
        return Choices(tuple(dict.fromkeys(values)))


def declared_ranges(task):
    """Returns what the flags of a task declare, a dict of ranges by name.

    Args:
        task: a class of tasks, or one of its tasks.
    """
    return {
        field.name: _to_range(field.metadata["search"])
        for field in dataclasses.fields(task)
        if field.metadata["search"]
    }


def make_space(task, search_spec="", fixed=(), *, all_declared=True):
    """Returns the `Space` of a search.

    Args:
        task: the `tasks.Task` that every trial starts from.
        search_spec: what to search, such as `learning_rate,batch_size=16|32` or
            `learning_rate=1e-4..1e-1:log`.
        fixed: names of flags that have a value of the user's own, which is kept.
        all_declared: whether to search what the flags declare where nothing is asked for.

    Raises:
        UsageError: there is no such flag, no range for it, or a value that the task refuses.
    """
    kinds = {field.name: type(field.default) for field in dataclasses.fields(task)}
    own = declared_ranges(task)
    if search_spec.strip():
        ranges = dict(
            _parse_range(part, own, kinds) for part in _SEPARATOR.split(search_spec) if part.strip()
        )
        for name in ranges:
            if name in fixed:
                flag = f"--{name.replace('_', '-')}"
                raise UsageError(f"{name} is both given and searched: leave out {flag} or that")
    else:
        free = {k: span for k, span in own.items() if all_declared and k not in fixed}
        possible = {name: _accepted_choices(task, name, span) for name, span in free.items()}
        ranges = {name: span for name, span in possible.items() if span}
    for name, span in ranges.items():
        _check_range(task, name, span)
    return SearchSpace(ranges, kinds)


def format_range(span):
    """Returns a range as a user writes it."""
    if isinstance(span, Choices):
        return "|".join(map(str, span.values))
    return f"{span.low:g}..{span.high:g}:{'log' if span.log else 'linear'}"


def _to_range(search):
    return search if isinstance(search, Between) else Choices(tuple(search))


def _parse_range(part, own, kinds):
    """Returns a flag's name and its range, as one part of what a user asks for has them."""
    name, sign, text = (word.strip() for word in part.partition("="))
    name = name.replace("-", "_")
    if name not in kinds:
        raise unknown_name_error("flag to search", name, list(kinds))
    if not sign:
        if name not in own:
            raise UsageError(
                f"{name} declares no range to search; give one: {name}=LOW..HIGH or {name}=A|B; "
                f"ranges are declared by {', '.join(own) or 'no flag of this task'}"
            )
        return name, own[name]
    ends = _INTERVAL.fullmatch(text)
    if ends and kinds[name] is not str:
        return name, _parse_interval(name, ends, own.get(name), kinds[name])
    values = [_convert(name, word.strip(), kinds[name]) for word in text.split("|")]
    return name, Choices(tuple(dict.fromkeys(values)))


def _parse_interval(name, ends, own, kind):
    low, high = (_convert(name, ends[place], kind) for place in (1, 2))
    scale = ends[3]
    if scale and scale not in SCALES:
        raise unknown_name_error(f"scale of {name}", scale, list(SCALES))
    if not low < high < math.inf:
        raise UsageError(f"the range of {name} goes from {low} to {high}; needed: LOW..HIGH")
    log = low > 0 and (own.log if isinstance(own, Between) else high >= LOG_SCALE_RATIO * low)
    log = SCALES[scale] if scale else log
    if log and low <= 0:
        raise UsageError(f"a log scale does not reach {low}; write {name}={low}..{high}:linear")
    return Between(low, high, log)


def _convert(name, word, kind):
    try:
        return kind(word)
    except ValueError:
        kinds = {int: "whole numbers", float: "numbers"}
        raise UsageError(f"the range of {name} takes {kinds[kind]}, not {word!r}") from None


def _accepted_choices(task, name, span):
    """Returns the part of a declared range that a task's model can follow, or `None`."""
    if not isinstance(span, Choices):
        return span
    values = tuple(value for value in span.values if _is_accepted(task, name, value))
    return Choices(values) if len(values) > 1 else None


def _is_accepted(task, name, value):
    try:
        dataclasses.replace(task, **{name: value})
    except UsageError:
        return False
    return True


def _check_range(task, name, span):
    """Raises `UsageError` if the task refuses a value of the range."""
    values = span.values if isinstance(span, Choices) else (span.low, span.high)
    for value in values:
        dataclasses.replace(task, **{name: value})


def _restore_value(value, span, kind):
    """Returns a value as a flag has it: the nearest choice, or with the digits of a rate."""
    if isinstance(span, Choices) and kind is float:
        return min(span.values, key=lambda choice: abs(choice - value))
    return _round_value(value) if kind is float else kind(value)


def _round_value(value):
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")
