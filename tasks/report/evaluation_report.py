"""The result of evaluating a trained model: the content of its report."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class EvaluationReport:
    """The evaluation of a trained model by its task.

    Attributes:
        figures: Metrics by name; a name means the same in all tasks.
        title: The title of the report.
        lead: The result, in a sentence.
        sections: Pairs `(heading, html)`.
        warnings: Lines shown at the top, or pairs of a line and the names that it counts.
        metric_warnings: Warnings about the metrics themselves, which the terminal shows, too.
    """

    figures: dict[str, float]
    title: str
    lead: str
    sections: list[tuple[str, str]] = field(default_factory=list)
    warnings: list = field(default_factory=list)
    metric_warnings: list[str] = field(default_factory=list)
