"""Short training runs of studies against Keras's `fit`, and the synthetic digits."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import zoo
from tasks.study import training
from tasks.study.digits import digits


def network():
    keras.utils.set_random_seed(1)
    return zoo.build("mlp", widths=(8,))


def test_a_run_equals_that_of_fit():
    x, y = digits(32)
    own, other = network(), network()
    curve = training.train(
        own, x, y, steps=3, batch_size=32, optimizer=keras.optimizers.SGD(0.1), every=1
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    other.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
    history = other.fit(x, y, batch_size=32, epochs=3, shuffle=False, verbose=0).history
    assert curve.steps.tolist() == [1, 2, 3]
    assert curve.losses == pytest.approx(history["loss"], rel=1e-5)
    for one, two in zip(own.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)
    accuracy = other.evaluate(x, y, verbose=0, return_dict=True)["accuracy"]
    assert curve.scores[-1] == pytest.approx(accuracy)


def test_the_best_weights_are_kept():
    x, y = digits(64)
    model = network()
    rates = keras.optimizers.schedules.PiecewiseConstantDecay([8], [0.1, 5.0])  # then it diverges
    optimizer = keras.optimizers.SGD(rates)
    curve = training.train(
        model, x, y, steps=12, every=1, optimizer=optimizer, test=(x, y), keep_best=True
    )
    assert curve.scores[-1] < curve.scores.max()
    assert training.score(model, x, y) == curve.scores.max()


def test_digits_are_reproducible_images_of_all_classes():
    images, labels = digits(200, seed=3)
    again, _ = digits(200, seed=3)
    other, _ = digits(200, seed=4)
    assert images.shape == (200, 16, 16, 1)
    assert images.min() >= 0
    assert images.max() <= 255
    assert set(labels) == set(range(10))
    np.testing.assert_array_equal(images, again)
    assert np.abs(images - other).max() > 50
    one = digits(50, seed=3, shift=0, noise=0)[0]
    assert (one.mean((1, 2, 3)) > 10).all()  # each has ink
