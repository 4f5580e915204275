"""The contract of a segmenter, what every name of the kind must do; then each family's own."""

from __future__ import annotations

import inspect
import subprocess
import sys

import keras
import numpy as np
import pytest

import zoo
from tests.support import checks
from tests.support.networks import distance, pixels, shaken
from tests.support.paths import ROOT
from zoo import UsageError, layers, surgery
from zoo.flops import count_params_and_flops
from zoo.parts import encoder

CLASSES = 7
EAGERLY = keras.config.backend() == "tensorflow"  # where tracing a graph costs more than running
NAMES = zoo.names(kind="segmenter")
ODD = (33, 47)
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


def outline(name, **options):
    """Builds a model whose weights have shapes and no values: a tenth of the time, no memory."""
    with keras.StatelessScope(initialize_variables=False):
        return zoo.build(name, **options, weights="random")


def channels(name):
    return zoo.spec(name).input_shape[-1]


def run(model, x, **kwargs):
    return keras.ops.convert_to_numpy(model(x, **kwargs))


# The contract


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(1, 1), ODD, (None, None), (64, None)], ids=str)
def test_logits_are_float32_of_the_size_of_the_image(name, size):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = outline(name, num_classes=CLASSES, input_shape=(*size, channels(name)))
    assert model.output.shape == (None, *size, CLASSES)
    assert model.output.dtype == "float32"
    assert model.name == name
    assert any(layer.compute_dtype == "bfloat16" for layer in model.layers)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_the_encoder_is_the_head(name):
    model = outline(name, num_classes=CLASSES)
    found = surgery.stages(model)
    assert list(found) == sorted(found)
    assert len(found) >= 3
    head = {layer.name for layer in surgery.learnable(model, "head")}
    builder = inspect.signature(zoo.spec(name).builder).parameters
    own = builder["backbone"].default if "backbone" in builder else None
    backbone = zoo.spec(name).options.get("backbone", own)
    every = {layer.name for layer in model.layers if layer.weights}
    if backbone:
        with keras.StatelessScope(initialize_variables=False):
            theirs = {layer.name for layer in zoo.backbone(backbone, weights="random").layers}
        assert head == every - theirs
    else:
        assert every - head == {x for x in every if x.startswith(("encoder", "block"))}
    depths = surgery.depths(model)
    assert {name for name, depth in depths.items() if depth == 0} == head
    assert max(depths.values()) == len(found)


@pytest.fixture(scope="module", params=NAMES)
def sample(request):
    """A small model for images of any size, with images; built once for all tests below."""
    name = request.param
    keras.utils.set_random_seed(0)
    shape = (None, None, channels(name))
    if keras.config.backend() == "torch":
        shape = (*ODD, channels(name))
    model = zoo.build(name, num_classes=CLASSES, input_shape=shape, **SMALL[name])
    model.run_eagerly = EAGERLY
    yield shaken(model), pixels((2, *ODD, channels(name)))
    keras.utils.clear_session()


def test_logits_are_finite_and_depend_on_the_image(sample):
    model, images = sample
    logits = model.predict(images, verbose=0)
    assert logits.shape == (2, *ODD, CLASSES)
    assert np.isfinite(logits).all()
    assert (logits[0] != logits[1]).any()


def test_any_size_gives_what_the_one_size_gives(sample):
    model, images = sample
    if None not in model.input_shape[1:]:
        pytest.skip("the backend knows its sizes")
    fixed = zoo.build(
        model.name, num_classes=CLASSES, input_shape=images.shape[1:], **SMALL[model.name]
    )
    fixed.set_weights(model.get_weights())
    assert distance(run(model, images), run(fixed, images)) < 1e-5
    assert run(model, images[:, :1, :2]).shape == (2, 1, 2, CLASSES)


@pytest.mark.skipif(not EAGERLY, reason="a graph of TensorFlow")
def test_a_graph_for_any_size_gives_the_same_logits(sample):
    """Traced without autograph, as `zoo predict` and the exporters trace it."""
    import tensorflow as tf

    model, images = sample
    shape = tf.TensorSpec((None, None, None, images.shape[-1]), "float32")
    graph = tf.function(model, autograph=False).get_concrete_function(shape, training=False)
    assert distance(graph(tf.constant(images)).numpy(), run(model, images)) < 1e-5


def test_folding_keeps_the_logits(sample):
    model, images = sample
    folded = surgery.fold(model)
    assert distance(run(folded, images), run(model, images)) < 1e-4
    kinds = {type(layer).__name__ for layer in folded.layers}
    assert "BatchNormalization" not in kinds
    assert list(surgery.stages(folded)) == list(surgery.stages(model))


