"""The contract of a sequence model, the kind `sequence`, and its steps against NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import zoo
from tests.support import checks
from tests.support.networks import EAGER, copied, run
from zoo import UsageError, layers
from zoo.parts import sequences

NAMES = zoo.names(kind="sequence")
RECURRENT = ("simple_rnn", "lstm", "gru")
TOKENS, CHANNELS, STEPS, SPLIT = 11, 3, 9, 5
SMALL = {"units": 8, "depth": 2}
MEAN, STD = (100.0, 0.0, -2.0), (2.0, 1.0, 0.5)
KINDS = {  # what goes in and comes out: channels, outputs, options
    "next token": (1, TOKENS, {"vocabulary": TOKENS}),
    "label of tokens": (1, 4, {"vocabulary": TOKENS, "return_sequences": False}),
    "next values": (CHANNELS, CHANNELS, {"vocabulary": 0, "mean": MEAN, "std": STD}),
    "label of values": (
        CHANNELS,
        4,
        {"vocabulary": 0, "mean": MEAN, "std": STD, "return_sequences": False},
    ),
}
RNG = np.random.default_rng(0)
FAST = set(zip(("lstm", "simple_rnn", "transformer", "gru"), KINDS, strict=True))
EACH = [
    pytest.param(name, kind, marks=() if (name, kind) in FAST else pytest.mark.check)
    for name in NAMES
    for kind in KINDS
]


def small(name, kind, steps=None, **options):
    """Returns a small model and two sequences."""
    channels, outputs, own = KINDS[kind]
    keras.utils.set_random_seed(0)
    options = {**SMALL, **own, **options}
    if not own["vocabulary"] or name == "transformer":
        options.pop("embedding", None)
    model = zoo.build(name, input_shape=(steps, channels), num_classes=outputs, **options)
    if own["vocabulary"]:
        return model, RNG.integers(1, TOKENS, (2, STEPS, 1)).astype("float32")
    return model, RNG.normal(MEAN, STD, (2, STEPS, CHANNELS)).astype("float32")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# The contract


def test_every_family_is_listed():
    assert sorted(NAMES) == ["gru", "lstm", "simple_rnn", "transformer"]


@pytest.mark.backend
@pytest.mark.parametrize(("name", "kind"), EACH)
def test_outputs_are_float32_for_each_step_or_for_the_sequence(name, kind):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model, x = small(name, kind)
    outputs = run(model, x)
    per_step = (STEPS,) if kind.startswith("next") else ()
    assert (outputs.shape, outputs.dtype) == ((2, *per_step, KINDS[kind][1]), np.float32)
    assert np.isfinite(outputs).all()
    assert (outputs[0] != outputs[1]).any()
    assert any(layer.compute_dtype == "bfloat16" for layer in model.layers)


@pytest.mark.backend
@pytest.mark.parametrize("kind", ["next token", "next values"])
@pytest.mark.parametrize("name", NAMES)
def test_an_output_does_not_depend_on_later_steps(name, kind):
    model, x = small(name, kind)
    changed = x.copy()
    changed[:, SPLIT:] = x[:, SPLIT:] % (TOKENS - 1) + 1
    before, after = run(model, x), run(model, changed)
    np.testing.assert_array_equal(after[:, :SPLIT], before[:, :SPLIT])
    assert (after[:, SPLIT:] != before[:, SPLIT:]).any(axis=(0, 2)).all()


@pytest.mark.backend
@pytest.mark.parametrize(("name", "kind"), [each for each in EACH if "label" in each.values[1]])
def test_padding_does_not_change_the_output(name, kind):
    model, x = small(name, kind)
    padding = sequences.PADDING_TOKEN if "tokens" in kind else sequences.PADDING_VALUE
    padded = np.pad(x, ((0, 0), (0, 3), (0, 0)), constant_values=padding)
    np.testing.assert_allclose(run(model, padded), run(model, x), atol=1e-6)
    others = np.pad(x, ((0, 0), (0, 3), (0, 0)), constant_values=1.0)
    assert np.abs(run(model, others) - run(model, x)).max() > 1e-3


@pytest.mark.parametrize(("name", "kind"), EACH)
def test_a_gradient_reaches_every_weight(name, kind):
    model, x = small(name, kind, dropout=0.1)
    checks.assert_all_learn(model, x, RNG.normal(size=run(model, x).shape), run_eagerly=EAGER)


@pytest.mark.xdist_group("reader")
@pytest.mark.parametrize(("name", "kind"), EACH)
@pytest.mark.check
def test_saved_model_predicts_the_same_in_a_process_without_the_builders(name, kind, reader):
    model, x = small(name, kind)
    np.testing.assert_allclose(reader(model, x), run(model, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", RECURRENT)
def test_saved_recurrent_models_have_layers_of_keras_only(name):
    model, _ = small(name, "label of values", dropout=0.1)
    assert not [each for each in model.layers if type(each).__module__.startswith("zoo.")]


@pytest.mark.backend
@pytest.mark.parametrize("name", NAMES)
def test_values_are_standardised_inside_and_forecasts_are_in_their_units(name):
    """The same network on standardized values, in half precision too."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    model, x = small(name, "next values")
    plain, _ = small(name, "next values", mean=None, std=None)
    plain.set_weights(model.get_weights())
    expected = run(plain, (x - MEAN) / STD) * STD + MEAN
    np.testing.assert_allclose(run(model, x), expected, rtol=1e-5, atol=1e-5)


