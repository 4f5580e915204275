"""Test-time augmentation: the probabilities are the mean over the views."""

import keras
import numpy as np
import pytest

from tasks.classification import tta
from tasks.data import batches, decoding
from zoo.errors import UsageError

SHAPE = (32, 32, 3)


@pytest.fixture(scope="module")
def examples():
    pixels = np.random.default_rng(0).integers(0, 256, (9, *SHAPE), "uint8")
    return decoding.Examples("test", pixels, np.arange(9) % 3)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input(SHAPE)
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_one_view_is_the_plain_prediction(model, examples):
    logits = tta.predict(model, examples, batch_size=4)
    np.testing.assert_array_equal(logits, batches.predict(model, examples, batch_size=4))


def test_flip_averages_an_image_and_its_horizontal_flip(model, examples):
    logits = tta.predict(model, examples, batch_size=4, views="flip")
    plain, flipped = (
        np.asarray(model(images)) for images in (examples.pixels, examples.pixels[:, :, ::-1])
    )
    np.testing.assert_allclose(softmax(logits), (softmax(plain) + softmax(flipped)) / 2, atol=1e-6)
    multi_label = tta.predict(model, examples, batch_size=4, views="flip", multi_label=True)
    sigmoids = [1 / (1 + np.exp(-x)) for x in (plain, flipped)]
    np.testing.assert_allclose(1 / (1 + np.exp(-multi_label)), np.mean(sigmoids, axis=0), atol=1e-6)


def test_ten_views_are_the_centre_and_four_corners_and_their_flips(model, examples):
    logits = tta.predict(model, examples, batch_size=4, views="ten")
    padded = np.pad(examples.pixels, ((0, 0), (2, 2), (2, 2), (0, 0)), "reflect")
    corners = [(2, 2), (4, 4), (4, 0), (0, 4), (0, 0)]  # top left of the window of 32 pixels
    views = [padded[:, top : top + 32, left : left + 32] for top, left in corners]
    views += [images[:, :, ::-1] for images in views]
    mean = np.mean([softmax(np.asarray(model(images))) for images in views], axis=0)
    np.testing.assert_allclose(softmax(logits), mean, atol=1e-6)


def test_views_of_small_images_are_reflected_at_the_border():
    pixels = np.arange(16, dtype="uint8").reshape(1, 4, 4, 1)
    for view in tta.VIEWS["ten"]:
        images = tta.ShiftedImages(pixels, *view)[np.array([0])]
        assert images.shape == pixels.shape
        assert set(images.ravel()) <= set(pixels.ravel())


def test_unknown_views_are_refused(model, examples):
    with pytest.raises(UsageError, match="no test-time augmentation named 'eleven'"):
        tta.predict(model, examples, batch_size=4, views="eleven")