@pytest.mark.parametrize("name", NAMES)
def test_a_frozen_encoder_is_split_off(name):
    """At a size that is known; otherwise the image is needed until the end, to cut the logits."""
    shape = (*ODD, channels(name))
    model = shaken(zoo.build(name, num_classes=CLASSES, input_shape=shape, **SMALL[name]))
    surgery.freeze(model, "head")
    depths = surgery.depths(model)
    for layer in surgery.learnable(model, "all"):
        assert layer.trainable == (depths[layer.name] == 0)
    before, after = surgery.split(model)
    images = pixels((2, *shape))
    assert distance(run(after, run(before, images)), run(model, images)) < 1e-5
    assert sum(layer.count_params() for layer in before.layers) > 0


def test_saved_model_answers_the_same(sample, tmp_path):
    model, images = sample
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(run(loaded, images), run(model, images), rtol=1e-5, atol=1e-5)
    assert list(surgery.stages(loaded)) == list(surgery.stages(model))


def test_a_gradient_reaches_every_weight(sample):
    model, images = sample
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    labels = np.random.default_rng(0).integers(0, CLASSES, images.shape[:-1])
    checks.assert_all_learn(model, images, labels, loss, run_eagerly=EAGERLY)


def test_saved_models_are_read_by_a_process_without_the_zoo(tmp_path):
    """One for each layer of ours that a segmenter may have."""
    for name in ("fcn8s", "segnet", "unet_paper"):
        shape = (None, None, channels(name))
        model = shaken(zoo.build(name, num_classes=2, input_shape=shape, **SMALL[name]))
        model.save(tmp_path / f"{name}.keras")
        images = pixels((1, *ODD, channels(name)))
        np.savez(tmp_path / f"{name}.npz", images=images, logits=run(model, images))
    code = (
        "import pathlib, sys, keras, numpy as np, zoo.layers\n"
        "for path in pathlib.Path(sys.argv[1]).glob('*.keras'):\n"
        "    model, known = keras.saving.load_model(path), np.load(path.with_suffix('.npz'))\n"
        "    logits = keras.ops.convert_to_numpy(model(known['images']))\n"
        "    np.testing.assert_allclose(logits, known['logits'], rtol=1e-4, atol=1e-4)\n"
        "assert 'zoo.models' not in sys.modules\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_weights_file_fills_all_of_a_segmenter(tmp_path, monkeypatch):
    """And the source of its backbone's weights is left alone."""
    model = shaken(zoo.build("unet_backbone", num_classes=3, input_shape=(32, 32, 3)))
    model.save_weights(tmp_path / "own.weights.h5")
    monkeypatch.setattr("zoo.weights.fetch", lambda *args, **kwargs: pytest.fail("fetched"))
    path = str(tmp_path / "own.weights.h5")
    again = zoo.build("unet_backbone", num_classes=3, input_shape=(None, None, 3), weights=path)
    images = pixels((1, 32, 32, 3))
    np.testing.assert_allclose(run(again, images), run(model, images), rtol=1e-4, atol=1e-5)


# Encoders


def test_a_pyramid_is_the_backbone_on_another_image():
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


def test_a_pyramid_ends_in_the_last_stage_that_is_wanted():
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


def test_stages_of_others_end_where_maps_are_stretched():
    """A user's own U-Net, that says nothing about its stages."""
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


# Layers


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (5, 7), (8, 6)], ids=str)
@pytest.mark.parametrize(("multiple", "remainder", "margin"), [(4, 0, 0), (8, 4, 13), (1, 0, 2)])
def test_mirror_padding_is_numpys(size, multiple, remainder, margin):
    x = pixels((2, *size, 3))
    y = run(layers.ReflectPadToMultiple2D(multiple, remainder, margin), x)
    more = [(remainder - side) % multiple for side in size]
    widths = [(0, 0), *((margin, margin + side) for side in more), (0, 0)]
    np.testing.assert_array_equal(y, np.pad(x, widths, mode="reflect"))
    shape = layers.ReflectPadToMultiple2D(multiple, remainder, margin).compute_output_shape(x.shape)
    assert shape == y.shape


