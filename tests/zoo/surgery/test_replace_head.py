"""New heads and other image sizes."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import zoo
from tests.zoo.surgery.example_models import (
    layer_names,
    output_error,
    predict,
    random_images,
)
from zoo import UsageError, surgery


@pytest.mark.parametrize(
    "name",
    [
        *("MobileNet", "MobileNetV3Small"),
        *(pytest.param(name, marks=pytest.mark.check) for name in ("VGG16", "ResNet50V2")),
    ],
)
def test_new_head_on_keras_applications(name):
    options = {} if name == "VGG16" else {"alpha": 0.75} if "Mobile" in name else {}
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(32, 32, 3), classes=9, classifier_activation="softmax", **options
    )
    changed = surgery.head(model, 4)
    logits = predict(changed, random_images())
    assert logits.shape == (2, 4)
    assert logits.dtype == "float32"
    assert not np.allclose(logits.sum(axis=-1), 1)
    assert "logits" in layer_names(changed.layers)
    assert "predictions" not in layer_names(changed.layers)
    new_ids, old_ids = ({id(v) for v in net.weights} for net in (changed, model))
    assert len(new_ids - old_ids) == 2


def test_new_head_on_maps_and_on_features():
    squeezenet = surgery.head(zoo.build("squeezenet_v1_1", input_shape=(64, 64, 3)), 4, 0.3)
    assert layer_names(squeezenet.layers)[-3:] == ["logits", "logits_relu", "pool"]
    drops = [x.rate for x in squeezenet.layers if isinstance(x, keras.layers.Dropout)]
    assert drops == [0.3]
    features = zoo.backbone("resnet20", input_shape=(32, 32, 3))
    features = keras.Model(features.input, features.output["stage2"])
    model = surgery.head(features, 4, dropout=0.2)
    assert layer_names(model.layers)[-3:] == ["pool", "dropout", "logits"]


def test_separate_softmax_is_removed_with_the_head():
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(5), keras.layers.Dense(3), keras.layers.Softmax()]
    )
    changed = surgery.head(model, 2)
    hidden, fresh = model.layers[0], changed.get_layer("logits")
    x = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    expected = (x @ hidden.kernel + hidden.bias) @ fresh.kernel + fresh.bias
    np.testing.assert_allclose(predict(changed, x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "size"), [("resnet20", (48, 40)), ("mobilenet_025", (64, 96))])
def test_resized_network_equals_one_built_for_the_size(name, size):
    model = zoo.build(name, input_shape=(32, 32, 3))
    resized = surgery.resize(model, size)
    built = zoo.build(name, input_shape=(*size, 3))
    built.set_weights(model.get_weights())
    x = np.random.default_rng(0).uniform(0, 255, (1, *size, 3)).astype("float32")
    assert output_error(resized, built, x) < 1e-5
    assert {id(v) for v in resized.weights} == {id(v) for v in model.weights}


def test_position_embeddings_are_interpolated():
    model = zoo.build("vit_tiny", input_shape=(64, 64, 3), depth=2)
    layer = model.get_layer("positions")
    rows, columns = np.mgrid[:4, :4]
    values = np.zeros((1, 17, 192), "float32")
    values[0, 0], values[0, 1:, 0], values[0, 1:, 1] = 7, rows.ravel(), columns.ravel()
    layer.kernel.assign(values)
    resized = surgery.resize(model, (128, 96))
    assert predict(resized, random_images(128)[:, :, :96]).shape == (2, 1000)
    new = np.array(resized.get_layer("positions").kernel)
    assert new.shape == (1, 49, 192)
    assert (new[0, 0] == 7).all()
    maps = new[0, 1:].reshape(8, 6, 192)
    # A ramp stays one: its middle rows lie where rows of half the pitch lie.
    np.testing.assert_allclose(maps[3:5, 0, 0], [1.25, 1.75], atol=0.05)
    np.testing.assert_allclose(maps[0, 2:4, 1], [7 / 6, 11 / 6], atol=0.05)
    same = surgery.resize(model, (64, 64))
    np.testing.assert_array_equal(
        predict(same, random_images(64)), predict(model, random_images(64))
    )


def test_dense_layer_on_flattened_maps_cannot_be_resized():
    with pytest.raises(
        UsageError, match="cannot be resized to images of 64 x 64: its layer c5 needs"
    ):
        surgery.resize(zoo.build("lenet5"), (64, 64))
