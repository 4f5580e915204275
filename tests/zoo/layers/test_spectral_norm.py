"""Layers with spectral normalization, against singular values from NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tests.support.networks import run
from zoo import layers

pytestmark = pytest.mark.backend


def layer_and_shape(kind):
    return {
        "conv": lambda: (layers.SpectralConv2D(6, 3, padding="same"), (2, 8, 8, 4)),
        "dense": lambda: (layers.SpectralDense(6), (2, 9)),
        "embedding": lambda: (layers.SpectralEmbedding(7, 5), None),
    }[kind]()


@pytest.mark.parametrize("kind", ["conv", "dense", "embedding"])
def test_spectral_weights_have_a_largest_singular_value_of_one(kind):
    layer, shape = layer_and_shape(kind)
    random = np.random.default_rng(0)
    x = np.array([0, 3]) if shape is None else random.normal(size=shape).astype("float32")
    layer.build(x.shape)
    weights = layer.trainable_weights[0]
    own = random.normal(size=weights.shape).astype("float32")
    weights.assign(own)
    for _ in range(60):
        layer(x, training=True)
    before = keras.ops.convert_to_numpy(layer.direction)
    output = run(layer, x)
    assert (keras.ops.convert_to_numpy(layer.direction) == before).all()  # nothing at inference
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(weights), own)

    largest = np.linalg.svd(own.reshape(-1, own.shape[-1]))[1][0]
    used = layer.embeddings if kind == "embedding" else layer.kernel
    np.testing.assert_allclose(keras.ops.convert_to_numpy(used), own / largest, rtol=1e-4)
    plain = {
        "conv": keras.layers.Conv2D(6, 3, padding="same"),
        "dense": keras.layers.Dense(6),
        "embedding": keras.layers.Embedding(7, 5),
    }[kind]
    plain.build(x.shape)
    plain.trainable_weights[0].assign(own / largest)
    np.testing.assert_allclose(output, run(plain, x), rtol=1e-4, atol=1e-5)


def test_the_gradient_includes_that_of_the_singular_value():
    """By finite differences: the paper's equation 12, which Keras's own wrapper omits."""
    if keras.config.backend() != "tensorflow":
        pytest.skip("takes a gradient of TensorFlow")
    import tensorflow as tf

    layer, _ = layer_and_shape("dense")
    x = np.random.default_rng(0).normal(size=(2, 9)).astype("float32")
    layer.build(x.shape)
    for _ in range(100):
        layer(x, training=True)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(layer(x) ** 2)
    found = tape.gradient(value, layer.trainable_weights[0]).numpy()
    own = layer.trainable_weights[0].numpy()

    def loss(weights):
        return ((x.astype("float64") @ (weights / np.linalg.svd(weights)[1][0])) ** 2).sum()

    for index in ((0, 0), (4, 3), (8, 5)):
        step = np.zeros(own.shape)
        step[index] = 1e-5
        slope = (loss(own.astype("float64") + step) - loss(own.astype("float64") - step)) / 2e-5
        assert found[index] == pytest.approx(slope, rel=1e-2, abs=1e-3)
