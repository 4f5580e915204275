"""Folding and absorbing batch normalization: equal outputs, equal training updates."""

from __future__ import annotations

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import zoo
from tests.support.paths import ROOT
from tests.zoo.surgery.example_models import (
    BATCH_NORM,
    first_and_last_block_of_mobilenet_v2,
    freeze_batch_norm,
    layer_classes,
    layer_names,
    mobilenet_v2,
    output_error,
    predict,
    random_images,
    randomize_batch_norm,
    relative_error,
    separable_network,
    small_resnet,
    transfer_model,
)
from zoo import layers, surgery

BASES = pytest.mark.parametrize(
    "build_base",
    [
        first_and_last_block_of_mobilenet_v2,
        pytest.param(mobilenet_v2, marks=pytest.mark.check),
    ],
)


def transposed_network():
    """Returns a network of separable and transposed convolutions and a dense layer."""
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.SeparableConv2D(8, 3, use_bias=False)(inputs)
    x = keras.layers.ReLU()(BATCH_NORM()(x))
    x = keras.layers.Conv2DTranspose(6, 3, strides=2)(x)
    x = keras.layers.ReLU(max_value=6)(BATCH_NORM(scale=False)(x))
    x = keras.layers.Dense(7)(keras.layers.Flatten()(x))
    return keras.Model(inputs, BATCH_NORM(center=False)(x))


def densenet():
    return keras.applications.DenseNet121(
        weights=None, input_shape=(32, 32, 3), pooling="avg", include_top=False
    )


def vgg_with_batch_norm():
    options = {"hidden": (), "widths": (4, 6, 8, 8, 8)}
    return zoo.build("vgg11_bn", input_shape=(32, 32, 3), num_classes=7, **options)


NETWORKS = {
    "resnet": small_resnet,
    "separable": separable_network,
    "transposed": transposed_network,
    "vgg11_bn": vgg_with_batch_norm,
    "preactivation": lambda: small_resnet("resnet20_v2"),
    "mobilenet": lambda: zoo.build("mobilenet_025", input_shape=(32, 32, 3), num_classes=7),
    "densenet": densenet,
}
LARGE = ("mobilenet", "densenet")
PREACTIVATION = ("preactivation", "densenet")  # some of their batch norm is before a convolution


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.check] * (n in LARGE)) for n in NETWORKS]
)
def test_folding_keeps_the_outputs(name):
    model = NETWORKS[name]()
    before = [np.array(w) for w in randomize_batch_norm(model).get_weights()]
    folded = surgery.fold(model)
    size = model.input_shape[1]
    assert output_error(folded, model, random_images(size)) < 1e-5
    assert not {id(v) for v in folded.variables} & {id(v) for v in model.variables}
    if name in PREACTIVATION:
        assert len(folded.layers) < len(model.layers)
    else:
        assert not layer_classes(folded) & {"BatchNormalization"}
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


@BASES
def test_folding_flattens_models_and_supports_half_precision(build_base):
    model = transfer_model(build_base)
    x = random_images().astype("uint8")
    whole = surgery.fold(model)
    assert output_error(whole, model, x) < 1e-5
    assert not layer_classes(whole) & {"BatchNormalization", "Functional", "Sequential"}
    half = surgery.fold(model, "bfloat16")
    assert half.get_layer("Conv1").compute_dtype == "bfloat16"
    assert half.get_layer("rescaling").compute_dtype == "float32"
    assert half.output.dtype == "float32"
    assert 0 < output_error(half, model, x) < 0.05


