"""Layers of style transfer: normalization, reflection padding, clipping, the trainable image."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tests.support.networks import outline, pixels, run
from zoo import layers

pytestmark = pytest.mark.backend


def test_instance_normalisation_is_over_each_map_of_each_image():
    """Ulyanov et al., 2016, equation 4, in float64."""
    maps = np.random.default_rng(0).normal(3, 2, (2, 5, 6, 4)).astype("float32")
    model = outline("fast_style")
    [config] = [layer.get_config() for layer in model.layers if layer.name == "down1_norm"]
    layer = keras.layers.GroupNormalization.from_config({**config, "groups": -1})
    layer.build(maps.shape)
    layer.gamma.assign([1.0, 2.0, 0.5, -1.0])
    layer.beta.assign([0.0, 1.0, -1.0, 0.5])
    expected = np.empty_like(maps, "float64")
    for image in range(2):
        for channel in range(4):
            part = maps[image, ..., channel].astype("float64")
            scaled = (part - part.mean()) / np.sqrt(part.var() + 1e-5)
            gamma, beta = ((1.0, 0.0), (2.0, 1.0), (0.5, -1.0), (-1.0, 0.5))[channel]
            expected[image, ..., channel] = gamma * scaled + beta
    np.testing.assert_allclose(run(layer, maps), expected, atol=1e-5)


@pytest.mark.parametrize("padding", [1, 3])
def test_reflection_padding_is_that_of_numpy(padding):
    maps = pixels((2, 5, 4, 3))
    sides = (padding, padding)
    expected = np.pad(maps, ((0, 0), sides, sides, (0, 0)), mode="reflect")
    layer = layers.ReflectionPadding2D(padding)
    np.testing.assert_array_equal(run(layer, maps), expected)
    assert layer.compute_output_shape((None, 5, None, 3)) == (None, 5 + 2 * padding, None, 3)
    config = keras.saving.serialize_keras_object(layer)
    assert keras.saving.deserialize_keras_object(config).padding == padding


def test_a_trainable_image_does_not_depend_on_its_input():
    canvas = layers.Canvas()
    found = run(canvas, pixels((2, 4, 5, 3)))
    np.testing.assert_array_equal(found, np.zeros((2, 4, 5, 3)))
    picture = pixels((4, 5, 3), seed=1)
    canvas.picture.assign(picture)
    np.testing.assert_array_equal(run(canvas, pixels((3, 4, 5, 3))), np.stack([picture] * 3))
    keras.config.set_dtype_policy("mixed_bfloat16")
    assert run(layers.Canvas(), pixels((1, 2, 2, 3))).dtype == "float32"


def test_values_are_clipped_except_in_training():
    layer, x = layers.ClipAtInference(0.0, 255.0), np.array([[-5.0, 7.0, 300.0]], "float32")
    np.testing.assert_array_equal(run(layer, x), [[0, 7, 255]])
    np.testing.assert_array_equal(run(layer, x, training=True), x)
    config = keras.saving.serialize_keras_object(layers.ClipAtInference(1.0, 2.0))
    assert keras.saving.deserialize_keras_object(config).high == 2.0
