"""What is peculiar to single networks: published sizes, towers, auxiliary heads, tokens.

The contract that all of them share is tested in `test_models.py`.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest

import zoo
from tests.support.networks import outline, run
from zoo.errors import UsageError
from zoo.flops import count_params_and_flops
from zoo.parts import blocks

RANDOM = np.random.default_rng(0)


def endpoints(name, side=None, **options):
    """Returns the endpoints of a builder, for images of that side or of the default one."""
    spec = zoo.spec(name)
    side = side or spec.input_shape[0]
    with keras.StatelessScope(initialize_variables=False):
        return spec.builder(keras.Input((side, side, 3)), **{**spec.options, **options})


def test_parameters_of_nin_by_hand():
    conv = [(5, 3, 192), (1, 192, 160), (1, 160, 96), (5, 96, 192), (1, 192, 192), (1, 192, 192)]
    conv += [(3, 192, 192), (1, 192, 192), (1, 192, 10)]
    assert zoo.spec("nin").parameters == sum(k * k * a * b + b for k, a, b in conv)


@pytest.mark.parametrize("depth", [20, 56, 110, 164])
def test_parameters_of_resnet_v2_by_hand(depth):
    expansion = 4 if depth == 164 else 1
    blocks_per_stage = (depth - 2) // (9 if expansion == 4 else 6)
    total = 9 * 3 * 16 + 2 * 16  # the stem
    channels = 16
    for width in (16, 32, 64):
        for index in range(blocks_per_stage):
            total += 2 * channels if index else 0  # that of the first is part of the stage before
            if expansion == 4:
                total += channels * width + 9 * width**2 + 4 * width**2 + 2 * 2 * width
                total += channels * 4 * width if channels != 4 * width else 0
            else:
                total += 9 * channels * width + 9 * width**2 + 2 * width
            channels = expansion * width
        total += 2 * channels
    total += channels * 10 + 10
    assert zoo.spec(f"resnet{depth}_v2").parameters == total


# AlexNet


def test_the_alexnet_of_the_paper_has_its_normalisation_and_groups():
    model = outline("alexnet_paper")
    assert [has_norm_before_pooling(model, i) for i in (1, 2, 5)] == [True, True, False]
    maps = [model.get_layer(f"conv{i}").output.shape[1:] for i in range(1, 6)]
    assert maps == [(55, 55, 96), (27, 27, 256), (13, 13, 384), (13, 13, 384), (13, 13, 256)]
    kernels = [tuple(model.get_layer(f"conv{i}").kernel.shape) for i in range(1, 6)]
    assert kernels == [  # section 3.5
        (11, 11, 3, 96),
        (5, 5, 48, 256),
        (3, 3, 256, 384),
        (3, 3, 192, 384),
        (3, 3, 192, 256),
    ]
    plain = outline("alexnet")
    assert not any(has_norm_before_pooling(plain, i) for i in (1, 2, 5))


def has_norm_before_pooling(model, index):
    """Returns whether there is a layer between a convolution and its pooling."""
    return model.get_layer(f"pool{index}").input is not model.get_layer(f"conv{index}").output


def test_groups_are_convolutions_of_parts_of_the_channels():
    x = RANDOM.normal(size=(2, 7, 7, 6)).astype("float32")
    image = keras.Input((7, 7, 6))
    both = keras.Model(image, blocks.conv_relu(image, 8, 3, groups=2, name="both"))
    kernel, bias = both.get_layer("both").get_weights()
    assert kernel.shape == (3, 3, 3, 8)
    bias = RANDOM.normal(size=bias.shape)
    both.get_layer("both").set_weights([kernel, bias])
    halves = []
    for tower in range(2):
        half = keras.layers.Conv2D(4, 3, padding="same", activation="relu")
        half.build((None, 7, 7, 3))
        out = slice(4 * tower, 4 * tower + 4)
        half.set_weights([kernel[..., out], bias[out]])
        halves.append(run(half, x[..., 3 * tower : 3 * tower + 3]))
    np.testing.assert_allclose(run(both, x), np.concatenate(halves, -1), rtol=1e-4, atol=1e-5)


# GoogLeNet


def test_auxiliary_heads_are_optional():
    plain, extended = endpoints("googlenet"), endpoints("googlenet", auxiliary=True)
    assert list(plain) == [*zoo.spec("googlenet").stages, "logits"]
    assert [end for end in extended if not end.startswith("stage")] == [
        "auxiliary1",
        "auxiliary2",
        "logits",
    ]
    assert list(extended)[-1] == "logits"
    for head in ("auxiliary1", "auxiliary2"):
        assert extended[head].shape == (None, 1000)
    features = endpoints("googlenet", auxiliary=True, num_classes=None)
    assert tuple(features) == zoo.spec("googlenet").stages


def test_auxiliary_heads_follow_the_modules_of_the_paper():
    model = outline("googlenet", auxiliary=True)
    assert set(model.output) == {"auxiliary1", "auxiliary2", "logits"}
    assert count_params_and_flops(model)[0] == 13_004_888  # torchvision's, with both heads
    for head, module in (("auxiliary1", "inception4a"), ("auxiliary2", "inception4d")):
        pool = model.get_layer(f"{head}_pool")
        assert pool.input is model.get_layer(f"{module}_concat").output
        assert pool.output.shape[1:3] == (4, 4)
        assert model.output[head].dtype == "float32"
    assert set(zoo.spec("googlenet").auxiliary.values()) == {0.3}


def test_an_auxiliary_head_does_not_depend_on_later_modules():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = outline(
        "googlenet", auxiliary=True, input_shape=(32, 32, 3), num_classes=3, auxiliary_dropout=0.0
    )
    assert {x.dtype for x in model.output.values()} == {"float32"}
    first = keras.Model(model.input, model.output["auxiliary1"])
    below = {layer.name for layer in first.layers}
    assert "inception4a_concat" in below
    assert not any(name.startswith(("inception4b", "logits", "auxiliary2")) for name in below)


def test_googlenet_has_the_sizes_of_table_1():
    for name in ("googlenet", "googlenet_paper"):
        ends = endpoints(name)
        shapes = [ends[f"stage{n}"].shape[1:] for n in range(1, 6)]
        assert shapes == [
            (112, 112, 64),
            (56, 56, 192),
            (28, 28, 480),
            (14, 14, 832),
            (7, 7, 1024),
        ]


# Heads without dense layers


@pytest.mark.parametrize("name", ["nin", "squeezenet"])
def test_logits_are_averages_of_one_map_per_class(name):
    model = zoo.build(name, input_shape=(48, 48, 3), num_classes=4)
    maps = keras.Model(model.input, model.get_layer("logits").output)
    x = RANDOM.uniform(0, 255, (2, 48, 48, 3)).astype("float32")
    expected = np.maximum(run(maps, x), 0).mean((1, 2))
    np.testing.assert_allclose(run(model, x), expected, rtol=1e-4, atol=1e-6)
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    assert not dense


def test_dropout_of_nin_is_that_of_the_authors():
    def dropout_layers(name):
        return [layer.name for layer in outline(name).layers if "dropout" in layer.name]

    assert dropout_layers("nin") == ["dropout1", "dropout2"]
    assert dropout_layers("nin_imagenet") == ["dropout3"]


# ResNet v2


@pytest.mark.parametrize("name", ["resnet20_v2", "resnet164_v2"])
def test_shortcuts_are_identities_except_where_the_size_changes(name):
    model = outline(name)
    adds = [layer for layer in model.layers if isinstance(layer, keras.layers.Add)]
    direct = 0
    for layer in adds:
        shortcut, _ = layer.input
        origin = shortcut._keras_history.operation
        if isinstance(origin, keras.layers.Add):
            direct += 1
        else:  # the first block of a stage
            assert layer.name.endswith("block1_add")
    assert direct == len(adds) - 3


def test_a_stage_of_resnet_v2_ends_with_an_activation():
    model = zoo.backbone("resnet20_v2")
    x = RANDOM.integers(0, 256, (1, 32, 32, 3)).astype("float32")
    for name, features in model(x).items():
        features = keras.ops.convert_to_numpy(features)
        assert features.min() == 0 < features.max(), name


# ViT


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def test_attention_of_vit_follows_its_equations():
    heads, width = 3, 12
    model = zoo.build(
        "vit_tiny", input_shape=(32, 48, 3), width=width, heads=heads, depth=1, num_classes=2
    )
    qkv, out = (model.get_layer(f"block1_attention_{part}") for part in ("qkv", "out"))
    for layer in (qkv, out):  # large enough for distinct attention weights
        layer.set_weights([RANDOM.normal(size=w.shape) for w in layer.get_weights()])
    before, after = model.get_layer("block1_norm1").output, out.output
    inner = keras.Model(model.input, [before, after])
    x = RANDOM.uniform(0, 255, (2, 32, 48, 3)).astype("float32")
    tokens, got = (keras.ops.convert_to_numpy(y) for y in inner(x))
    assert tokens.shape == (2, 1 + 2 * 3, width)

    kernel, bias = qkv.get_weights()
    q, k, v = np.split(tokens @ kernel + bias, 3, -1)
    size = width // heads
    outputs = []
    for head in range(heads):
        part = slice(size * head, size * head + size)
        weights = softmax(q[..., part] @ k[..., part].transpose(0, 2, 1) / size**0.5)
        outputs.append(weights @ v[..., part])
    kernel, bias = out.get_weights()
    expected = np.concatenate(outputs, -1) @ kernel + bias
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


def test_the_map_of_vit_has_each_patch_at_its_position():
    model = zoo.backbone("vit_tiny", input_shape=(32, 64, 3), depth=0)
    assert model.output["stage4"].shape == (None, 2, 4, 192)
    x = RANDOM.uniform(0, 255, (1, 32, 64, 3)).astype("float32")
    before = keras.ops.convert_to_numpy(model(x)["stage4"])
    x[:, 16:, 32:48] = 255 - x[:, 16:, 32:48]
    changed = (keras.ops.convert_to_numpy(model(x)["stage4"]) != before).any((0, 3))
    assert changed.tolist() == [[False] * 4, [False, False, True, False]]


def test_vit_takes_images_of_other_sizes():
    model = zoo.build("vit_tiny", input_shape=(48, 32, 3), depth=1, num_classes=2)
    assert model.get_layer("positions").kernel.shape == (1, 7, 192)


def test_stochastic_depth_drops_whole_branches_per_sample():
    model = zoo.build("vit_tiny", input_shape=(16, 16, 3), depth=2, stochastic_depth=0.5)
    rates = {layer.name: layer.rate for layer in model.layers if "_skip" in layer.name}
    assert rates == {"block2_skip1": 0.5, "block2_skip2": 0.5}
    skip = model.get_layer("block2_skip1")
    ones = keras.ops.convert_to_numpy(skip(np.ones((64, 2, 192), "float32"), training=True))
    assert set(np.unique(ones)) == {0.0, 2.0}
    assert (np.ptp(ones, axis=(1, 2)) == 0).all()


# Invalid options, and images of other channels


MISTAKES = [
    (lambda: zoo.build("vit_tiny", input_shape=(40, 32, 3)), "multiples of 16; got 40 x 32"),
    (lambda: zoo.build("vit_tiny", input_shape=(None, 32, 3)), "multiples of 16; got None x 32"),
    (lambda: zoo.build("vit_tiny", heads=5), "got a width of 192, 5 heads"),
    (lambda: zoo.build("alexnet", widths=(8, 8)), "5 convolutions; got 2 widths, 5 groups"),
    (lambda: zoo.build("alexnet", groups=(1, 5, 1, 1, 1)), "map 64 to 192 channels in 5 groups"),
    (lambda: zoo.build("alexnet", groups=(2, 1, 1, 1, 1)), "map 3 to 64 channels in 2 groups"),
    (lambda: zoo.build("resnet20_v2", block="basik"), "no block of resnet_v2 named 'basik'"),
    (lambda: zoo.build("nin", pools=("max", "mean")), "no pooling named 'mean'"),
    (lambda: zoo.build("nin", pools=("max",)), "3 mlpconvs, 1 pools, 2 drops"),
]


@pytest.mark.parametrize(("call", "message"), MISTAKES)
def test_mistakes_have_a_message_of_one_line(call, message):
    with pytest.raises(UsageError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("channels", [1, 4])
def test_a_network_for_rgb_images_takes_other_channels(channels):
    model = outline("squeezenet", input_shape=(32, 32, channels), num_classes=2)
    assert model.get_layer("conv1").kernel.shape == (7, 7, channels, 96)
    assert model.get_layer("pixels").output.shape == (None, 32, 32, channels)


def test_every_pretrained_network_states_both_accuracies_and_their_protocol():
    for name in zoo.names(weights="imagenet"):
        facts = zoo.spec(name).weights
        assert set(facts.figures) == {"accuracy", "top5_accuracy"}, name
        assert facts.figures["accuracy"] < facts.figures["top5_accuracy"], name
        assert facts.protocol.startswith("ImageNet validation"), name
