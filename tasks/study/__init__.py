"""Studies: each idea of a deep-learning course as one short experiment with tested claims."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zoo.registry import Registry

studies = Registry("study", package="tasks.study")
get = studies.get


@dataclass(frozen=True)
class Claim:
    """A statement of a study, and whether this run supports it.

    Attributes:
        text: the statement, one sentence.
        holds: whether what was measured agrees with it.
        measured: what was measured, with units.
    """

    text: str
    holds: bool
    measured: str


@dataclass(frozen=True)
class Findings:
    """What a study found.

    Attributes:
        claims: its statements.
        pictures: `(title, HTML, what to look for)` of each.
        next_steps: what to change next: commands or questions.
        references: papers and pages, as text.
    """

    claims: Sequence[Claim]
    pictures: Sequence[tuple[str, str, str]]
    next_steps: Sequence[str]
    references: Sequence[str]


@dataclass(frozen=True)
class Study:
    """A registered study.

    Attributes:
        name: as it is typed, such as `initial-weights`.
        number: its place in the course, from 1.
        question: that it answers.
        run: the function; its keyword arguments, all with defaults, are the study's options.
    """

    name: str
    number: int
    question: str
    run: Callable[..., Findings]

    @property
    def options(self) -> dict[str, int | float | str]:
        """The options of the study and their defaults."""
        parameters = inspect.signature(self.run).parameters.values()
        return {parameter.name: parameter.default for parameter in parameters}


def study(number: int, question: str):
    """Registers a function as the study that is named after its file.

    Args:
        number: the place in the course, from 1.
        question: that the study answers.
    """

    def register(run):
        name = run.__module__.rpartition(".")[2].replace("_", "-")
        studies.add(name, Study(name, number, question, run), run.__module__)
        return run

    return register


def course() -> list[Study]:
    """Returns all studies in the order of the course."""
    return sorted(map(studies.get, studies.names()), key=lambda each: each.number)
