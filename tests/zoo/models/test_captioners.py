"""The contract of a captioner, what every name of the kind must do; then the layers that speak."""

from __future__ import annotations

import inspect
import subprocess
import sys

import keras
import numpy as np
import pytest

import zoo
from tests.support import checks
from tests.support.paths import ROOT
from zoo import UsageError, layers, surgery
from zoo.flops import count_params_and_flops

EAGERLY = keras.config.backend() == "tensorflow"  # where tracing a graph costs more than running
NAMES = zoo.names(kind="captioner")
WORDS, LENGTH = 11, 5
SMALL = {  # options with which a network runs in little time
    name: {"widths": (8,), "embedding": 6, "units": 8, "backbone": "lenet5"} for name in NAMES
}
SMALL["show_attend_tell"]["attention"] = 4
SHAPE = (32, 32, 1)


def outline(name, **options):
    """Builds a model whose weights have shapes and no values: a tenth of the time, no memory."""
    with keras.StatelessScope(initialize_variables=False):
        return zoo.build(name, **options, weights="random")


def small(name, seed=0, **options):
    keras.utils.set_random_seed(seed)
    options = {"num_classes": WORDS, "length": LENGTH, "input_shape": SHAPE, **options}
    model = zoo.build(name, **{**SMALL[name], **options})
    model.run_eagerly = EAGERLY
    return model


def given(size=2, seed=0, length=LENGTH, shape=SHAPE):
    random = np.random.default_rng(seed)
    return {
        "image": random.integers(0, 256, (size, *shape)).astype("float32"),
        "words": random.integers(0, WORDS, (size, length)).astype("int32"),
    }


def run(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


# The contract


@pytest.mark.parametrize("name", NAMES)
def test_a_spec_counts_what_is_built(name):
    spec = zoo.spec(name)
    assert count_params_and_flops(outline(name)) == (spec.parameters, spec.flops)


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_float32_for_each_word(name):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = outline(name, num_classes=WORDS, length=7)
    assert set(model.input) == {"image", "words"}
    assert model.input["words"].shape == (None, 7)
    assert model.input["words"].dtype == "int32"
    assert model.output.shape == (None, 7, WORDS)
    assert model.output.dtype == "float32"
    assert model.name == name
    assert any(layer.compute_dtype == "bfloat16" for layer in model.layers)


@pytest.mark.parametrize("name", NAMES)
def test_the_smallest_image_is_said_and_a_smaller_one_refused(name):
    least, words = zoo.spec(name).min_size, zoo.spec(name).num_classes
    assert outline(name, input_shape=(least, least, 3)).output.shape[-1] == words
    with pytest.raises(UsageError, match=f"needs images of {least} x {least}"):
        outline(name, input_shape=(least - 1, least, 3))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_the_encoder_is_the_head(name):
    model = outline(name)
    backbone = inspect.signature(zoo.spec(name).builder).parameters["backbone"].default
    assert list(surgery.stages(model)) == list(zoo.spec(backbone).stages)
    head = {layer.name for layer in surgery.learnable(model, "head")}
    every = {layer.name for layer in model.layers if layer.weights}
    with keras.StatelessScope(initialize_variables=False):
        theirs = {layer.name for layer in zoo.backbone(backbone, weights="random").layers}
    assert head == every - theirs
    assert {"embedding", "decoder", "logits"} <= head


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "options",
    [
        {"widths": ()},
        {"level": 1},
        {"dropout": 0.0, "embedding": 5},
        {"length": None},
        {"input_shape": (32, 48, 3), "backbone": "resnet20"},
    ],
    ids=str,
)
def test_options_change_what_they_name(name, options):
    model = small(name, **options)
    shape = options.get("input_shape", SHAPE)
    assert run(model, given(shape=shape)).shape == (2, LENGTH, WORDS)


@pytest.fixture(scope="module", params=NAMES)
def sample(request):
    """A small model with what it takes; built once for all tests below."""
    yield small(request.param), given()
    keras.utils.clear_session()


def test_logits_depend_on_the_image_and_on_the_words_before_alone(sample):
    model, x = sample
    logits = run(model, x)
    assert np.isfinite(logits).all()
    other = run(model, {**x, "image": 255 - x["image"]})
    assert (abs(other - logits).max(axis=-1) > 1e-7).all()
    words = x["words"].copy()
    words[:, 3] = (words[:, 3] + 1) % WORDS
    changed = run(model, {**x, "words": words})
    np.testing.assert_array_equal(changed[:, :3], logits[:, :3])
    assert (changed[:, 3:] != logits[:, 3:]).any(axis=-1).all()


def test_saved_model_answers_the_same(sample, tmp_path):
    model, x = sample
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(run(loaded, x), run(model, x), rtol=1e-5, atol=1e-6)
    assert list(surgery.stages(loaded)) == list(surgery.stages(model))


def test_a_gradient_reaches_every_weight(sample):
    model, x = sample
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    checks.assert_all_learn(model, x, np.roll(x["words"], -1, axis=1), loss, run_eagerly=EAGERLY)


