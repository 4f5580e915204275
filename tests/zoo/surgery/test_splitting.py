"""Splitting a model into a frozen feature extractor and the part that is trained."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import zoo
from tests.zoo.surgery.example_models import (
    freeze_batch_norm,
    layer_names,
    predict,
    random_images,
    randomize_batch_norm,
    relative_error,
    transfer_model,
)
from zoo import surgery


def test_split_after_the_frozen_layers():
    model = randomize_batch_norm(zoo.build("resnet20", input_shape=(32, 32, 3)))
    x, head = random_images(), lambda layer: layer.name == "logits"
    before, _ = surgery.split(model, head)
    assert before.layers[-1].name == "conv1_conv"  # the batch norm after it is not frozen
    before, after = surgery.split(freeze_batch_norm(model), head)
    assert before.output.shape == (None, 64)
    assert layer_names(after.layers)[1:] == ["logits"]
    np.testing.assert_array_equal(predict(after, predict(before, x)), predict(model, x))
    before, after = surgery.split(model, surgery.select_layers(model, "stage2"))
    assert before.output.shape == (None, 16, 16, 32)
    assert before.layers[-1].name == "conv3_block3_out"  # its shortcut is padded after the split
    assert surgery.split(model) is surgery.split(model, surgery.select_layers(model, "all")) is None
    model.trainable = False
    assert surgery.split(model) is None


def test_split_at_the_smallest_tensor():
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, name="conv1")(inputs)
    x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.ZeroPadding2D(1)(x)
    model = keras.Model(inputs, keras.layers.Conv2D(2, 3, name="conv2")(x))
    before, _ = surgery.split(model, {model.get_layer("conv2")})
    assert before.output.shape == (None, 7, 7, 4)


def test_split_is_between_residual_blocks():
    model = freeze_batch_norm(zoo.build("resnet20", input_shape=(32, 32, 3)))
    before, after = surgery.split(model, {model.get_layer("conv3_block2_2_conv")})
    assert before.layers[-1].name == "conv3_block1_out"
    assert predict(after, predict(before, random_images())).shape == (2, 10)


def test_split_parts_share_variables_of_nested_and_shared_layers():
    model = freeze_batch_norm(transfer_model())
    before, after = surgery.split(model, lambda layer: "block_16" in layer.name)
    x = random_images().astype("uint8")
    assert relative_error(predict(after, predict(before, x)), predict(model, x)) < 1e-6
    ids = [{id(v) for v in net.weights} for net in (model, before, after)]
    assert ids[1] | ids[2] == ids[0]
    assert not ids[1] & ids[2]

    relu = keras.layers.ReLU()  # the split is at its first output
    inputs = keras.Input((8, 8, 3))
    y = relu(keras.layers.Conv2D(4, 3)(inputs))
    model = keras.Model(inputs, relu(keras.layers.Conv2D(4, 3, name="last")(y)))
    before, after = surgery.split(model, {model.get_layer("last")})
    np.testing.assert_array_equal(
        predict(after, predict(before, random_images(8))), predict(model, random_images(8))
    )


def network_with_auxiliary_heads():
    """Returns a small network with the heads of GoogLeNet."""
    inputs = keras.Input((64, 64, 3))
    x = keras.layers.Conv2D(4, 3, 4, name="conv")(inputs)
    x = keras.layers.ReLU(name="inception4a_concat")(keras.layers.BatchNormalization()(x))
    heads = {}
    for name in ("auxiliary1", "auxiliary2", "logits"):
        pooled = keras.layers.GlobalAveragePooling2D(name=f"{name}_pool")(x)
        heads[name] = keras.layers.Dense(4, name=name)(pooled)
        x = keras.layers.Conv2D(4, 3, name=f"after_{name}")(x) if name == "auxiliary1" else x
    return keras.Model(inputs, heads)


def googlenet():
    return zoo.build("googlenet", input_shape=(64, 64, 3), num_classes=4, auxiliary=True)


@pytest.mark.parametrize(
    "build", [network_with_auxiliary_heads, pytest.param(googlenet, marks=pytest.mark.check)]
)
def test_split_and_fold_keep_dicts_of_outputs(build):
    model = freeze_batch_norm(randomize_batch_norm(build()))
    heads = {layer for layer in model.layers if layer.name.startswith(("aux", "logits"))}
    before, after = surgery.split(model, heads)
    assert before.layers[-1].name == "inception4a_concat"
    x = random_images(64)
    found, expected = predict(after, predict(before, x)), predict(model, x)
    assert list(found) == list(expected) == ["auxiliary1", "auxiliary2", "logits"]
    assert all(relative_error(found[name], expected[name]) < 1e-6 for name in expected)
    folded = predict(surgery.fold(model), x)
    assert all(relative_error(folded[name], expected[name]) < 1e-4 for name in expected)


@pytest.mark.parametrize("kind", ["Dropout", "SpatialDropout2D", "GaussianNoise", "RandomFlip"])
def test_random_layers_are_after_the_split(kind):
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, name="conv1")(inputs)
    x = getattr(keras.layers, kind)(*([] if kind == "RandomFlip" else [0.5]))(x)
    x = keras.layers.Conv2D(4, 3, name="conv2")(x)
    model = keras.Model(inputs, keras.layers.Dense(2, name="logits")(x))
    before, _ = surgery.split(model, lambda layer: layer.name == "logits")
    assert before.layers[-1].name == "conv1"
