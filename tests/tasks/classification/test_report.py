"""The sections and the lead of a report on a classifier, parsed as HTML."""

from __future__ import annotations

import dataclasses
import re
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest

from tasks.classification import metrics, report
from tasks.report import page
from tasks.report.evaluation_report import EvaluatedModel

CLASSES = ["cat", "dog", "eel"]


def examples(labels):
    """Returns one gray image per label, filled with its index."""
    labels = np.asarray(labels)
    pixels = (
        np.zeros((len(labels), 8, 8, 1), np.uint8)
        + np.arange(len(labels), dtype=np.uint8)[:, None, None, None]
    )
    return SimpleNamespace(labels=labels, pixels=pixels, title="image {}".format)


def text(html):
    return re.sub("<[^>]+>", " ", html)


def captions(gallery):
    tree = ElementTree.fromstring(gallery)
    return [caption.text for caption in tree.iter("figcaption")]


def cells(table):
    rows = ElementTree.fromstring(table).iter("tr")
    return [[cell.text for cell in row] for row in rows]


def test_single_label_sections_show_classes_confusion_calibration_and_mistakes():
    logits = np.array([[5.0, 0, 0], [0, 5, 0], [1, 0, 0], [0, 9, 0], [np.nan, 0, 0]])
    sections = report.single_label_sections(examples([0, 1, 1, 2, 2]), CLASSES, logits)
    shown = dict(sections)
    assert list(shown) == [
        *("Classes", "Confusion matrix", "Calibration"),
        *("Precision and recall", "Worst mistakes"),
    ]
    assert cells(shown["Classes"])[2] == ["dog", "50.00%", "50.00%", "50.00%", "2"]
    assert "eel predicted as dog: 1 of 1" in text(shown["Confusion matrix"])
    assert "mean confidence 57.6%, accuracy 0.0%" in text(shown["Calibration"])
    assert captions(shown["Worst mistakes"]) == [
        "eel\nno prediction: NaN\nimage 4",
        "eel\npredicted dog, 100%\nimage 3",
        "dog\npredicted cat, 58%\nimage 2",
    ]


def test_single_label_sections_without_mistakes():
    sections = report.single_label_sections(examples([0, 1]), CLASSES, 9 * np.eye(3)[:2])
    assert [heading for heading, _ in sections] == [
        *("Classes", "Confusion matrix", "Calibration", "Precision and recall"),
    ]


def test_multi_label_sections_show_false_negatives_and_false_positives():
    labels = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]])
    logits = np.array([[2.0, -3, -3], [-4, -5, 2], [-1, -1, -2]])
    shown = dict(report.multi_label_sections(examples(labels), CLASSES, logits))
    assert cells(shown["Classes"]) == [
        ["class", "AP", "precision", "recall", "F1", "support"],
        ["cat", "83.33%", "100.00%", "50.00%", "66.67%", "2"],
        ["dog", "33.33%", "0.00%", "0.00%", "0.00%", "1"],
        ["eel", "\N{EN DASH}", "0.00%", "0.00%", "0.00%", "0"],
    ]
    assert captions(shown["Worst mistakes"]) == [
        "cat, dog\nmissed: cat, dog\nfalse positives: eel\nimage 1"
    ]
    assert list(dict(report.multi_label_sections(examples(labels), CLASSES, 9 * labels - 1))) == [
        "Classes"
    ]


def test_captions_list_a_few_of_many_labels():
    names = [f"c{index}" for index in range(20)]
    labels = np.ones((1, 20), int)
    shown = dict(report.multi_label_sections(examples(labels), names, np.full((1, 20), -1.0)))
    (caption,) = captions(shown["Worst mistakes"])
    assert caption.splitlines()[1] == "missed: c0, c1, c2, c3, c4, c5 and 14 more"


def test_the_lead_contains_the_first_metric():
    evaluated = EvaluatedModel("lenet5", "shapes", 1200, 5000)
    assert report.lead(evaluated, {"accuracy": 0.9125}, 3) == (
        "lenet5 classifies 91.2% of 1,200 test images of shapes correctly, with 3 classes; "
        "it was trained on 5,000 other images."
    )
    figures = {"accuracy": 0.947, "majority_share": 0.95, "deduplicated_accuracy": 0.9}
    assert report.lead(dataclasses.replace(evaluated, num_duplicates=12), figures, 3) == (
        "lenet5 classifies 94.7% of 1,200 test images of shapes correctly, with 3 classes (always "
        "predicting the most frequent class: 95.0%); 12 of them are near duplicates of the 5,000 "
        "training images, and without these the accuracy is 90.00%."
    )
    lead = report.lead(dataclasses.replace(evaluated, num_test=1), {"map": 0.5}, 3)
    assert "1 test image of shapes with a mean average precision of 50.00%" in lead


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_report_is_well_formed(multi_label, tmp_path):
    random = np.random.default_rng(0)
    labels = random.random((60, 3)) < 0.5 if multi_label else random.integers(0, 3, 60)
    logits = random.normal(size=(60, 3))
    figures = metrics.metrics_with_intervals(logits, labels, seed=0)
    show = report.multi_label_sections if multi_label else report.single_label_sections
    page.write(
        tmp_path / "report.html",
        title="Report",
        lead="",
        command="zoo",
        figures=figures,
        sections=show(examples(labels), CLASSES, logits),
        environment={},
    )
    written = (tmp_path / "report.html").read_text()
    name = "map" if multi_label else "accuracy"
    ends = [f"{100 * figures[f'{name}_{end}']:.2f}%" for end in ("low", "high")]
    cards = text(re.search('<dl class="cards">(.*?)</dl>', written, re.S)[1])
    assert f"95% interval {ends[0]} to {ends[1]}" in cards  # on the card of the metric
    assert "low" not in cards
