"""Images with other numbers of channels: outputs are compared with those of RGB and gray images."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import zoo
from tests.zoo.surgery.example_models import (
    predict,
    random_images,
    relative_error,
    small_resnet,
)
from zoo import UsageError, surgery
from zoo.parts import blocks


def check_grey_images(model, counts=(1, 2, 4, 5, 6)):
    """Compares the outputs for equal channels with those for a gray image in RGB."""
    grey = random_images(model.input_shape[1], 1)
    expected = predict(model, grey.repeat(3, -1))
    for count in counts:
        adapted = surgery.channels(model, count)
        assert adapted.input_shape[-1] == count
        assert relative_error(predict(adapted, grey.repeat(count, -1)), expected) < 1e-4, count


@pytest.mark.parametrize("mode", ["caffe", "tf", "torch", "efficientnet"])
def test_equal_channels_have_the_outputs_of_grey(mode):
    inputs = keras.Input((16, 16, 3))
    x = blocks.preprocess(inputs, mode)
    x = keras.layers.ZeroPadding2D(2)(x)
    x = keras.layers.Conv2D(6, 5, 2, padding="same", activation="relu")(x)
    check_grey_images(keras.Model(inputs, keras.layers.Conv2D(3, 3, padding="same")(x)))


APPLICATIONS = keras.src.applications
SMALL = {  # the networks of `keras.applications` with few and narrow layers
    "EfficientNetB0": lambda **options: APPLICATIONS.efficientnet.EfficientNet(
        0.1, 0.1, 32, **options
    ),
    "EfficientNetV2B0": lambda **options: APPLICATIONS.efficientnet_v2.EfficientNetV2(
        0.1, 0.1, 32, name="efficientnetv2-b0", **options
    ),
    "ConvNeXtTiny": lambda **options: APPLICATIONS.convnext.ConvNeXt(
        [1, 1, 1, 1], [8, 8, 8, 8], **options
    ),
}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("small", [True, pytest.param(False, marks=pytest.mark.check)])
def test_channels_of_keras_applications(name, small):
    """They have preprocessing of their own."""
    build = SMALL[name] if small else getattr(keras.applications, name)
    model = build(weights=None, include_top=False, input_shape=(32, 32, 3))
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.weights:
            values = [[124.0, 116.0, 104.0], [3400.0, 3200.0, 3300.0], 9]
            layer.set_weights([np.array(value) for value in values])
            layer.finalize_state()
    check_grey_images(model, (2, 4))


def test_channels_are_assigned_to_colours():
    """Channels 0 and 3 are both red, with half the weight each; in BGR as well."""
    model = zoo.build("resnet20.cifar10", input_shape=(32, 32, 3))
    inputs = keras.Input((32, 32, 3))
    pixels = blocks.preprocess(inputs, "caffe")
    bgr = keras.Model(inputs, keras.layers.Conv2D(4, 3, padding="same")(pixels))
    x = random_images()
    for net in (model, bgr):
        four = np.concatenate([x, x[..., :1]], axis=-1)
        assert relative_error(predict(surgery.channels(net, 4), four), predict(net, x)) < 1e-4
        two = x[..., [0, 2]]
        three = np.stack([two[..., 0], two.mean(-1), two[..., 1]], axis=-1)
        assert relative_error(predict(surgery.channels(net, 2), two), predict(net, three)) < 1e-5


@pytest.mark.parametrize(
    "count", [1, 4, *(pytest.param(count, marks=pytest.mark.check) for count in (2, 7))]
)
def test_build_pretrained_network_with_other_channels(count):
    rgb = zoo.build("resnet20.cifar10")
    model = zoo.build("resnet20.cifar10", input_shape=(32, 32, count))
    grey = random_images(channels=1)
    wanted = predict(rgb, grey.repeat(3, -1))
    assert relative_error(predict(model, grey.repeat(count, -1)), wanted) < 1e-4
    pyramid = zoo.backbone("resnet20.cifar10", input_shape=(32, 32, count))
    assert list(pyramid.output) == ["stage0", "stage1", "stage2"]


def test_grey_network_is_adapted_to_rgb():
    model = zoo.build("lenet5")
    grey = random_images(channels=1)
    rgb = predict(surgery.channels(model, 3), grey.repeat(3, -1))
    assert relative_error(rgb, predict(model, grey)) < 1e-4


def test_networks_with_other_channels_can_be_saved(tmp_path):
    for count in (1, 4):
        model = surgery.channels(small_resnet(), count)
        model.save(tmp_path / "model.keras")
        x = random_images(channels=count)
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(predict(loaded, x), predict(model, x))


def test_layers_that_mix_channels_cannot_be_adapted():
    inputs = keras.Input((16, 16, 3))
    x = keras.applications.resnet50.preprocess_input(inputs)
    model = keras.Model(inputs, keras.layers.Conv2D(4, 3)(x), name="flipped")
    check_grey_images(model, (1, 2))
    with pytest.raises(UsageError, match="flipped cannot be adapted to 4 channels"):
        surgery.channels(model, 4)
