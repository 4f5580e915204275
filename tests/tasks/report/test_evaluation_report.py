"""Clauses about the test and training images of an evaluated model."""

from __future__ import annotations

import dataclasses

import pytest

from tasks.report.evaluation_report import EvaluatedModel

EVALUATED = EvaluatedModel("lenet5", "shapes", num_test=1200, num_train=5000)


def test_without_duplicates():
    assert EVALUATED.test_images == "1,200 test images of shapes"
    assert EVALUATED.training_images == "it was trained on 5,000 other images"
    assert dataclasses.replace(EVALUATED, num_test=1).test_images == "1 test image of shapes"


@pytest.mark.parametrize(
    ("num_test", "num_duplicates", "clause"),
    [
        (1, 1, "it is a near duplicate of the 5,000 training images"),
        (1200, 1, "1 of them is a near duplicate of the 5,000 training images"),
        (1200, 12, "12 of them are near duplicates of the 5,000 training images"),
    ],
)
def test_duplicates_are_counted(num_test, num_duplicates, clause):
    evaluated = dataclasses.replace(EVALUATED, num_test=num_test, num_duplicates=num_duplicates)
    assert evaluated.training_images == clause