@pytest.mark.parametrize("name", NAMES)
def test_a_frozen_encoder_is_split_off(name):
    """The words stay an input of what learns; features come in the place of the image."""
    model = small(name, backbone="resnet20", input_shape=(32, 32, 3))
    surgery.freeze(model, "head")
    before, after = surgery.split(model)
    x = given(shape=(32, 32, 3))
    features = run(before, x["image"])
    assert features.shape == (2, 8, 8, 64)
    assert set(after.input) == {"image", "words"}
    found = run(after, {"image": features, "words": x["words"]})
    np.testing.assert_allclose(found, run(model, x), rtol=1e-4, atol=1e-5)
    assert "embedding" not in {layer.name for layer in before.layers}


def test_saved_models_are_read_by_a_process_without_the_zoo(tmp_path):
    for name in NAMES:
        model, x = small(name), given()
        model.save(tmp_path / f"{name}.keras")
        np.savez(tmp_path / f"{name}.npz", **x, logits=run(model, x))
    code = (
        "import pathlib, sys, keras, numpy as np, zoo.layers\n"
        "for path in pathlib.Path(sys.argv[1]).glob('*.keras'):\n"
        "    model, known = keras.saving.load_model(path), np.load(path.with_suffix('.npz'))\n"
        "    x = {'image': known['image'], 'words': known['words']}\n"
        "    logits = keras.ops.convert_to_numpy(model(x))\n"
        "    np.testing.assert_allclose(logits, known['logits'], rtol=1e-4, atol=1e-5)\n"
        "assert 'zoo.models' not in sys.modules\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_attention_needs_a_size_that_is_known():
    with pytest.raises(UsageError, match="for images of one size; give input_shape"):
        small("show_attend_tell", input_shape=(None, None, 1))


# The layers that speak


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(given, cell):
    """Hochreiter and Schmidhuber's, with gates in the order of Keras: in, forget, new, out."""
    gate, forget, new, out = np.split(given, 4, axis=-1)
    cell = sigmoid(forget) * cell + sigmoid(gate) * np.tanh(new)
    return sigmoid(out) * np.tanh(cell), cell


def dense(layer, x):
    kernel, *bias = (keras.ops.convert_to_numpy(w).astype("float64") for w in layer.weights)
    return x @ kernel + (bias[0] if bias else 0)


def random_sentence(width=4, size=3, length=6, seed=0):
    return np.random.default_rng(seed).normal(size=(size, length, width)).astype("float32")


def test_an_image_is_the_first_word_of_nic():
    layer = layers.TellingLSTM(5)
    words, image = random_sentence(), random_sentence()[:, 0]
    found = keras.ops.convert_to_numpy(layer(words, image))
    hidden, cell, wanted = np.zeros((3, 5)), np.zeros((3, 5)), []
    for word in [image, *np.moveaxis(words, 1, 0)]:
        hidden, cell = lstm(dense(layer.gates, np.concatenate([word, hidden], -1)), cell)
        wanted.append(hidden)
    np.testing.assert_allclose(found, np.stack(wanted[1:], 1), rtol=1e-4, atol=1e-6)
    reference = keras.layers.LSTM(5, return_sequences=True)  # Keras's own, with the same weights
    whole = np.concatenate([image[:, None], words], axis=1)
    reference.build(whole.shape)
    kernel, bias = layer.gates.get_weights()
    reference.set_weights([kernel[:4], kernel[4:], bias])
    np.testing.assert_allclose(
        found, keras.ops.convert_to_numpy(reference(whole))[:, 1:], rtol=1e-4, atol=1e-6
    )


def test_attention_is_the_formula():
    layer = layers.AttendingLSTM(5, 3)
    words, features = random_sentence(), random_sentence(7, 3, 8, seed=1)
    layer(words, features)  # which builds it
    outputs, places = (keras.ops.convert_to_numpy(x) for x in layer.told(words, features))
    mean = features.astype("float64").mean(axis=1)
    hidden, cell = (np.tanh(dense(d, mean)) for d in (layer.first_hidden, layer.first_cell))
    for step in range(words.shape[1]):
        word = words[:, step]
        query = dense(layer.query, np.concatenate([word, hidden], -1))
        scores = dense(layer.score, np.tanh(dense(layer.keys, features) + query[:, None]))[..., 0]
        look = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
        seen = (look[..., None] * features).sum(axis=1) * sigmoid(dense(layer.gate, hidden))
        hidden, cell = lstm(dense(layer.gates, np.concatenate([word, seen, hidden], -1)), cell)
        wanted = word + dense(layer.of_hidden, hidden) + dense(layer.of_context, seen)
        np.testing.assert_allclose(places[:, step], look, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(outputs[:, step], wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(places.sum(axis=-1), 1, rtol=1e-5)


@pytest.mark.parametrize("kind", ["TellingLSTM", "AttendingLSTM"])
def test_steps_say_what_the_whole_says(kind):
    layer = getattr(layers, kind)(*((5,) if kind == "TellingLSTM" else (5, 3)))
    words = random_sentence()
    features = random_sentence(seed=2)[:, 0] if kind == "TellingLSTM" else random_sentence(7, 3, 8)
    whole = keras.ops.convert_to_numpy(layer(words, features))
    memory, state = layer.begin(features)
    for step in range(words.shape[1]):
        output, state, _ = layer.step(words[:, step], memory, state)
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(output), whole[:, step], rtol=1e-4, atol=1e-6
        )


def test_an_image_of_another_width_than_a_word_is_refused():
    with pytest.raises(UsageError, match="takes an image as a word of 4 numbers, not 7"):
        layers.TellingLSTM(5)(random_sentence(), random_sentence(7)[:, 0])
