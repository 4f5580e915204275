"""Backbones as encoders of other networks."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import zoo
from tests.support.networks import pixels
from zoo import UsageError, surgery
from zoo.parts import encoder


def test_features_are_those_of_the_backbone_alone():
    image = keras.Input((None, None, 3), name="input")
    ends = encoder.backbone_features(image, "resnet20.cifar10")
    images = pixels((2, 33, 35, 3))
    backbone = zoo.backbone("resnet20.cifar10", input_shape=(None, None, 3))
    model = keras.Model(image, ends)
    for stage, maps in backbone(images).items():
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(model(images)[stage]), keras.ops.convert_to_numpy(maps)
        )
    weighted = [layer.name for layer in model.layers if layer.weights]
    assert weighted == [layer.name for layer in backbone.layers if layer.weights]
    assert list(surgery.stages(model)) == list(zoo.spec("resnet20").stages)


def test_layers_after_the_last_requested_stage_are_left_out():
    with keras.StatelessScope(initialize_variables=False):
        image = keras.Input((64, 64, 1))
        ends = encoder.backbone_features(image, "resnet50", levels=[2, 4])
        assert {stage: x.shape[1:] for stage, x in ends.items()} == {
            "stage2": (16, 16, 256),
            "stage4": (4, 4, 1024),
        }
        names = [layer.name for layer in keras.Model(image, ends).layers]
        assert "conv4_block6_out" in names
        assert not [name for name in names if name.startswith("conv5")]
        with pytest.raises(UsageError, match=r"resnet50 has no stage0, stage7, only stage1, "):
            encoder.backbone_features(image, "resnet50", levels=[0, 7])
        with pytest.raises(UsageError, match="mlp has no feature pyramid"):
            encoder.backbone_features(image, "mlp")
    assert encoder.stage_stride("resnet50") == 32
    assert encoder.stage_stride("resnet50", 3) == 8


def test_stages_of_a_plain_keras_model_end_before_upsampling():
    """A user's own U-Net, without layers that mark its stages."""
    image = keras.Input((32, 32, 3))
    first = keras.layers.Conv2D(8, 3, padding="same", name="first")(image)
    x = keras.layers.MaxPooling2D(2)(first)
    x = keras.layers.Conv2D(16, 3, padding="same", name="second")(x)
    x = keras.layers.UpSampling2D(2)(x)
    x = keras.layers.Concatenate()([x, first])
    x = keras.layers.Conv2D(8, 3, padding="same", name="third")(x)
    model = keras.Model(image, keras.layers.Conv2D(5, 1, name="classes")(x))
    found = {stage: x.shape[1:] for stage, x in surgery.stages(model).items()}
    assert found == {"stage0": (32, 32, 8), "stage1": (16, 16, 16)}
    assert [layer.name for layer in surgery.learnable(model, "head")] == ["third", "classes"]
