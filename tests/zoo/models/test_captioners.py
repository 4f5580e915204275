"""The contract of a captioner, tested for every name of the kind."""

from __future__ import annotations

import inspect

import keras
import numpy as np
import pytest

import zoo
from tests.support import checks
from tests.support.networks import EAGER, outline, run
from zoo import UsageError, surgery

NAMES = zoo.names(kind="captioner")
WORDS, LENGTH = 11, 5
SMALL = {  # options with which a network runs in little time
    name: {"widths": (8,), "embedding": 6, "units": 8, "backbone": "lenet5"} for name in NAMES
}
SMALL["show_attend_tell"]["attention"] = 4
SHAPE = (32, 32, 1)


def small(name, seed=0, **options):
    keras.utils.set_random_seed(seed)
    options = {"num_classes": WORDS, "length": LENGTH, "input_shape": SHAPE, **options}
    model = zoo.build(name, **{**SMALL[name], **options})
    model.run_eagerly = EAGER
    return model


def inputs(size=2, seed=0, length=LENGTH, shape=SHAPE):
    random = np.random.default_rng(seed)
    return {
        "image": random.integers(0, 256, (size, *shape)).astype("float32"),
        "words": random.integers(0, WORDS, (size, length)).astype("int32"),
    }


# The contract


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
def test_images_below_the_smallest_size_are_refused(name):
    side, words = zoo.spec(name).min_size, zoo.spec(name).num_classes
    assert outline(name, input_shape=(side, side, 3)).output.shape[-1] == words
    with pytest.raises(UsageError, match=f"needs images of {side} x {side}"):
        outline(name, input_shape=(side - 1, side, 3))


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_belongs_to_the_encoder_or_to_the_head(name):
    model = outline(name)
    backbone = inspect.signature(zoo.spec(name).builder).parameters["backbone"].default
    assert list(surgery.stages(model)) == list(zoo.spec(backbone).stages)
    head = {layer.name for layer in surgery.learnable(model, "head")}
    weighted = {layer.name for layer in model.layers if layer.weights}
    encoder = {layer.name for layer in outline(backbone, zoo.backbone).layers}
    assert head == weighted - encoder
    assert {"embedding", "decoder", "logits"} <= head


@pytest.mark.parametrize("name", ["nic", pytest.param("show_attend_tell", marks=pytest.mark.check)])
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
def test_options_give_networks_that_run(name, options):
    model = small(name, **options)
    shape = options.get("input_shape", SHAPE)
    assert run(model, inputs(shape=shape)).shape == (2, LENGTH, WORDS)


@pytest.fixture(scope="module", params=NAMES)
def sample(request):
    """A small model with inputs; built once for all tests below."""
    yield small(request.param), inputs()
    keras.utils.clear_session()


def test_logits_depend_on_the_image_and_on_earlier_words_only(sample):
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


def test_saved_model_predicts_the_same(sample, tmp_path):
    model, x = sample
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(run(loaded, x), run(model, x), rtol=1e-5, atol=1e-6)
    assert list(surgery.stages(loaded)) == list(surgery.stages(model))


def test_a_gradient_reaches_every_weight(sample):
    model, x = sample
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    checks.assert_all_learn(model, x, np.roll(x["words"], -1, axis=1), loss, run_eagerly=EAGER)


@pytest.mark.parametrize("name", NAMES)
def test_a_frozen_encoder_is_split_off(name):
    """The words remain an input of the head; features replace the image."""
    model = small(name, backbone="resnet20", input_shape=(32, 32, 3))
    surgery.freeze(model, "head")
    encoder, head = surgery.split(model)
    x = inputs(shape=(32, 32, 3))
    features = run(encoder, x["image"])
    assert features.shape == (2, 8, 8, 64)
    assert set(head.input) == {"image", "words"}
    found = run(head, {"image": features, "words": x["words"]})
    np.testing.assert_allclose(found, run(model, x), rtol=1e-4, atol=1e-5)
    assert "embedding" not in {layer.name for layer in encoder.layers}


@pytest.mark.xdist_group("reader")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.check
def test_saved_model_predicts_the_same_in_a_process_without_the_builders(name, reader):
    model, x = small(name), inputs()
    np.testing.assert_allclose(reader(model, x), run(model, x), rtol=1e-4, atol=1e-5)


def test_attention_needs_a_fixed_size():
    with pytest.raises(UsageError, match="needs images of a fixed size; pass input_shape"):
        small("show_attend_tell", input_shape=(None, None, 1))
