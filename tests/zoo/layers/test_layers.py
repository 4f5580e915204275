"""Preprocessing and shortcut layers against formulas, written in NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import zoo
from tests.support.networks import copied, run
from zoo import layers
from zoo.parts.blocks import PREPROCESSING

pytestmark = pytest.mark.backend
PIXELS = np.random.default_rng(0).uniform(0, 255, (2, 5, 4, 3)).astype("float32")

# The modes of keras.applications.imagenet_utils, in float64.
FORMULAS = {
    "tf": lambda x: x / 127.5 - 1,
    "torch": lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
    "caffe": lambda x: x[..., ::-1] - [103.939, 116.779, 123.68],
}


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("mode", FORMULAS)
def test_pixels_are_normalised_by_the_formula_of_the_mode(mode, policy):
    keras.config.set_dtype_policy(policy)
    got = run(layers.PixelNormalization(**PREPROCESSING[mode]), PIXELS)
    assert got.dtype == "float32"
    np.testing.assert_allclose(got, FORMULAS[mode](PIXELS.astype("float64")), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["tf", "torch", "caffe"])
def test_pixels_are_normalised_as_in_keras(mode):
    got = run(layers.PixelNormalization(**PREPROCESSING[mode]), PIXELS)
    expected = keras.applications.imagenet_utils.preprocess_input(PIXELS.copy(), mode=mode)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_pixels_are_normalised_in_float32_in_a_half_precision_model():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = zoo.build("lenet5", input_shape=(32, 32, 1))
    pixels = keras.Model(model.input, next(x for x in model.layers if x.weights).input)
    x = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 1)).astype("float32")
    np.testing.assert_allclose(run(pixels, x), x / 127.5 - 1, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16"])
def test_pixels_may_have_any_numeric_dtype(dtype):
    pixels = PIXELS.astype(dtype)
    got = run(layers.PixelNormalization(**PREPROCESSING["torch"]), pixels)
    expected = FORMULAS["torch"](pixels.astype("float64"))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", FORMULAS)
def test_pixel_normalisation_survives_saving(mode):
    layer = layers.PixelNormalization(**PREPROCESSING[mode], name="pixels")
    again = copied(layer)
    assert again.get_config() == layer.get_config()
    np.testing.assert_array_equal(run(again, PIXELS), run(layer, PIXELS))


@pytest.mark.parametrize(("channels", "strides"), [(3, 2), (8, 1), (8, 2), (10, 3)])
def test_padded_shortcut_subsamples_pixels_and_pads_channels_with_zeros(channels, strides):
    got = run(layers.PaddedShortcut(channels, strides), PIXELS)
    kept = PIXELS[:, ::strides, ::strides]
    expected = np.zeros((*kept.shape[:-1], channels), "float32")
    before = (channels - 3) // 2
    expected[..., before : before + 3] = kept
    np.testing.assert_array_equal(got, expected)


def test_padded_shortcut_survives_saving():
    layer = layers.PaddedShortcut(8, 2, name="shortcut")
    again = copied(layer)
    assert again.get_config() == layer.get_config()
    np.testing.assert_array_equal(run(again, PIXELS), run(layer, PIXELS))


@pytest.mark.parametrize("mode", ["torch", "caffe", "efficientnet"])
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_images_without_three_channels_get_the_average_mean_and_scale(mode, channels):
    facts = PREPROCESSING[mode]
    x = np.random.default_rng(0).uniform(0, 255, (2, 3, 3, channels)).astype("float32")
    layer = layers.PixelNormalization(**facts)
    assert layer.compute_output_shape(x.shape) == x.shape
    got = run(layer, x)
    expected = (x - np.mean(facts["mean"])) / np.mean(facts["scale"])
    assert got.shape == x.shape
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
