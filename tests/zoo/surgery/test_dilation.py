"""Dilated networks: sizes by arithmetic, and float64 outputs compared with the original ones."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest

import zoo
from tests.support import networks
from zoo import UsageError, layers
from zoo.parts import encoder
from zoo.surgery import dilation

STRIDES = (2, 4, 8, 16)
SMALL = {  # a small image size that all layers of the network divide evenly
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
SLOW = (  # large, or with depthwise convolutions in float64
    *("convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_b0", "nasnet_mobile"),
    *("resnet50", "resnet50_v2", "xception"),
)
QUICK = ("mobilenet_025", "resnet20", "resnet18", "squeezenet_v1_1")
OPTIONS = {"resnet18": {"depths": (1, 1, 1, 1), "width": 8}, "resnet20": {"depths": (2, 1, 1)}}
# All strided layers of these are padded: the map at a stride has ceil(size / stride) pixels.
PADDED = (
    *("efficientnet_b0", "efficientnet_v2_b0", "mobilenet_v2", "mobilenet_v3_small"),
    *("resnet18", "resnet20", "resnet50", "resnet20_v2"),
)
# Their squeeze-and-excitation averages whole maps.
EXCITED = ("efficientnet_b0", "efficientnet_v2_b0", "mobilenet_v3_small")
# Rows removed by convolutions without padding after the first stage, at stride 4.
UNPADDED = {"inception_v3": 2}


def quick(names):
    """Returns parameters of which a few run always, most with `--check`, and all with `--slow`."""
    marks = {name: pytest.mark.slow if name in SLOW else pytest.mark.check for name in names}
    others = [name for name in names if name not in QUICK]
    return [*QUICK, *(pytest.param(name, marks=marks[name]) for name in others)]


def backbone(name, size):
    shape = (size, size, zoo.spec(name).input_shape[-1])
    return zoo.backbone(name, input_shape=shape, weights="random", **OPTIONS.get(name, {}))


@pytest.mark.parametrize("name", quick([*SMALL, *UNEVEN]))
def test_sizes_of_dilated_stages(name):
    for size in (97, 224) if name in QUICK else (97, 224, 225):
        with keras.StatelessScope(initialize_variables=False):
            net = backbone(name, size)
            sides = {encoder.stage_level(stage): x.shape[1] for stage, x in net.output.items()}
            if name in PADDED:
                assert sides == {level: -(-size // 2**level) for level in sides}
            for stride in (2, 8) if name in QUICK else STRIDES:
                new = dilation.dilate(net, stride)
                for stage, x in new.output.items():
                    level = encoder.stage_level(stage)
                    assert x.shape[1] == x.shape[2]
                    assert x.shape[1] == expected(name, size, sides, level, stride), (stage, stride)


def expected(name, size, sides, level, stride):
    """Returns the side of a stage: its own up to the output stride, that of this stride beyond."""
    if 2**level <= stride:
        return sides[level]
    side = sides.get(stride.bit_length() - 1, -(-size // stride))
    return side - 2 * UNPADDED.get(name, 0) if stride == 2 else side


@pytest.mark.parametrize("name", quick(SMALL))
def test_dilated_features_contain_the_original_ones(name):
    """Every second (fourth, ...) pixel of its maps is a pixel of the original network."""
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


def test_dilation_with_unknown_input_size():
    keras.utils.set_random_seed(0)
    net = networks.randomized(zoo.backbone("mobilenet_025", input_shape=(None, None, 3)))
    images = networks.pixels((1, 64, 96, 3))
    old, new = net(images), dilation.dilate(net, 8)(images)
    assert new["stage5"].shape[1:3] == (8, 12)
    there = keras.ops.convert_to_numpy(new["stage5"])[:, ::4, ::4]
    assert networks.relative_error(there, keras.ops.convert_to_numpy(old["stage5"])) < 1e-4


LAYERS = ("Conv2D", "MaxPooling2D", "AveragePooling2D")
MARGINS = (None, (0, 1), (1, 1), (2, 1))
COMBINATIONS = [
    pytest.param(*case, marks=[] if case[1] == 2 + (case[2] == 23) else [pytest.mark.check])
    for case in itertools.product(LAYERS, (1, 2, 3, 5), (23, 30), MARGINS)
]


@pytest.mark.parametrize(("kind", "size", "side", "margin"), COMBINATIONS)
def test_layers_with_removed_stride_keep_their_outputs(kind, size, side, margin):
    """A layer whose stride is removed, and one after it, with `same` padding or with a margin."""
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
    expected = -(-side // 2)
    expected -= 2 * (size - 1) if margin else 0
    assert new.shape[1:3] == (expected, expected)
    there = new[:, ::2, ::2]
    rows, columns = (min(sides) for sides in zip(there.shape[1:3], old.shape[1:3], strict=True))
    # With a large margin, the old network has windows that are all margin.
    assert (rows, columns) == old.shape[1:3] or sum(margin) >= size
    np.testing.assert_allclose(there[:, :rows, :columns], old[:, :rows, :columns], atol=1e-12)


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize(
    ("size", "strides", "rate"), [((3, 2), 1, 2), ((2, 2), 2, 3), ((2, 3), 1, 1)]
)
def test_dilated_pooling_matches_numpy(size, strides, rate, average):
    x = np.random.default_rng(0).normal(size=(2, 9, 8, 3)) - 5  # padding zeros would be the maxima
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


def test_output_stride_must_be_a_power_of_two():
    with pytest.raises(UsageError, match="power of two from 2, not 12"):
        dilation.dilate(zoo.build("lenet5"), 12)


def test_networks_of_fixed_size_cannot_be_dilated():
    with pytest.raises(UsageError, match="output stride of 2: flatten needs maps of 5 x 5"):
        dilation.dilate(zoo.build("lenet5"), 2)
    with pytest.raises(
        UsageError, match="vit_tiny_backbone cannot be dilated to an output stride of 8"
    ):
        encoder.backbone_features(keras.Input((64, 64, 3)), "vit_tiny", output_stride=8)
