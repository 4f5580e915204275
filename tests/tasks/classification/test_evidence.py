"""The section of saliency maps in the report of a classifier."""

from __future__ import annotations

import base64
import io
import re
from types import SimpleNamespace

import keras
import numpy as np
from PIL import Image

from tasks.classification import evidence

CLASSES = ["red", "green", "blue"]
SIDE = 16


def network():
    """A classifier whose logits are the means of the channels."""
    inputs = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Conv2D(3, 1, use_bias=False)(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(3, use_bias=False)(x))
    model.set_weights([np.eye(3)[None, None], np.eye(3)])
    return model


def examples(labels, colors):
    """Black images with a square of a color in the top left quarter."""
    pixels = np.zeros((len(labels), SIDE, SIDE, 3), "uint8")
    for image, color in zip(pixels, colors, strict=True):
        image[: SIDE // 2, : SIDE // 2, color] = 200
    return SimpleNamespace(labels=np.array(labels), pixels=pixels, title="image {}".format)


def shown(labels, colors, model=None):
    model, found = model or network(), examples(labels, colors)
    logits = np.asarray(model(found.pixels.astype("float32")))
    return evidence.sections(model, found, CLASSES, logits)


def test_the_worst_and_the_best_predictions_are_shown_with_their_maps():
    ((title, html),) = shown([0, 1, 2, 0], [0, 1, 2, 1])
    assert title == "Saliency maps"
    captions = re.findall("<figcaption>(.*?)</figcaption>", html, re.DOTALL)
    assert captions[0] == "red\npredicted green, 100%\nimage 3"
    assert [text.splitlines()[-1] for text in captions[1:]] == ["image 0", "image 1", "image 2"]
    first = re.search(r"base64,([^\"]+)", html)[1]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(first))).convert("RGB"), int)
    half = pixels.shape[1] // 2
    assert pixels.shape[0] == half  # the image, and beside it the map over it
    heat = pixels[:, half:]
    assert heat[half // 4, half // 4, 0] > 100  # red where the green square is
    assert heat[-half // 4, -half // 4, 2] > heat[-half // 4, -half // 4, 0]  # blue elsewhere


def test_at_most_six_of_each_are_shown():
    ((_, html),) = shown([0] * 20, [0] * 10 + [1] * 10)
    assert html.count("<figcaption>") == 2 * evidence.SHOWN


def test_models_without_maps_have_no_section():
    inputs = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Flatten()(inputs)
    assert shown([0, 1], [0, 1], keras.Model(inputs, keras.layers.Dense(3)(x))) == []


def test_maps_are_left_out_where_memory_is_too_small(monkeypatch, caplog):
    """The report is written last: it must not fail for its pictures."""

    def fails(*arguments):
        raise MemoryError

    monkeypatch.setitem(evidence.methods.METHODS, "grad_cam", fails)
    assert shown([0, 1], [0, 1]) == []
    assert "not enough memory for the saliency maps" in caplog.text


def test_predictions_that_are_not_finite_are_left_out():
    model, found = network(), examples([0, 1], [0, 1])
    logits = np.array([[np.nan, 0, 0], [0, 1, 0]])
    ((_, html),) = evidence.sections(model, found, CLASSES, logits)
    assert "image 1" in html
    assert "image 0" not in html
