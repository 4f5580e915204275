"""Layers of classifiers against formulas: response normalization, pooling, tokens of ViT."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tests.support.networks import copied, run
from zoo import layers
from zoo.parts import blocks

pytestmark = pytest.mark.backend
RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(2, 3, 3, 7), (4, 2), (1, 2, 2, 1)])
@pytest.mark.parametrize("options", [{}, {"radius": 1, "bias": 1.0, "alpha": 0.5, "beta": 0.6}])
def test_response_normalisation_is_the_formula_of_the_paper(shape, options):
    x = RANDOM.normal(0, 20, shape).astype("float32")
    n, k, alpha, beta = (
        2 * options.get("radius", 2) + 1,
        *(options.get(key, value) for key, value in (("bias", 2), ("alpha", 1e-4), ("beta", 0.75))),
    )
    expected = np.empty(shape)
    for position in np.ndindex(shape[:-1]):
        for i in range(shape[-1]):
            js = range(max(0, i - n // 2), min(shape[-1] - 1, i + n // 2) + 1)
            energy = sum(float(x[(*position, j)]) ** 2 for j in js)
            expected[(*position, i)] = x[(*position, i)] / (k + alpha * energy) ** beta
    got = run(layers.LocalResponseNormalization(**options), x)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="compares with TensorFlow")
def test_response_normalisation_is_that_of_tensorflow():
    import tensorflow as tf

    x = RANDOM.normal(0, 9, (2, 4, 5, 9)).astype("float32")
    expected = tf.nn.local_response_normalization(x, depth_radius=3, bias=1.5, alpha=0.1, beta=0.5)
    got = run(layers.LocalResponseNormalization(3, 1.5, 0.1, 0.5), x)
    np.testing.assert_allclose(got, expected.numpy(), rtol=1e-5)


def test_response_normalisation_computes_in_float32_also_after_saving():
    x = RANDOM.normal(0, 200, (1, 2, 2, 8)).astype("float32")
    layer = layers.LocalResponseNormalization(radius=1, alpha=1.0, dtype="bfloat16")
    assert copied(layer).get_config() == layer.get_config()
    rounded = keras.ops.cast(x, "bfloat16")
    got = copied(layer)(rounded)
    assert keras.backend.standardize_dtype(got.dtype) == "bfloat16"
    precise = layers.LocalResponseNormalization(radius=1, alpha=1.0)(
        keras.ops.cast(rounded, "float32")
    )
    expected = keras.ops.convert_to_numpy(precise)
    got = keras.ops.convert_to_numpy(keras.ops.cast(got, "float32"))
    np.testing.assert_allclose(got, expected, rtol=2**-8)  # one rounding


@pytest.mark.parametrize("side", [2, 3, 6, 7, 12, 13])
def test_pooling_has_the_windows_of_pytorchs_ceil_mode(side):
    x = RANDOM.uniform(size=(1, side, side, 2)).astype("float32")
    image = keras.Input((side, side, 2))
    got = run(keras.Model(image, blocks.ceil_pool(image, name="pool")), x)
    size = -(-(side - 3) // 2) + 1
    assert got.shape == (1, size, size, 2)
    for row, column in np.ndindex(size, size):
        window = x[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
        np.testing.assert_array_equal(got[:, row, column], window.max((1, 2)))


def test_the_class_token_comes_first_and_survives_saving():
    x = RANDOM.normal(size=(2, 3, 4)).astype("float32")
    layer = layers.ClassToken()
    layer.build(x.shape)
    token = RANDOM.normal(size=(1, 1, 4)).astype("float32")
    layer.set_weights([token])
    expected = np.concatenate([np.repeat(token, 2, 0), x], axis=1)
    np.testing.assert_array_equal(run(layer, x), expected)
    assert copied(layer).get_config() == layer.get_config()


def test_position_embeddings_are_added_and_distinct():
    x = RANDOM.normal(size=(2, 5, 4)).astype("float32")
    layer = layers.PositionEmbedding()
    got = run(layer, x)
    [positions] = layer.get_weights()
    assert positions.shape == (1, 5, 4)
    assert len(np.unique(positions)) == positions.size
    np.testing.assert_allclose(got, x + positions, rtol=1e-6)
    assert copied(layer).get_config() == layer.get_config()
