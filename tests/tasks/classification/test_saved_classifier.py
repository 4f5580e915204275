"""Classifiers that other programs saved: softmax or sigmoid outputs, one output for two classes."""

import keras
import numpy as np
import pytest

from tasks.classification import exporter, predictor, saved_classifier
from zoo.errors import UsageError

SHAPE = (8, 8, 3)


def network(count, activation=None, layer=None):
    """A classifier whose outputs are far from equal."""
    keras.utils.set_random_seed(0)
    image = keras.Input(SHAPE)
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    x = keras.layers.Dense(count, activation, bias_initializer="normal")(x)
    return keras.Model(image, layer(x) if layer else x)


def sequential(model):
    return keras.Sequential([keras.Input(SHAPE), model])


PROBABILITIES = {
    "softmax": lambda: network(3, "softmax"),
    "softmax layer": lambda: network(3, layer=keras.layers.Softmax()),
    "softmax operation": lambda: network(3, layer=keras.ops.softmax),
    "activation layer": lambda: network(3, layer=keras.layers.Activation("softmax")),
    "nested softmax": lambda: sequential(network(3, "softmax")),
    "one sigmoid": lambda: network(1, "sigmoid"),
    "several sigmoids": lambda: network(3, "sigmoid"),
}


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (4, *SHAPE)).astype("float32")


@pytest.mark.parametrize("name", PROBABILITIES)
def test_probabilities_are_those_of_the_model(name, images):
    model = PROBABILITIES[name]()
    expected = np.asarray(model(images))
    if expected.shape[1] == 1:
        expected = np.concatenate([1 - expected, expected], axis=1)
    found = predictor.from_file("net.keras", model, {})
    assert found.multi_label == (name == "several sigmoids")
    rows = found.top_classes(np.asarray(found.model(images)), len(found.classes))
    for row, values in zip(rows, expected, strict=True):
        for each in row:
            index = found.classes.index(each["name"])
            assert each["probability"] == pytest.approx(values[index], abs=1e-6)
    exported = exporter.export_model(model, {}, "net.keras")
    outputs = exported.model(images)["probabilities"]
    np.testing.assert_allclose(outputs, expected, atol=1e-6)
    assert exported.metadata["multi_label"] == found.multi_label


def test_one_logit_is_that_of_the_second_of_two_classes(images):
    model = network(1)
    found = saved_classifier.read("net.keras", model, {"classes": ["cat", "dog"]})
    assert found.classes == ("cat", "dog")
    logits, own = np.asarray(found.model(images)), np.asarray(model(images))
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], own[:, 0], rtol=1e-5)


@pytest.mark.parametrize("about", [{"classes": ["cat"]}, {"multi_label": True}])
def test_one_class_stays_one_class(about):
    model = network(1)
    found = saved_classifier.read("net.keras", model, about)
    assert found.model is model
    assert len(found.classes) == 1


def test_logits_of_half_precision_become_float32(images):
    keras.config.set_dtype_policy("mixed_bfloat16")
    found = saved_classifier.read("net.keras", network(3, "softmax"), {})
    assert found.model(images).dtype == "float32"


def test_several_outputs_are_refused():
    model, image = network(3), keras.Input(SHAPE)
    for outputs in ([model(image)] * 2, {"a": model(image), "b": model(image)}):
        several = keras.Model(image, outputs)
        for read in (predictor.from_file, lambda path, *rest: exporter.export_model(*rest, path)):
            with pytest.raises(UsageError, match="is not an image classifier: it maps"):
                read("net.keras", several, {})
