"""Search spaces: a range per flag, declared by the task or passed by the user."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tasks.engine.flags import Between, former_flag_names
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import LazyModule

keras_tuner = LazyModule("keras_tuner")

SIGNIFICANT_DIGITS = 6  # of a sampled number; workers receive float32, which has 7
HYPERBAND_EPOCHS = "tuner/epochs"  # the number of epochs of a trial in Hyperband
LOG_SCALE_RATIO = 10  # ratio of the ends from which a range has a log scale by default
SCALES = {"log": True, "linear": False}
_SEPARATOR = re.compile(r",(?=\s*[a-z][\w-]*\s*(?:=|,|$))")  # commas inside a value do not match
_INTERVAL = re.compile(r"([^|\s:]+?)\.\.([^|\s:]+)(?::(\w+))?")


@dataclass(frozen=True)
class Choices:
    """A list of values to search."""

    values: tuple


@dataclass(frozen=True)
class SearchSpace:
    """The search space: a range per flag.

    Attributes:
        ranges: `Choices` or `tasks.engine.flags.Between` by name of the flag, in order.
        kinds: the type of every flag of the task, by name.
    """

    ranges: Mapping[str, Choices | Between]
    kinds: Mapping[str, type]

    def hyperparameters(self):
        """Returns the ranges as `keras_tuner.HyperParameters`."""
        found = keras_tuner.HyperParameters()
        for name, span in self.ranges.items():
            add_range(found, name, span, self.kinds[name])
        return found

    def discretized(self, points):
        """Returns a space in which each range is a list of `points` values, including both ends."""
        ranges = {name: self._listed(name, span, points) for name, span in self.ranges.items()}
        return SearchSpace(ranges, self.kinds)

    def value_at(self, name, position):
        """Returns the value at a position in [0, 1] of a range `Between`, on its scale."""
        span, (low, high) = self.ranges[name], self._ends(name)
        value = low * (high / low) ** position if span.log else low + position * (high - low)
        if self.kinds[name] is int:
            return int(min(span.high, max(span.low, round(value))))
        return _round_value(value)

    def position_of(self, name, value):
        """Returns the position in [0, 1] of a value in a range `Between`; inverse of `value_at`."""
        low, high = self._ends(name)
        if self.ranges[name].log:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    def flags(self, values):
        """Returns the flags for the values of hyperparameters, each converted to its type.

        Hyperparameters that are not flags are left out, except that Hyperband's number of epochs
        becomes the flag `epochs`.

        Args:
            values: values by name, as in a `keras_tuner.Trial`, perhaps rounded to float32.
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
        """Returns the ends of a range; those of integers are widened by 0.5 for rounding."""
        span, margin = self.ranges[name], 0.5 if self.kinds[name] is int else 0
        return span.low - margin, span.high + margin

    def _listed(self, name, span, points):
        if isinstance(span, Choices):
            return span
        values = [self.value_at(name, number / max(1, points - 1)) for number in range(points)]
        return Choices(tuple(dict.fromkeys(values)))


def add_range(hyperparameters, name, span, kind):
    """Adds a range to `keras_tuner.HyperParameters`; it gets a value if it has none yet.

    Args:
        hyperparameters: the `keras_tuner.HyperParameters`.
        name: name of the flag.
        span: `Choices` or `Between`.
        kind: the type of the flag.
    """
    if isinstance(span, Choices):
        hyperparameters.Choice(name, list(span.values), ordered=kind is not str)
    else:
        make = hyperparameters.Int if kind is int else hyperparameters.Float
        make(name, span.low, span.high, sampling="log" if span.log else "linear")


def declared_ranges(task):
    """Returns the ranges that the flags of a task declare, as a dict by name.

    Args:
        task: a task class or a task.
    """
    return {
        field.name: _to_range(field.metadata["search"])
        for field in dataclasses.fields(task)
        if field.metadata["search"]
    }


