"""Warnings that a model is no better than a prediction that ignores the image."""

import numpy as np
import pytest

from tasks.captioning import report as captioning_report
from tasks.classification import report as classification_report
from tasks.detection import report as detection_report
from tasks.segmentation import metrics
from tasks.segmentation import report as segmentation_report

CLASSES = ("cat", "dog")


@pytest.mark.parametrize(
    ("accuracy", "low", "wanted"),
    [
        (0.95, 0.9, ["the accuracy of 95.00% is no better than always predicting dog (95.00%)"]),
        (0.3, 0.2, ["the accuracy of 30.00% is no better than always predicting dog (95.00%)"]),
        (0.96, 0.9, ["the accuracy of 96.00% is not reliably better than always predicting dog "
                     "(95.00%)"]),
        (0.99, 0.96, []),
    ],
)  # fmt: skip
def test_classification_is_compared_with_the_most_frequent_class(accuracy, low, wanted):
    labels = np.array([1] * 190 + [0] * 10)
    figures = {"accuracy": accuracy, "accuracy_low": low}
    assert classification_report.classification_warnings(figures, labels, CLASSES) == wanted


def test_multi_label_classification_is_compared_with_chance():
    labels = np.array(
        [[1, 0, 0], [1, 1, 0], [1, 0, 0], [1, 0, 0]]
    )  # 1 and 1/4; the third is absent
    below = classification_report.classification_warnings({"map": 0.625}, labels, (*CLASSES, "eel"))
    assert below == [
        "the mean average precision of 62.50% is no better than a random ranking (62.50%)"
    ]
    assert not classification_report.classification_warnings(
        {"map": 0.63}, labels, (*CLASSES, "eel")
    )


def test_segmentation_is_compared_with_a_constant_prediction():
    constant = np.array([[80, 0], [20, 0]])
    figures = metrics.segmentation_metrics(constant)
    assert figures["miou"] == pytest.approx(0.4)
    assert segmentation_report.segmentation_warnings(figures, constant, ("ground", "cat")) == [
        "the mean IoU of 40.00% is no better than predicting ground for every pixel (40.00%)"
    ]
    better = np.array([[80, 0], [10, 10]])
    assert not segmentation_report.segmentation_warnings(
        metrics.segmentation_metrics(better), better, ("ground", "cat")
    )


def test_detectors_without_detections_and_constant_captions_are_reported():
    (warning,) = detection_report.detection_warnings({"ap": 0.004})
    assert warning.startswith("the average precision is only 0.40%; train for more epochs")
    assert not detection_report.detection_warnings({"ap": 0.2})
    assert captioning_report.captioning_warnings(["a red square"] * 3) == [
        "all 3 images have the same caption: 'a red square'"
    ]
    assert not captioning_report.captioning_warnings(["a red square", "a blue square"])
    assert not captioning_report.captioning_warnings(["a red square"])
