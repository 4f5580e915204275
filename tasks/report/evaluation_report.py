"""What comes of evaluating a trained model: the content of its report."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class EvaluationReport:
    """What a task reports of a trained model.

    Attributes:
        figures: name to value; the names are those of the field, the same in every task.
        title: of the report.
        lead: what came out, in words, for somebody who was not there.
        sections: `(heading, html)` of the report.
        warnings: lines that nobody should miss, or pairs of a line and the names that it counts.
        doubts: such lines on the figures themselves, which the terminal shows, too.
    """

    figures: dict[str, float]
    title: str
    lead: str
    sections: list[tuple[str, str]] = field(default_factory=list)
    warnings: list = field(default_factory=list)
    metric_warnings: list[str] = field(default_factory=list)
