"""The result of evaluating a trained model: the content of its report, and its summary."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tasks.report import confidence_intervals
from tasks.report.formatting import display_name, format_value
from tasks.report.image_results import ImageResults
from zoo.lazy import np

DEDUPLICATED = "deduplicated_"  # prefix of a metric without near duplicates of training images


@dataclass(frozen=True)
class EvaluatedModel:
    """What was evaluated, for the first sentence of a report.

    Attributes:
        model, dataset: Their names.
        num_test, num_train: The number of test and of training images.
        num_duplicates: The number of test images that are near duplicates of training images.
    """

    model: str
    dataset: str
    num_test: int
    num_train: int
    num_duplicates: int = 0

    @property
    def test_images(self) -> str:
        """The number of test images in words, such as `1,200 test images of shapes`."""
        plural = "" if self.num_test == 1 else "s"
        return f"{self.num_test:,} test image{plural} of {self.dataset}"

    @property
    def training_images(self) -> str:
        """A clause about the training images, and how many test images are duplicates of them."""
        if not self.num_duplicates:
            return f"it was trained on {self.num_train:,} other images"
        verb = "is a near duplicate" if self.num_duplicates == 1 else "are near duplicates"
        subject = "it" if self.num_test == 1 else f"{self.num_duplicates:,} of them"
        return f"{subject} {verb} of the {self.num_train:,} training images"

    def training_clause(self, figures: Mapping[str, float]) -> str:
        """Returns `training_images`, with the metric without the duplicates if it is there."""
        clause, which = self.training_images, "it" if self.num_duplicates == 1 else "these"
        for name in (name for name in figures if name.startswith(DEDUPLICATED)):
            plain = name.removeprefix(DEDUPLICATED)
            value = format_value(plain, figures[name])
            clause += f", and without {which} the {display_name(plain)} is {value}"
        return clause


def deduplicated_metric(name: str, count: int, copies, measure: Callable) -> dict[str, float]:
    """Computes a metric without the test images that are near duplicates of training images.

    Args:
        name: The name of the metric.
        count: The number of test images.
        copies: The indices of the near duplicates.
        measure: A function of the indices of the other images that returns their metric.

    Returns:
        A dict with the metric by `deduplicated_NAME`; empty if there are no duplicates, no other
        images, or nothing to measure in them.
    """
    kept = np.setdiff1d(np.arange(count), copies)
    value = float(measure(kept)) if len(kept) not in (0, count) else math.nan
    return {} if math.isnan(value) else {f"{DEDUPLICATED}{name}": value}


@dataclass(frozen=True)
class EvaluationReport:
    """The evaluation of a trained model by its task.

    Attributes:
        figures: Metrics by name; a name means the same in all tasks.
        title: The title of the report.
        lead: The result, in a sentence; after its interval, if that is wide.
        sections: Pairs `(heading, html)`.
        warnings: Lines shown at the top, or pairs of a line and the names that it counts.
        metric_warnings: Warnings about the metrics themselves, which the terminal shows, too.
        image_results: The results on each test image, or `None`.
        class_figures: A dict of metrics for each class, the first of which is `class`, its name.
    """

    figures: dict[str, float]
    title: str
    lead: str
    sections: list[tuple[str, str]] = field(default_factory=list)
    warnings: list = field(default_factory=list)
    metric_warnings: list[str] = field(default_factory=list)
    image_results: ImageResults | None = None
    class_figures: list[dict] = field(default_factory=list)

    def __post_init__(self) -> None:
        line = confidence_intervals.wide_interval(self.figures)
        if line and not self.lead.startswith(line):
            object.__setattr__(self, "lead", f"{line}. {self.lead}")


class Evaluation(NamedTuple):
    """The evaluation of a saved model on a split.

    Attributes:
        figures: Metrics by name.
        split: The name of the split.
        image_results: The results on each image, or `None`.
        split_digest: The `data_fingerprint.split_digest` of the split.
    """

    figures: dict[str, float]
    split: str
    image_results: ImageResults | None = None
    split_digest: str = ""
