"""What is peculiar to single segmenters: published sizes, options and departures."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import zoo
from tests.support.networks import outline, pixels, relative_error, run
from zoo import UsageError, layers, surgery
from zoo.flops import count_params_and_flops

# FCN


@pytest.mark.parametrize(
    ("name", "classes", "parameters"),
    [
        # VGG16's 14,714,688, fc6 102,764,544, fc7 16,781,312; 4,097 per class; ...
        ("fcn32s", 21, 134_260_544 + 4097 * 21),
        ("fcn32s", 11, 134_260_544 + 4097 * 11),
        # ... 513 per class for pool4, and a kernel of 4 x 4; 257 for pool3, and another kernel.
        ("fcn16s", 21, 134_260_544 + 4097 * 21 + 513 * 21 + 16 * 21**2),
        ("fcn8s", 21, 134_260_544 + (4097 + 513 + 257) * 21 + 2 * 16 * 21**2),
        ("fcn8s", 11, 134_260_544 + (4097 + 513 + 257) * 11 + 2 * 16 * 11**2),
    ],
)
def test_fcn_is_the_published_network(name, classes, parameters):
    model = outline(name, num_classes=classes, input_shape=(500, 500, 3))
    assert count_params_and_flops(model)[0] == parameters
    assert model.output.shape == (None, 500, 500, classes)
    kernels = {
        layer.name: tuple(layer.kernel.shape) for layer in model.layers if hasattr(layer, "kernel")
    }
    assert kernels["fc1"] == (7, 7, 512, 4096)
    assert kernels["score_stage5"] == (1, 1, 4096, classes)
    if name == "fcn8s":
        assert kernels["score_stage4"] == (1, 1, 512, classes)  # of pool4
        assert kernels["score_stage3"] == (1, 1, 256, classes)  # of pool3
        assert kernels["stretch_stage3"] == (4, 4, classes, classes)


def test_a_fresh_fcn_outputs_zeros():
    model = zoo.build("fcn8s", num_classes=3, input_shape=(32, 32, 3), backbone="resnet20")
    assert not run(model, pixels((1, 32, 32, 3))).any()
    assert surgery.learnable(model, "score_*") == [
        layer for layer in model.layers if layer.name.startswith("score_")
    ]


def test_fcn_has_the_weights_of_the_dense_layers_of_its_backbone(tmp_path):
    """In the middle of the image, where the 7 x 7 convolution covers all of their input."""
    vgg = zoo.build("vgg11", hidden=(6, 5), num_classes=3)
    vgg.save_weights(tmp_path / "vgg.weights.h5")
    images = pixels((1, 224, 224, 3))
    model = zoo.build(
        "fcn32s",
        backbone="vgg11",
        hidden=(6, 5),
        num_classes=3,
        backbone_weights=str(tmp_path / "vgg.weights.h5"),
    )
    dense = run(keras.Model(vgg.input, vgg.get_layer("fc2").output), images)
    maps = run(keras.Model(model.input, model.get_layer("fc2").output), images)
    np.testing.assert_allclose(maps[:, 3, 3], dense, rtol=1e-3, atol=1e-4)


def test_fcn_needs_as_many_stages_as_it_scores():
    with pytest.raises(UsageError, match="a backbone with 4 stages to score; resnet20 has 3"):
        zoo.build("fcn8s", backbone="resnet20", scored=4)


# SegNet


@pytest.mark.parametrize(("classes", "parameters"), [(11, 29_449_355), (21, 29_455_125)])
def test_segnet_on_vgg16_is_the_published_network(classes, parameters):
    """Two VGG16s without dense layers, the second mirrored, normalized, and a last 3 x 3."""
    model = outline("segnet_vgg16", num_classes=classes)
    assert count_params_and_flops(model)[0] == parameters
    assert model.output.shape == (None, 360, 480, classes)
    convs = [layer for layer in model.layers if type(layer) is keras.layers.Conv2D]
    assert len(convs) == 26
    unpooled = [layer for layer in model.layers if type(layer) is layers.MaxUnpooling2D]
    assert [x.output.shape[1:] for x in unpooled] == [
        (24, 30, 512),
        (48, 60, 512),
        (96, 120, 256),
        (192, 240, 128),
        (384, 480, 64),
    ]


def test_segnet_unpools_on_any_backbone():
    for backbone in ("resnet20", "resnet18", "vgg11"):
        model = outline("segnet", backbone=backbone, num_classes=2, input_shape=(40, 56, 3))
        assert model.output.shape == (None, 40, 56, 2)
    with pytest.raises(UsageError, match="a width and a depth from 1 for each block"):
        zoo.build("segnet", depths=(2, 2))


# U-Net


def test_unet_is_the_published_network():
    model = outline("unet_paper")
    assert count_params_and_flops(model)[0] == 31_030_658
    assert model.get_layer("pad").output.shape == (None, 572, 572, 1)
    shapes = [model.get_layer(f"encoder{i}_2_conv").output.shape[1:] for i in range(5)]
    assert shapes == [
        (568, 568, 64),
        (280, 280, 128),
        (136, 136, 256),
        (64, 64, 512),
        (28,) * 2 + (1024,),
    ]
    shapes = [model.get_layer(f"decoder{i}_2_conv").output.shape[1:] for i in range(4)]
    assert shapes == [(388, 388, 64), (196, 196, 128), (100, 100, 256), (52, 52, 512)]
    assert model.output.shape == (None, 388, 388, 2)
    kernels = [x for x in model.layers if x.weights]
    assert len(kernels) == 23


@pytest.mark.parametrize("widths", [(2, 3), (2, 3, 4), (2, 2, 2, 2)])
def test_an_unpadded_unet_may_have_any_depth(widths):
    model = outline("unet_paper", widths=widths, input_shape=(30, 41, 1))
    assert model.output.shape == (None, 30, 41, 2)


def test_an_unpadded_unet_predicts_every_pixel_from_its_surroundings():
    """A larger image gives the same in the middle: its pixels, not padding, surround the part."""
    widths, size = (4, 6), (20, 20)
    large = zoo.build("unet_paper", widths=widths, input_shape=(None, None, 1))
    images = pixels((1, 60, 60, 1))
    middle = run(large, images)[:, 20:40, 20:40]
    around = images[:, 20 - 8 : 40 + 8, 20 - 8 : 40 + 8] / 127.5 - 1  # with its margin
    inside = keras.Model(large.get_layer("pad").output, large.get_layer("logits").output)
    assert relative_error(run(inside, around), middle) < 1e-5
    assert run(large, images[:, :20, :20]).shape == (1, *size, 2)


def test_unet_takes_any_backbone():
    for backbone in ("vgg11", "resnet18", "convnext_tiny"):
        model = outline("unet_backbone", backbone=backbone, num_classes=2, input_shape=(64, 96, 3))
        assert model.output.shape == (None, 64, 96, 2)
    with pytest.raises(UsageError, match="needs 5 widths"):
        outline("unet_backbone", backbone="vgg11", widths=(8, 8))
    with pytest.raises(UsageError, match="padding same or valid"):
        outline("unet", padding="full")


# DeepLab


def test_deeplab_keeps_the_stride_of_its_last_stage():
    for stride in (16, 8):
        model = outline("deeplabv3plus", output_stride=stride, num_classes=5)
        shapes = {stage: x.shape[1:-1] for stage, x in surgery.stages(model).items()}
        assert shapes["stage5"] == (512 // stride,) * 2
        assert shapes["stage2"] == (128, 128)
        assert model.get_layer("joined").output.shape == (None, 128, 128, 256 + 48)
        assert model.output.shape == (None, 512, 512, 5)
    conv = model.get_layer("conv5_block3_2_conv")
    assert conv.dilation_rate == (4, 4)


def test_deeplab_takes_any_backbone():
    for backbone, separable in (("resnet20.cifar10", True), ("vgg11", False)):
        assert_deeplab_on(backbone, separable)


@pytest.mark.check
@pytest.mark.parametrize("separable", [True, False])
@pytest.mark.parametrize("backbone", ["resnet20.cifar10", "vgg11", "mobilenet_v2", "xception"])
def test_deeplab_takes_any_backbone_with_either_kind_of_convolution(backbone, separable):
    assert_deeplab_on(backbone, separable)


def assert_deeplab_on(backbone, separable):
    options = {"width": 8, "num_classes": 2, "input_shape": (96, 128, 3)}
    model = outline("deeplabv3plus", backbone=backbone, separable=separable, **options)
    assert model.output.shape == (None, 96, 128, 2)
