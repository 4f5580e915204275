"""The contract of a painter, what every name of the kind must do; then the layers they need."""

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

EAGERLY = keras.config.backend() == "tensorflow"  # where tracing a graph costs more than running
NAMES = zoo.names(kind="painter")
ODD = (33, 46)
SMALL = {"width": 4, "depth": 2}


def outline(name, **options):
    """Builds a model whose weights have shapes and no values: a tenth of the time, no memory."""
    with keras.StatelessScope(initialize_variables=False):
        return zoo.build(name, **options)


def pixels(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype("float32")


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def run(model, x, **kwargs):
    return keras.ops.convert_to_numpy(model(x, **kwargs))


# The contract


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(1, 1), ODD, (None, None), (64, None)], ids=str)
def test_pictures_are_float32_of_the_shape_of_the_image(name, size):
    keras.config.set_dtype_policy("mixed_bfloat16")
    for channels in (3, 1):
        model = outline(name, input_shape=(*size, channels))
        assert model.output.shape == (None, *size, channels)
        assert model.output.dtype == "float32"
        assert model.name == name
        assert any(layer.compute_dtype == "bfloat16" for layer in model.layers)


@pytest.fixture(scope="module", params=NAMES)
def sample(request):
    """A small model for images of any size, with images; built once for all tests below."""
    keras.utils.set_random_seed(0)
    torch = keras.config.backend() == "torch"
    shape = (*ODD, 3) if torch else (None, None, 3)
    model = zoo.build(request.param, input_shape=shape, **SMALL)
    model.run_eagerly = EAGERLY
    yield model, pixels((2, *ODD, 3))
    keras.utils.clear_session()


def test_pictures_have_pixels_and_depend_on_the_image(sample):
    model, images = sample
    found = run(model, images, training=False)
    assert found.shape == images.shape
    assert np.abs(found[0] - found[1]).mean() > 1
    kernel, *_ = model.get_layer("picture_conv").weights
    before = numpy(kernel)
    kernel.assign(500 * before)
    found = run(model, images, training=False)
    kernel.assign(before)
    assert found.min() == pytest.approx(0, abs=1)
    assert found.max() == pytest.approx(255, abs=1)
    assert ((found >= 0) & (found <= 255)).all()


def test_an_image_is_painted_as_if_it_were_alone(sample):
    model, images = sample
    together = run(model, images, training=False)
    alone = run(model, images[:1], training=False)
    np.testing.assert_allclose(together[:1], alone, atol=0.02)


def test_any_size_gives_what_the_one_size_gives(sample):
    model, images = sample
    if None not in model.input_shape[1:]:
        pytest.skip("the backend knows its sizes")
    fixed = zoo.build(model.name, input_shape=images.shape[1:], **SMALL)
    fixed.set_weights(model.get_weights())
    np.testing.assert_allclose(run(model, images), run(fixed, images), atol=0.02)
    for size in ((1, 1), (1, 2), (9, 4)):
        assert run(model, images[:1, : size[0], : size[1]]).shape == (1, *size, 3)


def test_a_gradient_reaches_every_weight(sample):
    model, images = sample
    checks.assert_all_learn(model, images, 255 - images, "mean_squared_error", run_eagerly=EAGERLY)