def test_batch_norm_that_cannot_be_folded_is_kept():
    """Batch norm of a tensor with other consumers, or after an activation."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3)(inputs)
    y = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    outputs = keras.layers.Add()([BATCH_NORM(name="a")(x), x, BATCH_NORM(name="b")(y)])
    model = randomize_batch_norm(keras.Model(inputs, outputs))
    folded = surgery.fold(model)
    assert [x.name for x in folded.layers if isinstance(x, BATCH_NORM)] == ["a", "b"]
    assert output_error(folded, model, random_images(8)) < 1e-6


def test_shared_convolution_is_folded_per_call():
    inputs = keras.Input((8, 8, 3))
    conv = keras.layers.Conv2D(3, 3, padding="same", name="twice")
    x = keras.layers.ReLU()(BATCH_NORM()(conv(inputs)))
    model = randomize_batch_norm(keras.Model(inputs, BATCH_NORM()(conv(x))))
    folded = surgery.fold(model)
    assert layer_names(folded.layers)[1:] == ["twice", "twice_fold2"]
    assert output_error(folded, model, random_images(8)) < 1e-5


def build_for_training(name):
    return zoo.build(name, dropout=0.0, input_shape=(64, 64, 3), num_classes=7)


TRAINED = {
    "resnet": lambda: small_resnet(num_classes=7),
    "separable": separable_network,
    "resnet20.cifar10": lambda: build_for_training("resnet20.cifar10"),
    "mobilenet_025": lambda: build_for_training("mobilenet_025"),
}
LEARNING_RATES = {"SGD": 1e-3, "Adam": 1e-4}


def train(name, optimizer, absorbed, policy="float32", steps=5, eager=False):
    """Trains a network for some steps; returns the updates of its weights, losses and outputs.

    Batch normalization is frozen, and absorbed if that is requested.
    """
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(3)
    model = freeze_batch_norm(randomize_batch_norm(TRAINED[name]()))
    before = model.get_weights()
    train_model = surgery.absorb(model) if absorbed else model
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    jit = "auto" if keras.backend.backend() == "jax" else False  # XLA compiles for long
    optimizer = getattr(keras.optimizers, optimizer)(LEARNING_RATES[optimizer])
    train_model.compile(optimizer, loss, jit_compile=jit, run_eagerly=eager)
    x = random_images(model.input_shape[1], batch=4 * steps)
    y = np.arange(4 * steps) % 7
    losses = train_model.fit(x, y, batch_size=4, shuffle=False, verbose=0).history["loss"]
    updates = [b - a for a, b in zip(before, model.get_weights(), strict=True)]
    return np.concatenate([update.ravel() for update in updates]), losses, predict(model, x[:4])


def check_equal_updates(name, optimizer, **options):
    # In float64: for gradients near zero the updates of Adam have full size, and in float32 their
    # sign depends on rounding, which differs between processors.
    (expected, *expected_results), (updates, *results) = (
        train(name, optimizer, absorbed, "float64", **options) for absorbed in (False, True)
    )
    assert updates.dtype == "float64"
    assert np.linalg.norm(updates - expected) < 1e-9 * np.linalg.norm(expected)
    for a, b in zip(expected_results, results, strict=True):
        assert relative_error(a, b) < 1e-6  # logits and losses are float32


@pytest.mark.parametrize("optimizer", LEARNING_RATES)
@pytest.mark.parametrize("name", ["resnet", "separable"])
@pytest.mark.check
def test_absorbed_network_gets_the_same_updates(name, optimizer):
    # The small networks take longer to trace than to run eagerly; one is traced nevertheless.
    eager = (name, optimizer) != ("separable", "SGD")
    check_equal_updates(name, optimizer, steps=3, eager=eager)


@pytest.mark.parametrize(
    "optimizer",
    [pytest.param("SGD", marks=pytest.mark.slow), pytest.param("Adam", marks=pytest.mark.check)],
)
@pytest.mark.parametrize("name", ["resnet20.cifar10", "mobilenet_025"])
def test_absorbed_model_of_the_zoo_gets_the_same_updates(name, optimizer):
    check_equal_updates(name, optimizer)


@pytest.mark.slow
def test_absorbed_network_gets_the_same_updates_on_jax():
    pytest.importorskip("jax")
    code = "from tests.zoo.surgery import test_folding as t, test_surgery; "
    code += "t.check_equal_updates('resnet20.cifar10', 'Adam'); "
    code += "t.check_equal_updates('mobilenet_025', 'SGD'); test_surgery.check_surgery(); "
    code += "print('done')"
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_ENABLE_X64": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip().endswith("done"), done.stderr[-3000:]


def test_absorbed_network_shares_variables():
    model = freeze_batch_norm(separable_network())
    conv = model.layers[1]
    conv.trainable = False
    absorbed = surgery.absorb(model)
    assert {id(v) for v in absorbed.variables} == {id(v) for v in model.variables}
    paths = [[v.path for v in net.trainable_variables] for net in (absorbed, model)]
    assert paths[0] == paths[1]
    assert not any(path.startswith(conv.name) for path in paths[0])
    assert "BatchNormalization" not in layer_classes(absorbed)
    assert output_error(absorbed, model, random_images(16)) < 1e-5


def test_trainable_batch_norm_is_not_absorbed():
    model = small_resnet()
    model.get_layer("conv1_bn").trainable = False
    absorbed = surgery.absorb(model)
    assert sum(isinstance(layer, BATCH_NORM) for layer in absorbed.layers) == 6
    assert isinstance(absorbed.get_layer("conv1_conv_conv1_bn"), layers.AbsorbedConv2D)


@pytest.mark.parametrize(
    "name", ["separable", pytest.param("mobilenet_025", marks=pytest.mark.check)]
)
def test_absorbing_works_in_half_precision(name):
    eager = name == "separable"
    full = train(name, "SGD", False, eager=eager)
    half = [
        train(name, "SGD", absorbed, "mixed_bfloat16", eager=eager) for absorbed in (False, True)
    ]
    assert all(w.dtype == "float32" for w in half[1][0])
    errors = [relative_error(found[2], full[2]) for found in half]
    assert 0 < errors[1] < max(2 * errors[0], 0.02)


@BASES
def test_absorbed_nested_model_can_be_saved(build_base, tmp_path):
    model = freeze_batch_norm(transfer_model(build_base))
    absorbed = surgery.absorb(model)
    x = random_images().astype("uint8")
    assert output_error(absorbed, model, x) < 1e-5
    absorbed.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(predict(loaded, x), predict(absorbed, x))
