"""Layer-wise rates, frozen BatchNorm and gradual unfreezing in Keras's own `fit`."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import tasks
import zoo
from zoo.errors import UsageError
from zoo.graphs import leaf_layers
from zoo.lazy import keras
from zoo.surgery import feature_stages


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    options = {"depths": (1, 1), "widths": (4, 8), "hidden": (), "conv_dropout": 0.0}
    return zoo.build("convnet", input_shape=(8, 8, 1), num_classes=3, **options)


@pytest.fixture
def data():
    random = np.random.default_rng(0)
    return random.integers(0, 256, (16, 8, 8, 1)).astype("float32"), np.arange(16) % 3


def loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def weights(model):
    return {v.path: np.array(v) for v in model.variables}


def test_each_stage_moves_by_its_own_rate(model, data):
    twin = keras.models.clone_model(model)
    optimizer = tasks.transfer.layerwise_optimizer(model, keras.optimizers.SGD, 0.1, decay=0.5)
    model.compile(optimizer, loss())
    twin.set_weights(model.get_weights())
    twin.compile(keras.optimizers.SGD(0.1), loss())
    before = weights(model)
    for each in (model, twin):
        each.train_on_batch(*data)
    depths, seen = feature_stages.depths(model), set()
    for layer, other in zip(leaf_layers(model), leaf_layers(twin), strict=True):
        depth = depths.get(layer.name, 0)
        for mine, plain in zip(layer.trainable_weights, other.trainable_weights, strict=True):
            moved = np.array(mine) - before[mine.path]
            expected = 0.5**depth * (np.array(plain) - before[mine.path])
            np.testing.assert_allclose(moved, expected, atol=1e-7)
            seen.add(depth)
    assert len(seen) == 3


def test_frozen_batch_norm_keeps_its_statistics(model, data):
    tasks.transfer.freeze(model, "all")
    model.compile(keras.optimizers.SGD(0.1), loss())
    before = weights(model)
    model.fit(*data, epochs=1, verbose=0)
    changed = {path for path, value in weights(model).items() if (value != before[path]).any()}
    assert changed
    assert not any("norm" in path or "_bn" in path for path in changed)
    assert {path for path in before if "conv" in path and path.endswith("kernel")} <= changed


@pytest.mark.parametrize("layerwise", [False, pytest.param(True, marks=pytest.mark.check)])
def test_layers_are_unfrozen_at_their_epochs(model, data, layerwise):
    rows = []
    record = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: rows.append(weights(model))
    )
    unfreeze = tasks.transfer.gradual_unfreezing({0: "head", 1: "stage1", 3: "all"})
    optimizer = keras.optimizers.Adam(0.01)
    if layerwise:
        optimizer = tasks.transfer.layerwise_optimizer(model, keras.optimizers.Adam, 0.01)
    model.compile(optimizer, loss())
    model.fit(*data, epochs=4, verbose=0, callbacks=[unfreeze, record])
    rows.append(weights(model))
    moved = [
        {path.split("/")[-2] for path in first if (first[path] != second[path]).any()}
        for first, second in itertools.pairwise(rows)
    ]
    assert moved[0] == {"logits"}
    assert moved[1] == moved[2] == {"logits", "block2_conv1"}
    assert moved[3] == {"logits", "block2_conv1", "block1_conv1"}


def test_gradual_unfreezing_goes_on_in_a_second_fit(model, data):
    unfreeze = tasks.transfer.gradual_unfreezing({0: "head", 2: "stage1", 4: "all"})
    model.compile(keras.optimizers.Adam(0.01), loss())
    model.fit(*data, epochs=1, verbose=0, callbacks=[unfreeze])
    before = weights(model)
    model.fit(*data, initial_epoch=3, epochs=4, verbose=0, callbacks=[unfreeze])
    after = weights(model)
    moved = {path.split("/")[-2] for path in before if (before[path] != after[path]).any()}
    assert moved == {"logits", "block2_conv1"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: tasks.transfer.freeze(model, batch_norm="recalibrate"), "batch norm"),
        (lambda model: tasks.transfer.gradual_unfreezing({1: "all"}), "epoch 0"),
        (lambda model: tasks.transfer.freeze(model, "stage9"), "stage9"),
        (
            lambda model: tasks.transfer.layerwise_optimizer(
                model, keras.optimizers.SGD, 0.1, decay=0
            ),
            "decay",
        ),
    ],
)
def test_invalid_calls_are_refused(model, call, message):
    with pytest.raises(UsageError, match=message):
        call(model)
