"""The interval that is stated before the figures of a report."""

from __future__ import annotations

import dataclasses

from tasks.report import confidence_intervals
from tasks.report.evaluation_report import EvaluationReport


def test_a_wide_interval_is_stated_before_the_figures():
    wide = {"macro_f1": 0.8, "accuracy": 0.8, "accuracy_low": 0.612, "accuracy_high": 0.889}
    line = "Accuracy from 61.20% to 88.90% (95% interval, of few test images)"
    assert confidence_intervals.wide_interval(wide) == line
    report = EvaluationReport(wide, "title", "lenet5 classifies 80%.")
    assert report.lead == f"{line}. lenet5 classifies 80%."
    assert dataclasses.replace(report).lead == report.lead
    narrow = {**wide, "accuracy_low": 0.79, "accuracy_high": 0.81}
    for figures in (narrow, {"loss": 2.0}, {"loss": 2.0, "loss_low": 1.0, "loss_high": 3.0}):
        assert confidence_intervals.wide_interval(figures) == ""
        assert EvaluationReport(figures, "title", "lead").lead == "lead"
