"""Custom training steps: weights, metrics, replicas and errors."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tasks.distributed import strategies
from tasks.engine import optimize, param_groups
from zoo.errors import UsageError

if keras.config.backend() != "tensorflow":
    pytest.skip("a Loop is of TensorFlow", allow_module_level=True)

import tensorflow as tf

from tasks.engine.custom_step import CustomStepModel

NAMES = ("loss", "other")


def networks():
    """Returns two linear networks with known weights."""
    found = {}
    for name, value in (("one", 2.0), ("two", -1.0)):
        network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        network.layers[0].kernel.assign([[value]])
        found[name] = network
    return found


def step(loop, batch):
    """Takes two steps; the second uses the weights after the first."""
    first, second = optimize.inner_optimizers(loop.optimizer)
    one, two = loop.networks["one"], loop.networks["two"]
    with tf.GradientTape() as tape:
        made = one(batch)
    loss = loop.minimize(first, lambda: tf.reduce_mean(one(batch) ** 2))
    other = loop.minimize(
        second, lambda: tf.reduce_mean((two(batch) - tf.stop_gradient(made)) ** 2)
    )
    loop.minimize(first, lambda: tf.reduce_mean(made), tape)
    return {"loss": loss, "other": other}


def loop(rate=0.1):
    """Returns a compiled model of both networks, each with plain SGD."""
    found = networks()
    members = [(keras.optimizers.SGD(rate), x.trainable_variables) for x in found.values()]
    both = param_groups.ParamGroupOptimizer(members)
    both.finalize_variable_values = lambda variables: None
    made = CustomStepModel(found, NAMES, step)
    made.compile(optimizer=both, jit_compile=False)
    return made


def weights(training_model):
    return [float(network.layers[0].kernel[0, 0]) for network in training_model.networks.values()]


def by_hand(batches, rate=0.1):
    """Returns the expected weights, and the means of both losses, computed by hand."""
    a, b, losses = 2.0, -1.0, []
    for x in batches:
        square, made = np.mean(x**2), a
        losses.append((a * a * square, (b - made) ** 2 * square))
        a -= rate * 2 * a * square
        b -= rate * 2 * (b - made) * square
        a -= rate * np.mean(x)
    return [a, b], np.mean(losses, axis=0)


BATCHES = np.random.default_rng(0).normal(size=(6, 4, 1)).astype("float32")


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_model_takes_the_custom_step(at_once):
    training_model = loop()
    training_model.steps_per_execution = at_once
    data = tf.data.Dataset.from_tensor_slices(BATCHES)
    history = training_model.fit(data, verbose=0, shuffle=False).history
    known, means = by_hand(BATCHES)
    assert weights(training_model) == pytest.approx(known, rel=1e-5)
    assert [history[name][0] for name in NAMES] == pytest.approx(list(means), rel=1e-5)
    assert set(NAMES) <= {v.path.partition("/")[0] for v in training_model.metrics_variables}


def test_metrics_are_reset_in_each_epoch():
    training_model = loop(rate=0.0)
    data = tf.data.Dataset.from_tensor_slices(BATCHES)
    first, second = training_model.fit(data, epochs=2, verbose=0, shuffle=False).history["loss"]
    assert first == pytest.approx(second)


def test_two_replicas_take_the_same_step_as_one(two_devices):
    def trained(name):
        with strategies.create_strategy(name).scope():
            training_model = loop()
        data = tf.data.Dataset.from_tensor_slices(BATCHES)
        training_model.fit(data, verbose=0, shuffle=False)
        return weights(training_model)

    # The mean of each loss over all examples is that of both replicas' means.
    assert trained("mirrored") == pytest.approx(trained("one"), rel=1e-5)


def test_other_backends_are_refused(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(UsageError, match="TensorFlow only, not on jax; unset KERAS_BACKEND"):
        CustomStepModel({}, NAMES, step)
