"""Test-time augmentation: the mean of what a model says of each view."""

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


def test_one_view_is_the_plain_answer(model, examples):
    found = tta.predict(model, examples, batch_size=4)
    np.testing.assert_array_equal(found, batches.predict(model, examples, batch_size=4))


def test_two_views_are_the_mean_of_an_image_and_its_mirror_image(model, examples):
    found = tta.predict(model, examples, batch_size=4, views="flip")
    plain, mirrored = (
        model.predict(images, verbose=0)
        for images in (examples.pixels, examples.pixels[:, :, ::-1])
    )
    np.testing.assert_allclose(softmax(found), (softmax(plain) + softmax(mirrored)) / 2, atol=1e-6)
    several = tta.predict(model, examples, batch_size=4, views="flip", multi_label=True)
    sigmoid = [1 / (1 + np.exp(-logits)) for logits in (plain, mirrored)]
    np.testing.assert_allclose(1 / (1 + np.exp(-several)), np.mean(sigmoid, axis=0), atol=1e-6)


def test_ten_views_are_five_places_and_their_mirror_images(model, examples):
    found = tta.predict(model, examples, batch_size=4, views="ten")
    padded = np.pad(examples.pixels, ((0, 0), (2, 2), (2, 2), (0, 0)), "reflect")
    corners = [(2, 2), (4, 4), (4, 0), (0, 4), (0, 0)]  # where the window of 32 pixels begins
    seen = [padded[:, top : top + 32, left : left + 32] for top, left in corners]
    seen += [images[:, :, ::-1] for images in seen]
    mean = np.mean([softmax(model.predict(images, verbose=0)) for images in seen], axis=0)
    np.testing.assert_allclose(softmax(found), mean, atol=1e-6)


def test_views_of_small_pictures_stay_inside_them():
    pixels = np.arange(16, dtype="uint8").reshape(1, 4, 4, 1)
    for view in tta.VIEWS["ten"]:
        images = tta.ShiftedImages(pixels, *view)[np.array([0])]
        assert images.shape == pixels.shape
        assert set(images.ravel()) <= set(pixels.ravel())


def test_unknown_views_are_an_error_of_one_line(model, examples):
    with pytest.raises(UsageError, match="no set of views named 'eleven'"):
        tta.predict(model, examples, batch_size=4, views="eleven")
