"""The contract of an agent, what every name of the kind must do; then each family's own."""

from __future__ import annotations

import subprocess
import sys

import keras
import numpy as np
import pytest

import zoo
from tests.support import checks
from tests.support.paths import ROOT
from zoo import UsageError, layers
from zoo.flops import count_params_and_flops

ACTIONS = 5
EAGERLY = keras.config.backend() == "tensorflow"
NAMES = zoo.names(kind="agent")
SMALL = {  # options with which a network runs in little time
    "nature_dqn": {"hidden": 16},
    "nips_dqn": {"hidden": 16},
    "minatar_dqn": {"hidden": 16},
    "vector_dqn": {"widths": (16, 8)},
}
STREAMS = [False, True]


def smallest(name):
    """The smallest input that a model says it takes."""
    spec = zoo.spec(name)
    least = len(spec.input_shape) - 1
    return (*[spec.min_size] * least, 2)


def small(name, **options):
    """A small model with random weights for its smallest input, and what it sees."""
    keras.utils.set_random_seed(0)
    options = {**SMALL[name], **options}
    model = zoo.build(name, input_shape=smallest(name), num_classes=ACTIONS, **options)
    seen = np.random.default_rng(0).integers(0, 256, (3, *smallest(name)))
    return model, seen.astype("uint8" if len(smallest(name)) == 3 else "float32")


def run(model, x):
    return keras.ops.convert_to_numpy(model(x))


# The contract


def test_every_agent_has_a_small_version():
    assert sorted(SMALL) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_what_the_spec_knows_is_what_is_built(name):
    model = zoo.build(name)
    spec = zoo.spec(name)
    assert count_params_and_flops(model) == (spec.parameters, spec.flops)
    assert model.input_shape == (None, *spec.input_shape)
    assert model.name == name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dueling", STREAMS)
def test_values_are_float32_one_for_each_action(name, dueling):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model, seen = small(name, dueling=dueling)
    values = run(model, seen)
    assert (values.shape, values.dtype) == ((3, ACTIONS), np.float32)
    assert np.isfinite(values).all()
    assert (values[0] != values[1]).any()
    assert any(layer.compute_dtype == "bfloat16" for layer in model.layers)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dueling", STREAMS)
def test_a_gradient_reaches_every_weight(name, dueling):
    model, seen = small(name, dueling=dueling)
    wanted = np.random.default_rng(1).normal(size=(3, ACTIONS))
    checks.assert_all_learn(model, seen, wanted, "mse", run_eagerly=EAGERLY)


@pytest.mark.parametrize("name", NAMES)
def test_an_input_that_is_too_small_is_refused(name):
    shape = smallest(name)
    if len(shape) == 1:
        with pytest.raises(UsageError, match="needs input_shape"):
            zoo.build(name, input_shape=(4, 4, 1))
        return
    with pytest.raises(UsageError, match=f"needs images of {shape[0]} x {shape[0]}"):
        zoo.build(name, input_shape=(shape[0] - 1, *shape[1:]))
    with pytest.raises(UsageError, match="an agent needs pixels of a fixed size"):
        zoo.build(name, input_shape=(None, None, 4))


def test_saved_models_are_read_by_a_process_without_the_zoo(tmp_path):
    for name in NAMES:
        model, seen = small(name, dueling=True)
        model.save(tmp_path / f"{name}.keras")
        np.savez(tmp_path / f"{name}.npz", seen=seen, values=run(model, seen))
    code = (
        "import pathlib, sys, keras, numpy as np, zoo.layers\n"
        "for path in pathlib.Path(sys.argv[1]).glob('*.keras'):\n"
        "    model, known = keras.saving.load_model(path), np.load(path.with_suffix('.npz'))\n"
        "    values = keras.ops.convert_to_numpy(model(known['seen']))\n"
        "    np.testing.assert_allclose(values, known['values'], rtol=1e-4, atol=1e-4)\n"
        "assert 'zoo.models' not in sys.modules\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# Each family's own


def test_the_networks_are_those_of_the_papers():
    """By hand: of each layer, inputs times kernel times outputs, and biases."""
    convolutions = 8 * 8 * 4 * 32 + 32 + 4 * 4 * 32 * 64 + 64 + 3 * 3 * 64 * 64 + 64
    nature = convolutions + 7 * 7 * 64 * 512 + 512 + 512 * 6 + 6
    assert zoo.spec("nature_dqn").parameters == nature == 1_687_206
    nips = 8 * 8 * 4 * 16 + 16 + 4 * 4 * 16 * 32 + 32 + 9 * 9 * 32 * 256 + 256 + 256 * 6 + 6
    assert zoo.spec("nips_dqn").parameters == nips
    minatar = 3 * 3 * 4 * 16 + 16 + 8 * 8 * 16 * 128 + 128 + 128 * 6 + 6
    assert zoo.spec("minatar_dqn").parameters == minatar
    vector = 4 * 120 + 120 + 120 * 84 + 84 + 84 * 2 + 2
    assert zoo.spec("vector_dqn").parameters == vector


def test_two_streams_are_joined_as_in_equation_9():
    value, advantages = np.array([[2.0]]), np.array([[1.0, -4.0, 9.0]])
    joined = layers.Dueling()([value, advantages])
    assert keras.ops.convert_to_numpy(joined).tolist() == [[1.0, -4.0, 9.0]]
    model, _ = small("vector_dqn", dueling=True)
    names = {layer.name: layer.output.shape for layer in model.layers}
    assert names["state"] == (None, 1)
    assert names["advantages"] == names["values"] == (None, ACTIONS)
    assert names["state_hidden"] == names["advantages_hidden"] == (None, 8)


def test_pixels_are_scaled_inside():
    model, seen = small("minatar_dqn")
    first = model.get_layer("conv1")
    inside = keras.Model(model.input, first.input)
    np.testing.assert_allclose(run(inside, seen), seen / 255.0, rtol=1e-6)


def test_an_mlp_without_layers_is_refused():
    with pytest.raises(UsageError, match="vector_dqn needs one width or more"):
        zoo.build("vector_dqn", widths=())