def slow_pooling(x):
    batch, height, width, depth = x.shape
    maxima = np.zeros((batch, -(-height // 2), -(-width // 2), depth), x.dtype)
    places = np.zeros(maxima.shape, int)
    for n, i, j, c in np.ndindex(maxima.shape):
        best = -np.inf
        for row in range(2):
            for column in range(2):
                y, z = 2 * i + row, 2 * j + column
                if y < height and z < width and x[n, y, z, c] > best:
                    best = maxima[n, i, j, c] = x[n, y, z, c]
                    places[n, i, j, c] = 2 * row + column
    return maxima, places


def slow_unpooling(x, places):
    batch, height, width, depth = x.shape
    y = np.zeros((batch, 2 * height, 2 * width, depth), x.dtype)
    for n, i, j, c in np.ndindex(x.shape):
        row, column = divmod(places[n, i, j, c], 2)
        y[n, 2 * i + row, 2 * j + column, c] = x[n, i, j, c]
    return y


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (8, 6), (6, 3)], ids=str)
@pytest.mark.parametrize("known", [True, False])
def test_pooling_remembers_places_and_unpooling_puts_back(size, known):
    if not known and keras.config.backend() == "torch":
        pytest.skip("the backend knows its sizes")
    x = np.random.default_rng(0).integers(-4, 5, (2, *size, 3)).astype("float32")  # with ties
    image = keras.Input((*size, 3) if known else (None, None, 3))
    maxima, places = layers.ArgmaxPooling2D()(image)
    back = layers.MaxUnpooling2D()([maxima, places])
    model = keras.Model(image, [maxima, places, back])
    found = [keras.ops.convert_to_numpy(y) for y in model(x)]
    expected = slow_pooling(x)
    for mine, slow in zip(found, [*expected, slow_unpooling(*expected)], strict=True):
        np.testing.assert_array_equal(mine, slow)
    if known:
        assert [y.shape[1:] for y in model.outputs] == [y.shape[1:] for y in found]
    assert [y.dtype for y in model.outputs] == [str(y.dtype) for y in found]


@pytest.mark.parametrize(("size", "larger"), [((4, 5), (9, 7)), ((1, 1), (3, 2)), ((6, 6), (4, 6))])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_maps_are_resized_to_the_size_of_others(size, larger, dtype):
    x, other = (keras.ops.cast(pixels((2, *s, 3)), dtype) for s in (size, larger))
    expected = keras.ops.image.resize(x, larger, "bilinear")
    found = layers.ResizeLike(dtype=dtype)([x, other])
    assert keras.backend.standardize_dtype(found.dtype) == dtype
    np.testing.assert_array_equal(*(keras.ops.convert_to_numpy(y) for y in (found, expected)))


@pytest.mark.parametrize("stride", [2, 3, 4, 8])
def test_bilinear_kernels_stretch_as_interpolation_does(stride):
    x = np.random.default_rng(0).normal(size=(1, 6, 5, 3)).astype("float32")
    kernel = {
        "kernel_size": 2 * stride - stride % 2,
        "kernel_initializer": layers.BilinearInitializer(),
    }
    learned = keras.layers.Conv2DTranspose(3, strides=stride, padding="same", **kernel)
    fixed = keras.layers.UpSampling2D(stride, interpolation="bilinear")
    inside = (slice(None), slice(stride, -stride), slice(stride, -stride))
    np.testing.assert_allclose(run(learned, x)[inside], run(fixed, x)[inside], atol=1e-5)


# FCN


@pytest.mark.parametrize(
    ("name", "classes", "parameters"),
    [
        # VGG16's 14,714,688, fc6 102,764,544, fc7 16,781,312; 4,097 a class; ...
        ("fcn32s", 21, 134_260_544 + 4097 * 21),
        ("fcn32s", 11, 134_260_544 + 4097 * 11),
        # ... 513 a class for pool4, and a kernel of 4 x 4; 257 for pool3, and another kernel.
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


def test_a_fresh_fcn_knows_nothing():
    model = zoo.build("fcn8s", num_classes=3, input_shape=(32, 32, 3), backbone="resnet20")
    assert not run(model, pixels((1, 32, 32, 3))).any()
    assert surgery.learnable(model, "score_*") == [
        layer for layer in model.layers if layer.name.startswith("score_")
    ]


def test_fcn_knows_what_the_dense_layers_of_its_backbone_know(tmp_path):
    """In the middle of the image, where the 7 x 7 convolution sees all of what they see."""
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


def test_fcn_wants_as_many_stages_as_it_scores():
    with pytest.raises(UsageError, match="resnet20 has 3 stages, not the 4"):
        zoo.build("fcn8s", backbone="resnet20", scored=4)


# SegNet


@pytest.mark.parametrize(("classes", "parameters"), [(11, 29_449_355), (21, 29_455_125)])
def test_segnet_on_vgg16_is_the_published_network(classes, parameters):
    """Two VGG16s without dense layers, the second mirrored, normalised, and a last 3 x 3."""
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


def test_an_unpadded_unet_answers_for_every_pixel_of_its_own():
    """A larger image gives the same in the middle: the borders are the image's, not padding's."""
    widths, size = (4, 6), (20, 20)
    large = zoo.build("unet_paper", widths=widths, input_shape=(None, None, 1))
    images = pixels((1, 60, 60, 1))
    middle = run(large, images)[:, 20:40, 20:40]
    around = images[:, 20 - 8 : 40 + 8, 20 - 8 : 40 + 8] / 127.5 - 1  # the margin that it needs
    inside = keras.Model(large.get_layer("pad").output, large.get_layer("logits").output)
    assert distance(run(inside, around), middle) < 1e-5
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
    for backbone in ("resnet20.cifar10", "vgg11", "mobilenet_v2", "xception"):
        for separable in (True, False):
            model = outline(
                "deeplabv3plus",
                backbone=backbone,
                separable=separable,
                width=8,
                num_classes=2,
                input_shape=(96, 128, 3),
            )
            assert model.output.shape == (None, 96, 128, 2)
