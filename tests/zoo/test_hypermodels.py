"""Models from hyperparameters."""

from __future__ import annotations

import pytest

import zoo
from zoo.errors import UsageError

keras_tuner = pytest.importorskip("keras_tuner")


@pytest.mark.parametrize("name", ["convnet", "mlp"])
def test_hyperparameters_decide_the_architecture(name):
    build = zoo.hypermodel(name, input_shape=(16, 16, 1), num_classes=4)
    hp = keras_tuner.HyperParameters()
    first = build(hp)
    assert first.output_shape == (None, 4)
    ends = {
        space.name: list(space.values)[-1] if hasattr(space, "values") else space.max_value
        for space in hp.space
        if hasattr(space, "values") or hasattr(space, "max_value")
    }
    hp.values.update(ends)
    largest = build(hp)
    assert largest.count_params() > first.count_params()


def test_architecture_is_that_of_the_values():
    hp = keras_tuner.HyperParameters()
    hp.values.update({"blocks": 2, "depth1": 1, "depth2": 3, "width1": 16, "width2": 64})
    hp.values.update({"hidden_layers": 1, "units1": 128})
    model = zoo.hypermodel("convnet", input_shape=(16, 16, 1), num_classes=3)(hp)
    names = [layer.name for layer in model.layers]
    assert {"block1_conv1", "block2_conv3", "hidden1"} <= set(names)
    assert not {"block1_conv2", "block3_conv1", "hidden2"} & set(names)
    assert model.get_layer("block2_conv1").filters == 64
    assert model.get_layer("hidden1").units == 128


def test_fixed_options_are_not_searched():
    build = zoo.hypermodel("convnet", input_shape=(16, 16, 1), num_classes=3, kernel_size=5)
    model = build(keras_tuner.HyperParameters())
    assert model.get_layer("block1_conv1").kernel_size == (5, 5)


def test_pretrained_model_has_a_range_of_dropout():
    hp = keras_tuner.HyperParameters()
    hp.values["dropout"] = 0.3
    model = zoo.hypermodel("alexnet", num_classes=2, input_shape=(64, 64, 3))(hp)
    assert any(getattr(layer, "rate", 0) == 0.3 for layer in model.layers)


def test_model_without_options_is_refused():
    with pytest.raises(UsageError, match="convnet"):
        zoo.hypermodel("dcgan_generator")
