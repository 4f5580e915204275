"""The contract of a segmenter, tested for every name of the kind."""

from __future__ import annotations

import inspect

import keras
import numpy as np
import pytest

import zoo
from tests.support import checks
from tests.support.networks import EAGER, outline, pixels, randomized, relative_error, run
from zoo import surgery

CLASSES = 7
NAMES = zoo.names(kind="segmenter")
# One of each builder and of each layer of ours; `make check` runs the others.
FAST = ("fcn8s", "segnet", "unet_paper")
SAMPLES = [pytest.param(x, marks=() if x in FAST else pytest.mark.check) for x in NAMES]
SIZE = (33, 47)  # of which no stride is a divisor
SMALL = {  # options with which a network runs in little time
    "fcn32s": {"backbone": "vgg11", "hidden": (8, 8), "kernel_size": 3},
    "fcn16s": {"backbone": "resnet20", "hidden": (8,), "kernel_size": 3},
    "fcn8s": {"backbone": "resnet20"},
    "segnet": {"widths": (4, 6, 8), "depths": (2, 1, 2)},
    "segnet_vgg16": {"backbone": "resnet20"},
    "unet": {"widths": (4, 6, 8)},
    "unet_paper": {"widths": (4, 6, 8)},
    "unet_backbone": {"backbone": "mobilenet_025"},
    "deeplabv3plus": {"backbone": "resnet18", "width": 16},
}


def channels(name):
    return zoo.spec(name).input_shape[-1]


def test_every_fast_sample_is_a_segmenter():
    assert set(FAST) <= set(NAMES) == set(SMALL)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "size",
    [
        SIZE,
        (None, None),
        pytest.param((1, 1), marks=pytest.mark.check),
        pytest.param((64, None), marks=pytest.mark.check),
    ],
    ids=str,
)
def test_logits_are_float32_of_the_size_of_the_image(name, size):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = outline(name, num_classes=CLASSES, input_shape=(*size, channels(name)))
    assert model.output.shape == (None, *size, CLASSES)
    assert model.output.dtype == "float32"
    assert model.name == name
    assert any(layer.compute_dtype == "bfloat16" for layer in model.layers)


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_belongs_to_the_encoder_or_to_the_head(name):
    model = outline(name, num_classes=CLASSES)
    found = surgery.stages(model)
    assert list(found) == sorted(found)
    assert len(found) >= 3
    head = {layer.name for layer in surgery.learnable(model, "head")}
    parameters = inspect.signature(zoo.spec(name).builder).parameters
    default = parameters["backbone"].default if "backbone" in parameters else None
    backbone = zoo.spec(name).options.get("backbone", default)
    weighted = {layer.name for layer in model.layers if layer.weights}
    if backbone:
        encoder = {layer.name for layer in outline(backbone, zoo.backbone).layers}
        assert head == weighted - encoder
    else:
        assert weighted - head == {x for x in weighted if x.startswith(("encoder", "block"))}
    depths = surgery.depths(model)
    assert {name for name, depth in depths.items() if depth == 0} == head
    assert max(depths.values()) == len(found)


@pytest.fixture(scope="module", params=SAMPLES)
def sample(request):
    """A small model for images of any size, with images and logits; built once for all tests."""
    name = request.param
    keras.utils.set_random_seed(0)
    shape = (None, None, channels(name))
    if keras.config.backend() == "torch":
        shape = (*SIZE, channels(name))
    model = zoo.build(name, num_classes=CLASSES, input_shape=shape, **SMALL[name])
    model.run_eagerly = EAGER
    images = pixels((2, *SIZE, channels(name)))
    yield model, images, run(randomized(model), images)
    keras.utils.clear_session()


@pytest.mark.xdist_group("segmenters")
def test_logits_are_finite_and_depend_on_the_image(sample):
    _, _, logits = sample
    assert logits.shape == (2, *SIZE, CLASSES)
    assert np.isfinite(logits).all()
    assert (logits[0] != logits[1]).any()


@pytest.mark.xdist_group("segmenters")
@pytest.mark.check
def test_logits_do_not_depend_on_whether_the_size_is_fixed(sample):
    model, images, logits = sample
    if None not in model.input_shape[1:]:
        pytest.skip("the backend needs fixed sizes")
    fixed = zoo.build(
        model.name, num_classes=CLASSES, input_shape=images.shape[1:], **SMALL[model.name]
    )
    fixed.set_weights(model.get_weights())
    assert relative_error(logits, run(fixed, images)) < 1e-5
    assert run(model, images[:, :1, :2]).shape == (2, 1, 2, CLASSES)


