"""The contract of a feed-forward style network, the kind `stylizer`, for every name."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import zoo
from tests.support import checks
from tests.support.networks import EAGER, outline, pixels, run
from zoo import UsageError

NAMES = zoo.names(kind="stylizer")
SIZE = (33, 46)
SMALL = {"width": 4, "depth": 2}


# The contract


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "size",
    [SIZE, (None, None), *(pytest.param(x, marks=pytest.mark.check) for x in ((1, 1), (64, None)))],
    ids=str,
)
def test_outputs_are_float32_of_the_shape_of_the_image(name, size):
    keras.config.set_dtype_policy("mixed_bfloat16")
    for channels in (3, 1):
        model = outline(name, input_shape=(*size, channels))
        assert model.output.shape == (None, *size, channels)
        assert model.output.dtype == "float32"
        assert model.name == name
        assert any(layer.compute_dtype == "bfloat16" for layer in model.layers)


@pytest.fixture(scope="module", params=NAMES)
def sample(request):
    """A small model for images of any size, with images; built once for all tests."""
    keras.utils.set_random_seed(0)
    torch = keras.config.backend() == "torch"
    shape = (*SIZE, 3) if torch else (None, None, 3)
    model = zoo.build(request.param, input_shape=shape, **SMALL)
    model.run_eagerly = EAGER
    yield model, pixels((2, *SIZE, 3))
    keras.utils.clear_session()


def test_outputs_are_pixels_and_depend_on_the_image(sample):
    model, images = sample
    found = run(model, images, training=False)
    assert found.shape == images.shape
    assert np.abs(found[0] - found[1]).mean() > 1
    kernel, *_ = model.get_layer("picture_conv").weights
    before = keras.ops.convert_to_numpy(kernel)
    kernel.assign(500 * before)
    found = run(model, images, training=False)
    kernel.assign(before)
    assert found.min() == pytest.approx(0, abs=1)
    assert found.max() == pytest.approx(255, abs=1)
    assert ((found >= 0) & (found <= 255)).all()


def test_outputs_do_not_depend_on_the_other_images_of_the_batch(sample):
    model, images = sample
    together = run(model, images, training=False)
    alone = run(model, images[:1], training=False)
    np.testing.assert_allclose(together[:1], alone, atol=0.02)


def test_outputs_do_not_depend_on_whether_the_size_is_fixed(sample):
    model, images = sample
    if None not in model.input_shape[1:]:
        pytest.skip("the backend needs fixed sizes")
    fixed = zoo.build(model.name, input_shape=images.shape[1:], **SMALL)
    fixed.set_weights(model.get_weights())
    np.testing.assert_allclose(run(model, images), run(fixed, images), atol=0.02)
    for size in ((1, 1), (1, 2), (9, 4)):
        assert run(model, images[:1, : size[0], : size[1]]).shape == (1, *size, 3)


def test_a_gradient_reaches_every_weight(sample):
    model, images = sample
    checks.assert_all_learn(model, images, 255 - images, "mean_squared_error", run_eagerly=EAGER)


@pytest.mark.xdist_group("reader")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.check
def test_saved_model_predicts_the_same_in_a_process_without_the_builders(name, reader):
    model = zoo.build(name, input_shape=(None, None, 3), **SMALL)
    images = pixels((1, *SIZE, 3))
    np.testing.assert_allclose(reader(model, images), run(model, images), atol=0.02)


# Options


def test_the_network_of_the_paper_crops_its_padding():
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
    with pytest.raises(UsageError, match=f"{option} of fast_style named 'other'"):
        zoo.build("fast_style", **{option: "other"})


def test_wider_networks_have_more_weights():
    narrow, wide = (outline("fast_style", width=width).count_params() for width in (4, 8))
    assert 3 < wide / narrow < 4
