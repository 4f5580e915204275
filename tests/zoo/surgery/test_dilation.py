"""Dilated networks against the networks as they were: sizes by arithmetic, values in float64."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import zoo
from tests.support import networks
from zoo import UsageError, layers
from zoo.parts import encoder
from zoo.surgery import dilation

STRIDES = (2, 4, 8, 16)
SMALL = {  # of each family with stages of several strides: a size that every layer divides evenly
    "convnext_tiny": 64,
    "densenet121": 64,
    "efficientnet_b0": 65,
    "efficientnet_v2_b0": 65,
    "mobilenet_025": 64,
    "mobilenet_v2": 65,
    "mobilenet_v3_small": 65,
    "nasnet_mobile": 65,
    "resnet50_v2": 65,
    "xception": 99,
    "convnet": 32,
    "googlenet": 64,
    "lenet5": 32,
    "nin": 33,
    "resnet20": 33,
    "resnet18": 65,
    "resnet50": 65,
    "resnet20_v2": 33,
    "squeezenet": 69,
    "squeezenet_v1_1": 65,
    "vgg11": 64,
}
UNEVEN = ("alexnet", "inception_v3", "nin_imagenet")  # there is no such size
QUICK = ("mobilenet_v2", "resnet20", "resnet18", "squeezenet_v1_1")
# Families all of whose strided layers are padded: a map is ceil(size / stride) for every size.
PADDED = (
    *("efficientnet_b0", "efficientnet_v2_b0", "mobilenet_v2", "mobilenet_v3_small"),
    *("resnet18", "resnet20", "resnet50", "resnet20_v2"),
)
EXCITED = ("efficientnet_b0", "efficientnet_v2_b0", "mobilenet_v3_small")  # average whole maps
# Rows that convolutions without padding take off after the first stage, at stride 4.
UNPADDED = {"inception_v3": 2}


def quick(names):
    """Returns parameters of which a few run always, and all with `--check`."""
    rest = [name for name in names if name not in QUICK]
    return [*QUICK, *(pytest.param(name, marks=pytest.mark.check) for name in rest)]


def backbone(name, size):
    channels = zoo.spec(name).input_shape[-1]
    return zoo.backbone(name, input_shape=(size, size, channels), weights="random")


@pytest.mark.parametrize("name", quick([*SMALL, *UNEVEN]))
def test_stages_keep_the_size_that_they_have_at_the_output_stride(name):
    for size in (97, 224, 225):
        with keras.StatelessScope(initialize_variables=False):
            net = backbone(name, size)
            sides = {encoder.stage_level(stage): x.shape[1] for stage, x in net.output.items()}
            if name in PADDED:
                assert sides == {level: -(-size // 2**level) for level in sides}
            for stride in STRIDES:
                new = dilation.dilate(net, stride)
                for stage, x in new.output.items():
                    level = encoder.stage_level(stage)
                    assert x.shape[1] == x.shape[2]
                    assert x.shape[1] == expected(name, size, sides, level, stride), (stage, stride)


def expected(name, size, sides, level, stride):
    """The side of a stage: its own up to the output stride, and after that the one there."""
    if 2**level <= stride:
        return sides[level]
    side = sides.get(stride.bit_length() - 1, -(-size // stride))
    return side - 2 * UNPADDED.get(name, 0) if stride == 2 else side


@pytest.mark.parametrize("name", quick(SMALL))
def test_a_dilated_network_sees_the_same_at_a_smaller_stride(name):
    """Every second pixel of its maps, or every fourth, is a pixel of the network as it was."""
    keras.config.set_dtype_policy("float64")
    keras.utils.set_random_seed(0)
    size = SMALL[name]
    net = networks.randomized(backbone(name, size))
    images = networks.pixels((1, *net.input_shape[1:]))
    old = {stage: keras.ops.convert_to_numpy(x) for stage, x in net(images).items()}
    for stride in (2, 8) if name in QUICK else STRIDES:
        new = dilation.dilate(net, stride)(images)
        for stage, found in old.items():
            rate = max(1, 2 ** encoder.stage_level(stage) // stride)
            there = keras.ops.convert_to_numpy(new[stage])[:, ::rate, ::rate]
            assert there.shape == found.shape, (stride, stage)
            if rate == 1 or name not in EXCITED:
                assert networks.relative_error(there, found) < 1e-9, (stride, stage)


def test_sizes_that_are_not_known_are_taken_for_multiples_of_the_stride():
    keras.utils.set_random_seed(0)
    net = networks.randomized(zoo.backbone("mobilenet_025", input_shape=(None, None, 3)))
    images = networks.pixels((1, 64, 96, 3))
    old, new = net(images), dilation.dilate(net, 8)(images)
    assert new["stage5"].shape[1:3] == (8, 12)
    there = keras.ops.convert_to_numpy(new["stage5"])[:, ::4, ::4]
    assert networks.relative_error(there, keras.ops.convert_to_numpy(old["stage5"])) < 1e-4


@pytest.mark.parametrize("margin", [None, (0, 1), (1, 1), (2, 1)])
@pytest.mark.parametrize("side", [23, 30])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("kind", ["Conv2D", "MaxPooling2D", "AveragePooling2D"])
def test_layers_without_a_stride_return_what_they_returned(kind, size, side, margin):
    """A layer that loses its stride, and one behind it, with `same` padding or with a margin."""
    padding = "valid" if margin else "same"

    def layer(x, strides):
        filters = [2] if kind == "Conv2D" else []
        window = {"strides": strides, "padding": padding, "dtype": "float64"}
        return getattr(keras.layers, kind)(*filters, size, **window)(x)

    image = keras.Input((side, side, 2), dtype="float64")
    x = keras.layers.AveragePooling2D(1, 2, padding="same", dtype="float64")(image)
    if margin:
        x = keras.layers.ZeroPadding2D((margin, margin[::-1]), dtype="float64")(x)
    net = keras.Model(image, layer(layer(x, 2), 1))
    pixels = np.random.default_rng(size).normal(size=(1, side, side, 2))
    old, new = (keras.ops.convert_to_numpy(x(pixels)) for x in (net, dilation.dilate(net, 2)))
    kept = -(-side // 2)
    assert new.shape[1:3] == ((kept if not margin else kept - 2 * (size - 1)),) * 2
    there = new[:, ::2, ::2]
    rows, columns = (min(sides) for sides in zip(there.shape[1:3], old.shape[1:3], strict=True))
    assert (rows, columns) == old.shape[1:3] or sum(margin) >= size  # windows of margin alone
    np.testing.assert_allclose(there[:, :rows, :columns], old[:, :rows, :columns], atol=1e-12)


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize(
    ("size", "strides", "rate"), [((3, 2), 1, 2), ((2, 2), 2, 3), ((2, 3), 1, 1)]
)
def test_dilated_pooling_takes_the_pixels_that_it_should(size, strides, rate, average):
    x = np.random.default_rng(0).normal(size=(2, 9, 8, 3)) - 5  # zeros outside would be the maxima
    padding = ((1, 1), (0, 1))
    layer = layers.DilatedPooling2D(size, strides, rate, padding, average, dtype="float64")
    around = np.pad(x, [(0, 0), *padding, (0, 0)], constant_values=np.nan)
    sides = [n - rate * (k - 1) for n, k in zip(around.shape[1:3], size, strict=True)]
    combine = np.nanmean if average else np.nanmax
    expected = [
        [
            combine(
                around[:, i : i + rate * size[0] : rate, j : j + rate * size[1] : rate], axis=(1, 2)
            )
            for j in range(0, sides[1], strides)
        ]
        for i in range(0, sides[0], strides)
    ]
    expected = np.moveaxis(np.array(expected), 2, 0)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    for each in (layer, again):
        found = keras.ops.convert_to_numpy(each(x))
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        assert each.compute_output_shape(x.shape) == found.shape


def test_a_dilated_network_needs_a_power_of_two():
    with pytest.raises(UsageError, match="power of two from 2, not 12"):
        dilation.dilate(zoo.build("lenet5"), 12)


def test_networks_of_one_size_are_not_dilated():
    with pytest.raises(UsageError, match="output stride of 2: flatten takes maps of 5 x 5 only"):
        dilation.dilate(zoo.build("lenet5"), 2)
    with pytest.raises(
        UsageError, match="vit_tiny_backbone cannot be dilated to an output stride of 8"
    ):
        encoder.backbone_features(keras.Input((64, 64, 3)), "vit_tiny", output_stride=8)
