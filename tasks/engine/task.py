"""What a task is: a frozen dataclass whose fields are its flags."""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar, dataclass_transform

from zoo.errors import UsageError, unknown
from zoo.registry import Registry

tasks = Registry("task", package="tasks")


@dataclasses.dataclass(frozen=True)
class Between:
    """A tuner's search range from `low` to `high`, on a log scale by default."""

    low: float
    high: float
    log: bool = True


def flag(default, help, *, choices=None, search=None, low=None):
    """Declares one field of a task.

    Args:
        default: its value, and so its type, when nobody says otherwise.
        help: what it means, in one line.
        choices: the values allowed, or `None` for any of the type.
        search: where `zoo tune` looks: a tuple of choices, a `Between`, or `None`.
        low: the least value allowed, or `None`.
    """
    metadata = {"help": help, "choices": choices, "search": search, "low": low}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(flag,))
def register(cls):
    """Makes a `Task` subclass a frozen dataclass, named after its file."""
    cls = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    cls.name = cls.__module__.rpartition(".")[2]
    tasks.add(cls.name, cls)
    return cls


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(abc.ABC):
    """Data to learn from, a model to teach, and a way to judge it.

    A task does not train: `tasks.engine.trainer` does, the same way for all. It calls, in this
    order, `load`, `training`, `build` inside the strategy's scope, `validate` and `better` after
    each epoch, and then `save` and `judge` with the best weights.
    """

    curves: ClassVar[dict[str, str]] = {"loss": "Loss"}  # columns of the history to draw: titles

    epochs: int = flag(8, "passes over the training split", low=1)
    batch_size: int = flag(32, "examples per step, over all replicas", low=1)
    optimizer: str = flag("adamw", "a Keras optimiser, such as sgd, adamw or lion")
    learning_rate: float = flag(
        0.0, "peak step size; 0 for the plan's own", search=Between(1e-5, 1e-2), low=0.0
    )
    momentum: float = flag(0.9, "of sgd and rmsprop; Nesterov's for sgd", low=0.0)
    schedule: str = flag(
        "cosine", "how the rate changes over a run", choices=("constant", "cosine", "one_cycle")
    )
    warmup_epochs: float = flag(0.0, "epochs in which the rate rises from 0", low=0.0)
    weight_decay: float = flag(
        1e-4, "decoupled decay of kernels, times the rate each step", low=0.0
    )
    patience: int = flag(0, "epochs without a better validation loss before stopping; 0: never")
    precision: str = flag(
        "auto", "auto, float32, mixed_bfloat16 or mixed_float16; auto asks the processor"
    )
    strategy: str = flag("auto", "where replicas live", choices=("auto", "one", "mirrored"))
    seed: int = flag(0, "seed of every random choice", low=0)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))

    @abc.abstractmethod
    def load(self):
        """Returns what `build`, `training` and the rest need to know of the data."""

    @abc.abstractmethod
    def build(self, data, steps):
        """Returns a compiled `keras.Model`; called inside the strategy's scope.

        Args:
            data: what `load` returned.
            steps: optimiser steps of the whole run.
        """

    @abc.abstractmethod
    def training(self, data, start):
        """Returns the examples from epoch `start` on: a `tf.data.Dataset`, steps per epoch."""

    @abc.abstractmethod
    def validate(self, model, data):
        """Returns figures on the validation split after an epoch, or `{}` without one.

        The history has them as `val_NAME`.
        """

    @abc.abstractmethod
    def better(self, row, best):
        """Tells whether the epoch of history `row` is better than the best one so far."""

    @abc.abstractmethod
    def judge(self, model, data):
        """Returns the `Verdict` on a trained model."""

    @abc.abstractmethod
    def evaluate(self, model, about, split):
        """Returns the figures of a saved `model` on a slice of data, and the slice's name.

        Args:
            model: what `zoo.files.load` read.
            about: the facts that `save` put beside it.
            split: a slice of the task's data, or `""` for its own test split.
        """

    @abc.abstractmethod
    def save(self, model, data, path):
        """Writes the part of a trained model that is worth keeping to `path`."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a task says of a trained model.

    Attributes:
        figures: name to value; the names are those of the field, the same in every task.
        title: of the report.
        lead: what came out, in words, for somebody who was not there.
        sections: `(heading, html)` of the report.
        warnings: lines that nobody should miss.
    """

    figures: dict[str, float]
    title: str
    lead: str
    sections: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)


def _check(field, value):
    """Raises `UsageError` if a flag's value is of another type or out of its range."""
    flag_name = f"--{field.name.replace('_', '-')}"
    kind = type(field.default)
    good = isinstance(value, kind) or (kind is float and isinstance(value, int))
    if not good or (kind is not bool and isinstance(value, bool)):
        raise UsageError(f"{flag_name} takes {_article(kind)}, not {value!r}")
    choices, low = field.metadata["choices"], field.metadata["low"]
    if choices and value not in choices:
        raise unknown(f"choice of {flag_name}", value, list(choices))
    if low is not None and not value >= low:  # also refuses nan
        raise UsageError(f"{flag_name} must be {low} or more, not {value}")


def _article(kind):
    return {int: "a whole number", float: "a number", str: "a word", bool: "yes or no"}[kind]
