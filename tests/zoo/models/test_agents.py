"""The contract of a Q-network, the kind `agent`, and what is peculiar to single networks."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import zoo
from tests.support import checks
from tests.support.networks import EAGER, run
from zoo import UsageError, layers

ACTIONS = 5
NAMES = zoo.names(kind="agent")
SMALL = {  # options with which a network runs in little time
    "nature_dqn": {"hidden": 16},
    "nips_dqn": {"hidden": 16},
    "minatar_dqn": {"hidden": 16},
    "vector_dqn": {"widths": (16, 8)},
}
FAST = ("minatar_dqn", "vector_dqn")  # one for pixels, one for vectors
SOME = [pytest.param(x, marks=() if x in FAST else pytest.mark.check) for x in NAMES]


def smallest(name):
    """Returns the smallest input shape that a model takes."""
    spec = zoo.spec(name)
    axes = len(spec.input_shape) - 1  # of height and width
    return (*[spec.min_size] * axes, 2)


def small(name, **options):
    """Returns a small model for its smallest input, and observations."""
    keras.utils.set_random_seed(0)
    options = {**SMALL[name], **options}
    model = zoo.build(name, input_shape=smallest(name), num_classes=ACTIONS, **options)
    observations = np.random.default_rng(0).integers(0, 256, (3, *smallest(name)))
    return model, observations.astype("uint8" if len(smallest(name)) == 3 else "float32")


# The contract


def test_every_agent_has_small_options():
    assert sorted(SMALL) == sorted(NAMES)


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("dueling", [False, True])
def test_values_are_float32_one_per_action(name, dueling):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model, observations = small(name, dueling=dueling)
    values = run(model, observations)
    assert (values.shape, values.dtype) == ((3, ACTIONS), np.float32)
    assert np.isfinite(values).all()
    assert (values[0] != values[1]).any()
    assert any(layer.compute_dtype == "bfloat16" for layer in model.layers)


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("dueling", [False, True])
def test_a_gradient_reaches_every_weight(name, dueling):
    model, observations = small(name, dueling=dueling)
    targets = np.random.default_rng(1).normal(size=(3, ACTIONS))
    checks.assert_all_learn(model, observations, targets, "mse", run_eagerly=EAGER)


@pytest.mark.parametrize("name", NAMES)
def test_an_input_that_is_too_small_is_refused(name):
    shape = smallest(name)
    if len(shape) == 1:
        with pytest.raises(UsageError, match="needs input_shape"):
            zoo.build(name, input_shape=(4, 4, 1))
        return
    with pytest.raises(UsageError, match=f"needs images of {shape[0]} x {shape[0]}"):
        zoo.build(name, input_shape=(shape[0] - 1, *shape[1:]))
    with pytest.raises(UsageError, match="an agent needs images of a fixed size"):
        zoo.build(name, input_shape=(None, None, 4))


@pytest.mark.xdist_group("reader")
@pytest.mark.parametrize("name", SOME)
@pytest.mark.check
def test_saved_model_predicts_the_same_in_a_process_without_the_builders(name, reader):
    model, observations = small(name, dueling=True)
    values = run(model, observations)
    np.testing.assert_allclose(reader(model, observations), values, rtol=1e-4, atol=1e-4)


# Single networks


def test_parameters_are_those_of_the_papers():
    """By hand: inputs times kernel size times outputs of each layer, and biases."""
    convolutions = 8 * 8 * 4 * 32 + 32 + 4 * 4 * 32 * 64 + 64 + 3 * 3 * 64 * 64 + 64
    nature = convolutions + 7 * 7 * 64 * 512 + 512 + 512 * 6 + 6
    assert zoo.spec("nature_dqn").parameters == nature == 1_687_206
    nips = 8 * 8 * 4 * 16 + 16 + 4 * 4 * 16 * 32 + 32 + 9 * 9 * 32 * 256 + 256 + 256 * 6 + 6
    assert zoo.spec("nips_dqn").parameters == nips
    minatar = 3 * 3 * 4 * 16 + 16 + 8 * 8 * 16 * 128 + 128 + 128 * 6 + 6
    assert zoo.spec("minatar_dqn").parameters == minatar
    vector = 4 * 120 + 120 + 120 * 84 + 84 + 84 * 2 + 2
    assert zoo.spec("vector_dqn").parameters == vector


def test_two_streams_are_aggregated_as_in_equation_9():
    value, advantages = np.array([[2.0]]), np.array([[1.0, -4.0, 9.0]])
    joined = layers.Dueling()([value, advantages])
    assert keras.ops.convert_to_numpy(joined).tolist() == [[1.0, -4.0, 9.0]]
    model, _ = small("vector_dqn", dueling=True)
    names = {layer.name: layer.output.shape for layer in model.layers}
    assert names["state"] == (None, 1)
    assert names["advantages"] == names["values"] == (None, ACTIONS)
    assert names["state_hidden"] == names["advantages_hidden"] == (None, 8)


def test_pixels_are_scaled_by_the_model():
    model, observations = small("minatar_dqn")
    first = model.get_layer("conv1")
    inside = keras.Model(model.input, first.input)
    np.testing.assert_allclose(run(inside, observations), observations / 255.0, rtol=1e-6)


def test_an_mlp_without_layers_is_refused():
    with pytest.raises(UsageError, match="vector_dqn needs at least one width"):
        zoo.build("vector_dqn", widths=())