def make_space(task, search_spec="", fixed=(), *, all_declared=True):
    """Returns the `SearchSpace` of a search.

    Args:
        task: the base `tasks.Task` of all trials.
        search_spec: the flags to search, such as `learning_rate,batch_size=16|32` or
            `learning_rate=1e-4..1e-1:log`.
        fixed: names of flags that the user has set, which are not searched.
        all_declared: whether an empty `search_spec` searches all declared ranges.

    Raises:
        UsageError: there is no such flag, it has no range, or the task rejects a value of a range.
    """
    kinds = {field.name: type(field.default) for field in dataclasses.fields(task)}
    own = declared_ranges(task)
    if search_spec.strip():
        parts = [_split_part(task, part) for part in _SEPARATOR.split(search_spec) if part.strip()]
        ranges = dict(_parse_range(*part, own, kinds) for part in parts)
        for name in ranges:
            if name in fixed:
                flag = f"--{name.replace('_', '-')}"
                raise UsageError(f"{name} is both set and searched; leave out {flag} or its range")
            if name in task.monitor_flags:
                raise UsageError(
                    f"{name} cannot be searched: trials that differ in it are compared by "
                    "different metrics; search once with each of its values"
                )
    else:
        free = {k: span for k, span in own.items() if all_declared and k not in fixed}
        possible = {name: _accepted_choices(task, name, span) for name, span in free.items()}
        ranges = {name: span for name, span in possible.items() if span}
    for name, span in ranges.items():
        _check_range(task, name, span)
    return SearchSpace(ranges, kinds)


def format_range(span):
    """Returns a range in the syntax of `search_spec`."""
    if isinstance(span, Choices):
        return "|".join(map(str, span.values))
    return f"{span.low:g}..{span.high:g}:{'log' if span.log else 'linear'}"


def _to_range(search):
    return search if isinstance(search, Between) else Choices(tuple(search))


def _split_part(task, part):
    """Splits one part of `search_spec` at the `=`; the first piece is the flag's present name."""
    name, sign, text = (word.strip() for word in part.partition("="))
    name = name.replace("-", "_")
    return former_flag_names(task).get(name, name), sign, text


def _parse_range(name, sign, text, own, kinds):
    """Parses the pieces of `_split_part`; returns the name of the flag and its range."""
    if name not in kinds:
        raise unknown_name_error("flag to search", name, list(kinds))
    if not sign:
        if name not in own:
            raise UsageError(
                f"{name} declares no range to search; pass one: {name}=LOW..HIGH or {name}=A|B; "
                f"ranges are declared by {', '.join(own) or 'no flag of this task'}"
            )
        return name, own[name]
    ends = _INTERVAL.fullmatch(text)
    if ends and kinds[name] is not str:
        return name, _parse_interval(name, ends, own.get(name), kinds[name])
    values = [_convert(name, word.strip(), kinds[name]) for word in text.split("|")]
    return name, Choices(tuple(dict.fromkeys(values)))


def _parse_interval(name, ends, own, kind):
    low, high = (_convert(name, ends[group], kind) for group in (1, 2))
    scale = ends[3]
    if scale and scale not in SCALES:
        raise unknown_name_error(f"scale of {name}", scale, list(SCALES))
    if not low < high < math.inf:
        raise UsageError(f"the range of {name} is {low}..{high}, but LOW must be less than HIGH")
    log = low > 0 and (own.log if isinstance(own, Between) else high >= LOG_SCALE_RATIO * low)
    log = SCALES[scale] if scale else log
    if log and low <= 0:
        raise UsageError(
            f"a log scale needs values above 0, not {low}; write {name}={low}..{high}:linear"
        )
    return Between(low, high, log)


def _convert(name, word, kind):
    try:
        return kind(word)
    except ValueError:
        kinds = {int: "integers", float: "numbers"}
        raise UsageError(f"the range of {name} must be {kinds[kind]}, not {word!r}") from None


def _accepted_choices(task, name, span):
    """Returns the values of a declared range that the task accepts, or `None` if fewer than 2."""
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
    """Raises `UsageError` if the task rejects a value of the range."""
    values = span.values if isinstance(span, Choices) else (span.low, span.high)
    for value in values:
        dataclasses.replace(task, **{name: value})


def _restore_value(value, span, kind):
    """Returns a value of the type of its flag: the nearest choice, or a rounded number."""
    if isinstance(span, Choices) and kind is float:
        return min(span.values, key=lambda choice: abs(choice - value))
    return _round_value(value) if kind is float else kind(value)


def _round_value(value):
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")