# Against formulas


def weights_of(name, features=3, units=4):
    """Returns a recurrent layer's model, its weights in float64, random inputs and outputs."""
    options = {"vocabulary": 0, "units": units, "depth": 1}
    keras.utils.set_random_seed(1)
    model = zoo.build(name, input_shape=(6, features), num_classes=2, **options)
    layer = model.get_layer("recurrent1")
    layer.set_weights([RNG.normal(0, 0.7, w.shape) for w in layer.get_weights()])
    x = RNG.normal(size=(2, 6, features)).astype("float32")
    outputs = run(keras.Model(model.input, layer.output), x)
    return [w.astype("float64") for w in layer.get_weights()], x.astype("float64"), outputs


def unrolled(step, x, *state):
    """Returns the first state after each step, `(batch, steps, units)`."""
    found = []
    for index in range(x.shape[1]):
        state = step(x[:, index], *state)
        found.append(state[0])
    return np.stack(found, axis=1)


@pytest.mark.backend
def test_simple_rnn_is_the_formula():
    (kernel, recurrent, bias), x, outputs = weights_of("simple_rnn")
    expected = unrolled(
        lambda x, h: (np.tanh(x @ kernel + h @ recurrent + bias),), x, np.zeros((2, 4))
    )
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


@pytest.mark.backend
def test_lstm_is_the_formula():
    (kernel, recurrent, bias), x, outputs = weights_of("lstm")

    def step(x, h, c):
        i, f, g, o = np.split(x @ kernel + h @ recurrent + bias, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c

    zeros = np.zeros((2, 4))
    np.testing.assert_allclose(outputs, unrolled(step, x, zeros, zeros), atol=1e-5)


@pytest.mark.backend
def test_gru_is_the_formula():
    (kernel, recurrent, (bias, recurrent_bias)), x, outputs = weights_of("gru")

    def step(x, h):
        xz, xr, xn = np.split(x @ kernel + bias, 3, axis=-1)
        hz, hr, hn = np.split(h @ recurrent + recurrent_bias, 3, axis=-1)
        z, r = sigmoid(xz + hz), sigmoid(xr + hr)
        return (z * h + (1 - z) * np.tanh(xn + r * hn),)

    np.testing.assert_allclose(outputs, unrolled(step, x, np.zeros((2, 4))), atol=1e-5)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_recurrent_steps_are_those_of_pytorch(name):
    torch = pytest.importorskip("torch")
    weights, x, outputs = weights_of(name)
    peer = getattr(torch.nn, name.upper())(3, 4, batch_first=True).double()
    kernel, recurrent, bias = weights
    biases = [bias, np.zeros_like(bias)] if name == "lstm" else list(bias)
    order = [0, 1, 2, 3] if name == "lstm" else [1, 0, 2]  # torch: reset, update, new

    def gates(values):
        parts = np.split(values, len(order), axis=-1)
        return torch.tensor(np.concatenate([parts[i] for i in order], axis=-1).T.copy())

    values = map(gates, (kernel, recurrent, *biases))
    with torch.no_grad():
        for parameter, value in zip(peer.parameters(), values, strict=True):
            parameter.copy_(value)
        expected = peer(torch.tensor(x))[0].numpy()
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


@pytest.mark.backend
def test_positions_are_the_sines_and_cosines_of_the_paper():
    x = np.zeros((1, 300, 6), "float32")
    expected = np.empty(x.shape[1:])
    for position, pair in np.ndindex(300, 3):
        angle = position / 10_000 ** (2 * pair / 6)
        expected[position, 2 * pair : 2 * pair + 2] = np.sin(angle), np.cos(angle)
    layer = layers.SinusoidalPositions()
    np.testing.assert_allclose(run(layer, x)[0], expected, atol=5e-5)
    assert copied(layer).get_config() == layer.get_config()


@pytest.mark.backend
def test_attention_is_the_formula():
    """softmax(Q K' / sqrt(d)) V for each head, over this position and earlier ones."""
    model, x = small("transformer", "next values", depth=1, heads=2)
    attention = model.get_layer("block1_attention")
    ends = keras.Model(model.input, [attention.input[0], attention.output])
    given, found = (keras.ops.convert_to_numpy(each) for each in ends(x))
    q, qb, k, kb, v, vb, out, out_bias = (w.astype("float64") for w in attention.get_weights())
    query, key, value = (
        np.einsum("bsw,whd->bhsd", given, kernel) + bias[None, :, None]
        for kernel, bias in ((q, qb), (k, kb), (v, vb))
    )
    scores = query @ key.swapaxes(2, 3) / np.sqrt(4)
    scores[..., np.triu(np.ones((STEPS, STEPS), bool), 1)] = -np.inf
    share = np.exp(scores - scores.max(-1, keepdims=True))
    heads = share / share.sum(-1, keepdims=True) @ value
    expected = np.einsum("bhsd,hdw->bsw", heads, out) + out_bias
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_parameters_are_sums_by_hand():
    """Embedding, gates of (inputs + state + biases) x units, and the head."""
    embedding, head, both = 96 * 32, 128 * 96 + 96, 32 + 128
    assert zoo.spec("simple_rnn").parameters == embedding + (both + 1) * 128 + head
    assert zoo.spec("lstm").parameters == embedding + 4 * (both + 1) * 128 + head
    assert zoo.spec("gru").parameters == embedding + 3 * (both + 2) * 128 + head
    block = 4 * (64 * 64 + 64) + (64 * 256 + 256) + (256 * 64 + 64) + 4 * 64
    assert zoo.spec("transformer").parameters == 96 * 64 + 2 * block + 2 * 64 + 64 * 96 + 96
    gates = 2 * 64 * (4 * (32 + 128) * 128 + 128 * 96)  # per step, two per multiply-add
    assert zoo.spec("lstm").flops == gates


# Wrong arguments


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lstm", {"input_shape": (8, 2)}, "a sequence of tokens has 1 channel, not 2"),
        ("gru", {"input_shape": (8,)}, r"gru needs input_shape \(steps, channels\), not \(8,\)"),
        ("lstm", {"vocabulary": 0, "mean": (1.0, 2.0)}, "one number per channel, 1, or are left"),
        ("lstm", {"vocabulary": 0, "mean": (1.0,), "std": (1.0,)}, "as many channels as mean, 1"),
        ("transformer", {"units": 10}, "needs units divisible by heads; got 10 and 4"),
        ("gru", {"units": 0}, "gru cannot be built with {'units': 0}"),
    ],
)
def test_wrong_arguments_are_refused(name, options, message):
    with pytest.raises(UsageError, match=message):
        zoo.build(name, **options)