@pytest.mark.skipif(not EAGER, reason="a graph of TensorFlow")
@pytest.mark.parametrize("sample", SAMPLES, indirect=True)
@pytest.mark.xdist_group("segmenters")
def test_a_graph_for_any_size_gives_the_same_logits(sample):
    """Traced without autograph, as `zoo predict` and the exporters trace it."""
    import tensorflow as tf

    model, images, logits = sample
    shape = tf.TensorSpec((None, None, None, images.shape[-1]), "float32")
    graph = tf.function(model, autograph=False).get_concrete_function(shape, training=False)
    assert relative_error(graph(tf.constant(images)).numpy(), logits) < 1e-5


@pytest.mark.parametrize("sample", SAMPLES, indirect=True)
@pytest.mark.xdist_group("segmenters")
def test_folding_keeps_the_logits(sample):
    model, images, logits = sample
    folded = surgery.fold(model)
    assert relative_error(run(folded, images), logits) < 1e-4
    kinds = {type(layer).__name__ for layer in folded.layers}
    assert "BatchNormalization" not in kinds
    assert list(surgery.stages(folded)) == list(surgery.stages(model))


@pytest.mark.parametrize("name", SAMPLES)
def test_a_frozen_encoder_is_split_off(name):
    """With a fixed size; otherwise the image is needed until the end, to crop the logits."""
    shape = (*SIZE, channels(name))
    model = randomized(zoo.build(name, num_classes=CLASSES, input_shape=shape, **SMALL[name]))
    surgery.freeze(model, "head")
    depths = surgery.depths(model)
    for layer in surgery.learnable(model, "all"):
        assert layer.trainable == (depths[layer.name] == 0)
    encoder, head = surgery.split(model)
    images = pixels((2, *shape))
    assert relative_error(run(head, run(encoder, images)), run(model, images)) < 1e-5
    assert sum(layer.count_params() for layer in encoder.layers) > 0


@pytest.mark.xdist_group("segmenters")
@pytest.mark.check
def test_saved_model_predicts_the_same(sample, tmp_path):
    model, images, logits = sample
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(run(loaded, images), logits, rtol=1e-5, atol=1e-5)
    assert list(surgery.stages(loaded)) == list(surgery.stages(model))


@pytest.mark.xdist_group("segmenters")
def test_a_gradient_reaches_every_weight(sample):
    model, images, _ = sample
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    labels = np.random.default_rng(0).integers(0, CLASSES, images.shape[:-1])
    before = model.get_weights()
    checks.assert_all_learn(model, images, labels, loss, run_eagerly=EAGER)
    model.set_weights(before)


@pytest.mark.xdist_group("reader")
@pytest.mark.parametrize("name", ["fcn8s", "segnet", "unet_paper"])
@pytest.mark.check
def test_saved_model_predicts_the_same_in_a_process_without_the_builders(name, reader):
    """One for each layer of ours that a segmenter may have."""
    shape = (None, None, channels(name))
    model = randomized(zoo.build(name, num_classes=2, input_shape=shape, **SMALL[name]))
    images = pixels((1, *SIZE, channels(name)))
    np.testing.assert_allclose(reader(model, images), run(model, images), rtol=1e-4, atol=1e-4)


def test_a_weights_file_holds_the_backbone_too(tmp_path, monkeypatch):
    """So that nothing is downloaded for the backbone."""
    shape = {"input_shape": (32, 32, 3), "num_classes": 3}
    model = randomized(zoo.build("unet_backbone", **shape))
    model.save_weights(tmp_path / "own.weights.h5")
    monkeypatch.setattr("zoo.weights.fetch", lambda *args, **kwargs: pytest.fail("fetched"))
    path = str(tmp_path / "own.weights.h5")
    shape["input_shape"] = (None, None, 3)
    again = zoo.build("unet_backbone", **shape, weights=path)
    images = pixels((1, 32, 32, 3))
    np.testing.assert_allclose(run(again, images), run(model, images), rtol=1e-4, atol=1e-5)
