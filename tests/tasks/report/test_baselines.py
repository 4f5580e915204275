"""Warnings that a model is no better than a baseline that needs no training."""

import numpy as np
import pytest

from tasks.captioning import metrics as captioning_metrics
from tasks.captioning import report as captioning_report
from tasks.classification import report as classification_report
from tasks.detection import report as detection_report
from tasks.dqn import metrics as dqn_metrics
from tasks.gan import report as gan_report
from tasks.segmentation import metrics
from tasks.segmentation import report as segmentation_report
from tasks.style_transfer import report as style_report

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
    references = [["a red square"], ["a blue square"], ["a red square"]]
    assert captioning_report.captioning_warnings({}, ["a red square"] * 3, references) == [
        "all 3 images have the same caption: 'a red square'"
    ]
    assert not captioning_report.captioning_warnings({}, ["a red square"], references[:1])


def test_captions_are_compared_with_the_same_caption_for_every_image():
    references = [["a red square"], ["a blue ring"], ["a red square"], ["a red square"]]

    def found(sentences):
        figures = captioning_metrics.compute_metrics(sentences, references)
        return captioning_report.captioning_warnings(figures, sentences, references)

    (warning,) = found(["a red square", "a red square", "a red square", "a blue ring"])
    assert "is no better than the caption 'a red square' for every image" in warning
    assert not found([own for (own,) in references])


@pytest.mark.parametrize(
    ("value", "low", "high", "how"),
    [(9.0, 8.0, 9.0, "no better than"), (3.0, 2.0, 9.5, "not reliably better than"), (3, 2, 4, "")],
)
def test_baselines_of_agents_generators_and_stylized_images(value, low, high, how):
    ends = {"low": low, "high": high}

    def with_ends(name):
        return {name: value, **{f"{name}_{end}": number for end, number in ends.items()}}

    figures = {**with_ends("fd_x"), "untrained_fd": 9.0}
    found = [gan_report.distance_warnings("fd_x", figures)]
    assert found[0] == [
        f"the Fréchet distance of {value:g} is {how} that of an untrained generator (9)"
    ] * bool(how)
    figures = {key: -number for key, number in with_ends("mean_return").items()}
    figures = {**figures, "mean_return_low": -high, "mean_return_high": -low, "random_return": -9.0}
    found.append(dqn_metrics.return_warnings(figures))
    found.append(style_report.style_warnings(with_ends("style_loss"), {"style_loss": 9.0}))
    assert [len(lines) for lines in found] == [bool(how)] * 3
    assert all(f" is {how} " in line for lines in found for line in lines)
