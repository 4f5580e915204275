"""The catalog: look-up, registration, error messages, and published counts of parameters."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import zoo
from zoo import catalog
from zoo.errors import UsageError
from zoo.flops import count_params_and_flops


def test_names_are_filtered():
    assert zoo.names("vgg1?") == ["vgg11", "vgg13", "vgg16", "vgg19"]
    assert "vgg16_bn" in zoo.names("gg16")
    assert set(zoo.names(weights=True)) | set(zoo.names(weights=False)) == set(zoo.names())
    assert zoo.names(family="vgg", weights="imagenet") == ["vgg16.imagenet", "vgg19.imagenet"]
    assert zoo.names(family="mlp", kind="classifier") == ["mlp"]
    assert zoo.names("vgg*", kind="nothing") == []


MISTAKES = [
    (lambda: zoo.build("vgg61"), r"no model named 'vgg61'; did you mean .*vgg16"),
    (lambda: zoo.spec("resnet50.imagnet"), r"did you mean .*resnet50\.imagenet"),
    (lambda: zoo.backbone("mlp"), "mlp has no feature pyramid"),
    (lambda: zoo.build("lenet5", droput=0.5), "no option of lenet5 named 'droput'; .*dropout"),
    (lambda: zoo.build("lenet5", num_classes=0), "must be an integer from 1 to .*, not 0"),
    (
        lambda: zoo.build("lenet5", num_classes="ten"),
        "must be an integer from 1 to .*, not 'ten'",
    ),
    (lambda: zoo.build("lenet5", input_shape=(32, 32)), r"\(height, width, channels\), not"),
    (lambda: zoo.build("lenet5", activation="rellu"), "no activation named 'rellu'; .*relu"),
    (lambda: zoo.build("vgg11", input_shape=(None, None, 3)), "needs a fixed size"),
    (lambda: zoo.build("vgg11", widths=(8, 8)), "got 5 depths, 2 widths"),
    (lambda: zoo.build("convnet", depths=(1, 1)), r"got depths=\(1, 1\), widths=\(32, 64, 128\)"),
    (lambda: zoo.build("convnet", pooling="maximum"), "no pooling named 'maximum'; .*max"),
    (lambda: zoo.build("convnet", head="flat"), "no head of convnet named 'flat'; .*flatten"),
]


@pytest.mark.parametrize(("call", "message"), MISTAKES)
def test_error_messages_have_one_line(call, message):
    with pytest.raises(UsageError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_users_can_register_models(monkeypatch):
    monkeypatch.setattr(catalog.models, "_entries", dict(catalog.models._entries))

    @zoo.register({"mine": {"width": 3}}, input_shape=(8, 8, 3), paper="https://example.org")
    def own(image, num_classes=10, *, width):
        """Builds a linear classifier with one convolution."""
        x = keras.layers.Conv2D(width, 8)(image)
        return {"logits": keras.layers.Dense(num_classes)(keras.layers.Flatten()(x))}

    assert zoo.names(family="own") == ["mine"]
    assert zoo.spec("mine").num_classes == 10
    assert zoo.build("mine").output.shape == (None, 10)
    assert zoo.build("mine", num_classes=2, width=5).layers[2].filters == 5
    with pytest.raises(ValueError, match="two models are named 'mine'; rename one"):
        zoo.register({"mine": {}}, input_shape=(8, 8, 3), paper="https://example.org")(own)


# Parameters, and multiply-adds in billions, from papers and the documentation of torchvision.
PUBLISHED = {
    "lenet5": (61_706, None),
    "resnet18": (11_689_512, 1.81),
    "resnet34": (21_797_672, 3.66),
    "resnet50_v1_5": (25_557_032, 4.09),
    "resnet101_v1_5": (44_549_160, 7.80),
    "resnet152_v1_5": (60_192_808, 11.51),
    "vgg11": (132_863_336, 7.61),
    "vgg13": (133_047_848, 11.31),
    "vgg16": (138_357_544, 15.47),
    "vgg19": (143_667_240, 19.63),
    "vgg11_bn": (132_868_840, 7.61),
    "vgg13_bn": (133_053_736, 11.31),
    "vgg16_bn": (138_365_992, 15.47),
    "vgg19_bn": (143_678_248, 19.63),
    "alexnet": (61_100_840, 0.71),
    "alexnet_paper": (60_965_224, None),  # Caffe's AlexNet and CaffeNet; the paper says 60 million
    "googlenet": (6_624_904, 1.50),
    "googlenet_paper": (6_998_552, None),  # Caffe's bvlc_googlenet
    "squeezenet": (1_248_424, 0.82),
    "squeezenet_v1_1": (1_235_496, 0.35),
    "nin_imagenet": (7_595_176, None),  # the authors' Caffe file
    "vit_tiny": (5_717_416, None),  # DeiT's
    "vit_small": (22_050_664, None),
    "vit_base": (86_567_656, None),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_flops_match_publications(name):
    spec, (parameters, billions) = zoo.spec(name), PUBLISHED[name]
    assert spec.parameters == parameters
    if billions:
        assert spec.flops == pytest.approx(2e9 * billions, rel=1e-2)


def test_flops_are_counted_over_the_graph():
    layers = keras.layers
    image = keras.Input((8, 8, 4))
    shared = layers.Conv2D(4, 3, padding="same")
    x = shared(shared(image))
    x = layers.Conv2DTranspose(6, 3, 2, padding="same")(x)
    x = layers.SeparableConv2D(5, 3, padding="same")(x)
    x = layers.DepthwiseConv2D(3, 2, padding="same")(x)
    x = layers.Conv2D(10, 3, groups=5)(x)
    inner = keras.Model(image, x)
    model = keras.Sequential([inner, layers.Flatten(), layers.Dense(3)])
    model.build((None, 8, 8, 4))
    multiply_adds = (
        2 * 8 * 8 * 9 * 4 * 4  # called twice
        + 8 * 8 * 9 * 4 * 6  # once for each pixel that comes in
        + 16 * 16 * (9 * 6 + 6 * 5)
        + 8 * 8 * 9 * 5
        + 6 * 6 * 9 * 10  # each of the five groups sees one channel
        + 360 * 3
    )
    assert count_params_and_flops(model) == (model.count_params(), 2 * multiply_adds)


def test_flops_need_a_static_input_shape():
    image = keras.Input((None, None, 3))
    with pytest.raises(UsageError, match="FLOPs of conv are unknown"):
        count_params_and_flops(keras.Model(image, keras.layers.Conv2D(2, 3, name="conv")(image)))
    with pytest.raises(UsageError, match="are counted for functional models only"):
        count_params_and_flops(keras.Sequential([keras.layers.Dense(2)]))


# Options of the configurable networks


def layers_of(model, kind):
    return [layer for layer in model.layers if type(layer).__name__ == kind]


OPTIONS = [  # option, value, function of the model, its result
    ("depths", (1, 1, 2), lambda model: len(layers_of(model, "Conv2D")), 4),
    ("widths", (4, 5, 6), lambda model: layers_of(model, "Conv2D")[-1].filters, 6),
    ("kernel_size", 5, lambda model: layers_of(model, "Conv2D")[0].kernel_size, (5, 5)),
    ("activation", "gelu", lambda m: layers_of(m, "Activation")[0].activation.__name__, "gelu"),
    ("batch_norm", False, lambda model: layers_of(model, "BatchNormalization"), []),
    ("pooling", "average", lambda model: len(layers_of(model, "AveragePooling2D")), 3),
    ("pool_size", 3, lambda model: model.get_layer("block3_pool").output.shape[1:3], (2, 2)),
    ("conv_dropout", 0.4, lambda model: model.get_layer("block1_dropout").rate, 0.4),
    ("head", "pool", lambda model: len(layers_of(model, "GlobalAveragePooling2D")), 1),
    ("hidden", (9, 8), lambda model: [d.units for d in layers_of(model, "Dense")], [9, 8, 10]),
    ("hidden_dropout", 0.1, lambda model: model.get_layer("hidden1_dropout").rate, 0.1),
    ("initializer", "zeros", lambda m: np.ptp(m.get_layer("hidden1").kernel), 0.0),
    ("weight_decay", 0.01, lambda model: len(model.losses), 7),
]


@pytest.fixture(scope="module")
def default_convnet():
    return zoo.build("convnet")


@pytest.mark.parametrize(("option", "value", "inspect", "expected"), OPTIONS)
def test_options_of_convnet(option, value, inspect, expected, default_convnet):
    assert inspect(default_convnet) != expected
    assert inspect(zoo.build("convnet", **{option: value})) == expected


def test_stages_of_convnet_have_power_of_two_strides():
    assert list(zoo.backbone("convnet", pool_size=3).output) == ["stage0"]
    assert list(zoo.backbone("convnet", pool_size=4).output) == [f"stage{n}" for n in (0, 2, 4, 6)]
    assert list(zoo.backbone("convnet", depths=(1,), widths=(4,)).output) == ["stage0", "stage1"]


def test_mlp_with_any_number_of_layers():
    assert count_params_and_flops(zoo.build("mlp", widths=(), num_classes=3))[0] == 257 * 3
    model = zoo.build("mlp", widths=(7, 6, 5), batch_norm=True, dropout=0.5, weight_decay=0.1)
    assert [layer.units for layer in layers_of(model, "Dense")] == [7, 6, 5, 10]
    assert len(layers_of(model, "BatchNormalization")) == len(layers_of(model, "Dropout")) == 3
    assert len(model.losses) == 3
