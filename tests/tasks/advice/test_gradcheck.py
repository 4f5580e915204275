"""Gradients against central differences, and a wrong gradient that is found."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from scripts.__main__ import main as command_line
from tasks.advice import gradcheck, layer_examples
from zoo.errors import UsageError

BOXES = np.array([[[0, 0, 2, 2], [1, 1, 4, 3], [0, 1, 3, 4], [2, 2, 4, 4]]], "float32")
NETWORKS = {  # and options with which they are small
    "mlp": {},
    "convnet": {},
    "resnet20": {"input_shape": (16, 16, 3)},
    "mobilenet_025": {},
    "squeezenet": {},
    "vit_tiny": {"depth": 2, "width": 48},
    "unet": {"widths": (16, 32, 64)},
    "dcgan_critic": {},
    "lstm": {"input_shape": (6, 1)},
    "transformer": {"input_shape": (6, 1)},
    "show_attend_tell": {"backbone": "lenet5", "units": 8, "embedding": 6, "length": 5},
    "retinanet": {"backbone": "convnet", "levels": (3, 4), "channels": 4, "depth": 1, "octave": 1},
}


@tf.custom_gradient
def cube(x):
    """Returns x ** 3 with a gradient that is half of the right one."""
    return x**3, lambda upstream: 1.5 * x**2 * upstream


@keras.saving.register_keras_serializable("tests.gradcheck")
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


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("part", ["gradient", "output"])
def test_values_that_are_not_finite_are_wrong(part, value):
    """One in a thousand gradients is not finite, or the output of which differences are taken."""

    @tf.custom_gradient
    def planted(x):
        bad = tf.one_hot(700, 1000, value, 0.0, dtype="float64")
        output = x + (bad if part == "output" else 0.0)
        return output, lambda upstream: upstream + (bad if part == "gradient" else 0.0)

    class Planted(keras.layers.Layer):
        def call(self, x):
            return planted(x)

    [check] = gradcheck.gradcheck(Planted(dtype="float64"), np.ones((1, 1000)), samples=3)
    assert not check.right
    assert check.error == np.inf
    if part == "gradient":
        assert check.index == (0, 700)


def test_a_layer_that_computes_in_float32_is_refused():
    with pytest.raises(UsageError, match=r"computes in float32, .* dtype='float64'"):
        gradcheck.gradcheck(keras.layers.Dense(3), np.ones((2, 3)))


@pytest.mark.parametrize("name", ["Dense", "MaxPooling2D", "LocalResponseNormalization"])
def test_gradients_of_simple_layers_are_right(name):
    check_layer(name)


@pytest.mark.parametrize("name", layer_examples.names())
@pytest.mark.check
def test_gradients_of_layers_are_right(name):
    check_layer(name)


def check_layer(name):
    layer, inputs, options = layer_examples.example(name)
    checks = gradcheck.gradcheck(layer, inputs, samples=3, **options)
    assert gradcheck.wrong(checks) == []
    assert {check.name for check in checks} >= {x.path for x in layer.trainable_variables}


@pytest.mark.parametrize("package", [zoo.layers, keras.layers])
def test_every_layer_has_an_example_or_a_reason_why_not(package):
    """A layer that is new in the zoo, or in Keras, fails here until it has one."""
    excluded = [name for names in layer_examples.WITHOUT_GRADIENT.values() for name in names]
    assert not {*layer_examples.names()} & {*excluded}
    known = {getattr(package, name, None) for name in [*layer_examples.names(), *excluded]}
    exported = {
        name
        for name, value in vars(package).items()
        if isinstance(value, type)
        and issubclass(value, (keras.layers.Layer, keras.initializers.Initializer))
    }
    assert [name for name in sorted(exported) if getattr(package, name) not in known] == []


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (lambda: zoo.layers.Anchors([8], [4], [1]), lambda x: [x]),
        (
            lambda: zoo.layers.DecodeDetections(2, 2, least=0.0),
            lambda x: (BOXES, x[:, 0, :, :3], x[:, 0, :, :4], x),
        ),
        (
            lambda: zoo.layers.ProposalLayer(2, 2),
            lambda x: (BOXES, x[:, 0, :, :1], x[:, 0, :, :4], x),
        ),
    ],
)
def test_layers_without_an_example_stop_gradients(layer, inputs):
    x = tf.constant(np.random.default_rng(0).normal(size=(1, 4, 4, 4)), "float32")
    with tf.GradientTape() as tape:
        tape.watch(x)
        arguments = inputs(x)
        found = layer()(*arguments) if isinstance(arguments, tuple) else layer()(arguments)
        total = sum(tf.reduce_sum(tf.cast(y, "float32")) for y in keras.tree.flatten(found))
    gradient = tape.gradient(total, x)
    assert gradient is None or not np.any(gradient)


def test_the_command_checks_every_tensor(capsys):
    assert command_line(["gradcheck", "lenet5", "--samples", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found) == 11  # five layers with kernel and bias, and the image
    assert all(check["right"] and check["error"] < 1e-6 for check in found)
    assert {check["size"] for check in found} >= {150, 48_000, 840}


@pytest.mark.parametrize(
    ("words", "side"),
    [
        ("squeezenet", 32),
        ("nature_dqn", 36),  # the smallest that it takes
        ("minatar_dqn", 10),  # its own
        ("squeezenet --image-size 40", 40),
    ],
)
def test_models_of_the_zoo_are_checked_on_small_images(words, side, monkeypatch):
    checked = []
    monkeypatch.setattr(gradcheck, "gradcheck", lambda model, **_: checked.append(model) or [])
    assert command_line(["gradcheck", *words.split()]) == 0
    (model,) = checked
    assert model.input_shape[1:3] == (side, side)


def test_the_command_checks_a_layer_by_its_name(capsys):
    assert command_line(["gradcheck", "PReLU", "--samples", "2"]) == 0
    shown = capsys.readouterr().out
    assert "alpha" in shown
    assert "2 of 2 tensors agree" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["Desne"], "no layer named 'Desne'; did you mean Dense"),
        (["Anchors"], "the gradient of Anchors cannot be checked: its output is constant"),
        (["Dense", "--samples", "0"], "--samples takes 1 or more"),
        (["lstm", "--image-size", "32"], "--image-size does not apply to lstm, which takes no"),
        (["a/b.keras", "--image-size", "32"], "--image-size cannot change a/b.keras"),
        (["retinanet", "--image-size", "31"], "retinanet needs images of 32 x 32 pixels or more"),
    ],
)
def test_mistakes_are_one_line(words, message, capsys):
    assert command_line(["gradcheck", *words]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(("name", "options"), NETWORKS.items())
@pytest.mark.check
def test_gradients_of_networks_are_right(name, options):
    keras.utils.set_random_seed(0)  # UNet then has kinks within the largest step
    shape = (32, 32, zoo.spec(name).input_shape[-1])
    model = zoo.build(name, weights="random", **{"input_shape": shape, **options})
    checks = gradcheck.gradcheck(model, samples=2)
    assert gradcheck.wrong(checks) == []
    assert {check.name for check in checks} >= {x.path for x in model.trainable_variables}


def test_a_large_model_and_a_layer_without_inputs_are_refused(monkeypatch):
    monkeypatch.setattr(gradcheck, "MAX_PARAMETERS", 61_000)
    with pytest.raises(UsageError, match=r"61,706 parameters; gradcheck takes .* at most 61,000"):
        gradcheck.gradcheck(zoo.build("lenet5", weights="random"))
    with pytest.raises(UsageError, match="to check a layer, pass its inputs"):
        gradcheck.gradcheck(keras.layers.Dense(2))


def test_a_detector_that_selects_boxes_inside_is_refused():
    options = {"backbone": "convnet", "input_shape": (64, 64, 3), "channels": 4, "hidden": (8,)}
    model = zoo.build("faster_rcnn", weights="random", levels=(3, 4), **options)
    with pytest.raises(UsageError, match=r"faster_rcnn selects boxes.*retinanet"):
        gradcheck.gradcheck(model)


def test_the_command_names_a_planted_error(tmp_path, capsys):
    image = keras.Input((4,))
    hidden = keras.layers.Dense(3, name="before")(image)
    model = keras.Model(image, keras.layers.Dense(2, name="after")(Cube()(hidden)))
    model.save(tmp_path / "cube.keras")
    assert command_line(["gradcheck", str(tmp_path / "cube.keras")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines if line.endswith("WRONG")} == {
        "before/kernel",
        "before/bias",
        "input",
    }
    assert "2 of 5 tensors agree to 1e-05" in lines
    assert sum(", difference " in line for line in lines) == 3
