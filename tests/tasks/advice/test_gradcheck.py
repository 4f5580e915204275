"""Gradients against central differences, and a wrong gradient that is found."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from scripts.__main__ import main as command_line
from tasks.advice import gradcheck
from zoo.errors import UsageError


@tf.custom_gradient
def cube(x):
    """Returns x ** 3 with a gradient that is half of the right one."""
    return x**3, lambda upstream: 1.5 * x**2 * upstream


class Cube(keras.layers.Layer):
    def call(self, x):
        return cube(x)


def test_a_planted_error_is_found_and_named():
    image = keras.Input((4,))
    hidden = keras.layers.Dense(3, name="before")(image)
    model = keras.Model(image, keras.layers.Dense(2, name="after")(Cube()(hidden)))
    found = {check.name: check for check in gradcheck.gradcheck(model)}
    wrong = {name for name, check in found.items() if not check.right}
    assert wrong == {"before/kernel", "before/bias", "input 0"}
    check = found["before/kernel"]
    assert check.difference == pytest.approx(2 * check.gradient, rel=1e-5)
    assert gradcheck.wrong(list(found.values()))[0].name in wrong


def test_a_small_error_is_found_among_the_kinks_of_a_network():
    """The error is a thousandth, in a network where most steps cross a kink of a ReLU."""

    @tf.custom_gradient
    def almost(x):
        return x * 1.0, lambda upstream: 1.001 * upstream

    class Almost(keras.layers.Layer):
        def call(self, x):
            return almost(x)

    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(8, 3, activation="relu", name="before")(image)
    x = keras.layers.Conv2D(8, 3, activation="relu", name="between")(Almost()(x))
    model = keras.Model(image, keras.layers.Conv2D(2, 1, name="after")(x))
    checks = gradcheck.gradcheck(model, samples=4, step=1e-3)
    found = {check.name for check in checks if not check.right}
    assert found == {"before/kernel", "before/bias", "input 0"}


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: keras.layers.Dense(3, activation="gelu", dtype="float64"), (2, 5)),
        (lambda: keras.layers.Conv2D(2, 3, activation="relu", dtype="float64"), (2, 6, 6, 2)),
        (lambda: keras.layers.MaxPooling2D(2, dtype="float64"), (2, 4, 4, 3)),
        (lambda: keras.layers.LayerNormalization(dtype="float64"), (2, 7)),
        (lambda: keras.layers.LSTM(3, dtype="float64"), (2, 4, 3)),
        (lambda: zoo.layers.LocalResponseNormalization(dtype="float64"), (2, 4, 4, 6)),
        (lambda: zoo.layers.PixelNormalization(127.5, 127.5, dtype="float64"), (2, 4, 4, 3)),
    ],
)
def test_gradients_of_layers_are_right(layer, shape):
    inputs = np.random.default_rng(0).normal(size=shape)
    checks = gradcheck.gradcheck(layer(), inputs, samples=20)
    assert checks[-1].name == "input 0"
    assert gradcheck.wrong(checks) == []


def test_the_command_checks_every_tensor(capsys):
    assert command_line(["gradcheck", "lenet5", "--samples", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found) == 11  # five layers with kernel and bias, and the image
    assert all(check["right"] and check["error"] < 1e-6 for check in found)
    assert {check["size"] for check in found} >= {150, 48_000, 840}


@pytest.mark.parametrize(
    "name",
    [
        "mlp",
        "convnet",
        "resnet20",
        "mobilenet_025",
        "squeezenet",
        "vit_tiny",
        "unet",
        "dcgan_critic",
    ],
)
@pytest.mark.check
def test_gradients_of_networks_are_right(name):
    keras.utils.set_random_seed(0)  # one with which UNet has kinks within both smaller steps
    channels = zoo.spec(name).input_shape[-1]
    model = zoo.build(name, weights="random", input_shape=(32, 32, channels))
    assert gradcheck.wrong(gradcheck.gradcheck(model, samples=2)) == []


def test_a_large_model_and_a_layer_without_inputs_are_refused(monkeypatch):
    monkeypatch.setattr(gradcheck, "MAX_PARAMETERS", 61_000)
    with pytest.raises(UsageError, match=r"61,706 parameters; gradcheck takes .* at most 61,000"):
        gradcheck.gradcheck(zoo.build("lenet5", weights="random"))
    with pytest.raises(UsageError, match="inputs that are given"):
        gradcheck.gradcheck(keras.layers.Dense(2))
