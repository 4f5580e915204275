"""The check for shortcuts, on a network whose evidence is known: the colors of its pixels."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tasks.advice import shortcut_check
from tasks.advice.findings import LOOK, CheckSkipped
from tasks.advice.model_predictions import ModelPredictions

SIDE, COUNT = 20, 40
CLASSES = ("red", "green")


def network():
    """A classifier whose logits are the mean red and the mean green."""
    inputs = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Conv2D(2, 1, use_bias=False, name="colors")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(2, use_bias=False, name="logits")(x))
    model.set_weights([np.eye(3)[None, None, :, :2], np.eye(2)])
    return model


def sample(top, correct=COUNT):
    """Predictions on black images with a patch of the color of the class, `top` pixels down."""
    labels = np.arange(COUNT) % 2
    images = np.zeros((COUNT, SIDE, SIDE, 3), "uint8")
    images[np.arange(COUNT), top : top + 2, :2, labels] = 255
    images[np.arange(COUNT), top : top + 2, 2:, labels] = 255 * (top > 2)
    labels = np.where(np.arange(COUNT) < correct, labels, 1 - labels)
    return ModelPredictions(network(), images, labels, labels, CLASSES, CLASSES)


def test_evidence_at_the_border_is_a_finding():
    (found,) = shortcut_check.check_shortcut(sample(0))
    assert (found.name, found.severity) == ("shortcut", LOOK)
    assert "for 40 of 40 correct predictions more than 60%" in found.what
    assert "which is 36% of the image (median 100%)" in found.what


def test_evidence_inside_is_none():
    assert list(shortcut_check.check_shortcut(sample(9))) == []


def test_few_correct_predictions_are_not_enough():
    with pytest.raises(CheckSkipped, match="15 correct predictions; 16 are needed"):
        list(shortcut_check.check_shortcut(sample(0, correct=15)))