def test_saved_models_are_read_by_a_process_without_the_zoo(tmp_path):
    for name in NAMES:
        model = zoo.build(name, input_shape=(None, None, 3), **SMALL)
        model.save(tmp_path / f"{name}.keras")
        images = pixels((1, *ODD, 3))
        np.savez(tmp_path / f"{name}.npz", images=images, found=run(model, images))
    code = (
        "import pathlib, sys, keras, numpy as np, zoo.layers\n"
        "for path in pathlib.Path(sys.argv[1]).glob('*.keras'):\n"
        "    model, known = keras.saving.load_model(path), np.load(path.with_suffix('.npz'))\n"
        "    found = keras.ops.convert_to_numpy(model(known['images']))\n"
        "    np.testing.assert_allclose(found, known['found'], atol=0.02)\n"
        "assert 'zoo.models' not in sys.modules\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# Options


def test_the_paper_s_network_cuts_what_it_continued():
    """40 pixels on each side, of which five residual blocks take 8 each (supplement, table 1)."""
    model = outline("fast_style_paper")
    assert model.get_layer("pad").output.shape[1:3] == (336, 336)
    assert model.get_layer("block5_add").output.shape[1:3] == (64, 64)
    assert model.get_layer("down2_conv").output.shape[-1] == 128
    kinds = {type(layer).__name__ for layer in model.layers}
    assert {"Conv2DTranspose", "BatchNormalization", "Cropping2D"} <= kinds
    assert "GroupNormalization" not in kinds


@pytest.mark.parametrize("option", ["norm", "enlarging", "padding", "output"])
def test_an_unknown_option_is_refused(option):
    with pytest.raises(UsageError, match=f"{option} of a painter named 'other'"):
        zoo.build("fast_style", **{option: "other"})


def test_wider_networks_have_more_weights():
    narrow, wide = (outline("fast_style", width=width).count_params() for width in (4, 8))
    assert 3 < wide / narrow < 4


# Layers


def test_instance_normalisation_is_that_of_each_map_of_each_image():
    """Ulyanov et al., 2016, equation 4: against its formula in float64."""
    maps = np.random.default_rng(0).normal(3, 2, (2, 5, 6, 4)).astype("float32")
    model = outline("fast_style")
    [config] = [layer.get_config() for layer in model.layers if layer.name == "down1_norm"]
    layer = keras.layers.GroupNormalization.from_config({**config, "groups": -1})
    layer.build(maps.shape)
    layer.gamma.assign([1.0, 2.0, 0.5, -1.0])
    layer.beta.assign([0.0, 1.0, -1.0, 0.5])
    wanted = np.empty_like(maps, "float64")
    for image in range(2):
        for channel in range(4):
            part = maps[image, ..., channel].astype("float64")
            scaled = (part - part.mean()) / np.sqrt(part.var() + 1e-5)
            gamma, beta = ((1.0, 0.0), (2.0, 1.0), (0.5, -1.0), (-1.0, 0.5))[channel]
            wanted[image, ..., channel] = gamma * scaled + beta
    np.testing.assert_allclose(run(layer, maps), wanted, atol=1e-5)


@pytest.mark.parametrize("padding", [1, 3])
def test_maps_are_continued_by_their_mirror_image(padding):
    maps = pixels((2, 5, 4, 3))
    sides = (padding, padding)
    wanted = np.pad(maps, ((0, 0), sides, sides, (0, 0)), mode="reflect")
    layer = layers.ReflectionPadding2D(padding)
    np.testing.assert_array_equal(run(layer, maps), wanted)
    assert layer.compute_output_shape((None, 5, None, 3)) == (None, 5 + 2 * padding, None, 3)
    config = keras.saving.serialize_keras_object(layer)
    assert keras.saving.deserialize_keras_object(config).padding == padding


def test_a_canvas_gives_its_picture_whatever_comes():
    canvas = layers.Canvas()
    found = run(canvas, pixels((2, 4, 5, 3)))
    np.testing.assert_array_equal(found, np.zeros((2, 4, 5, 3)))
    picture = pixels((4, 5, 3), seed=1)
    canvas.picture.assign(picture)
    np.testing.assert_array_equal(run(canvas, pixels((3, 4, 5, 3))), np.stack([picture] * 3))
    keras.config.set_dtype_policy("mixed_bfloat16")
    assert run(layers.Canvas(), pixels((1, 2, 2, 3))).dtype == "float32"


def test_bounds_hold_but_in_training():
    layer, x = layers.ClipAtInference(0.0, 255.0), np.array([[-5.0, 7.0, 300.0]], "float32")
    np.testing.assert_array_equal(run(layer, x), [[0, 7, 255]])
    np.testing.assert_array_equal(run(layer, x, training=True), x)
    config = keras.saving.serialize_keras_object(layers.ClipAtInference(1.0, 2.0))
    assert keras.saving.deserialize_keras_object(config).high == 2.0
