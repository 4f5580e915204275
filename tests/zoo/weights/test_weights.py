"""Weights files: all formats, mismatches with the model, and networks of keras.applications."""

from __future__ import annotations

import contextlib
import json
import logging
import struct

import h5py
import keras
import numpy as np
import pytest

import zoo
from zoo import catalog, weights
from zoo.errors import UsageError
from zoo.weights import Weights, cache, formats

SIZE = 8


def network(num_classes=3, width=4, prefix="", seed=None):
    """Returns a small classifier; with a seed, all its weights and statistics are random."""
    keras.utils.set_random_seed(1)
    names = {"conv": f"{prefix}conv", "bn": f"{prefix}bn", "logits": "logits"}
    if prefix is None:  # default names
        names = dict.fromkeys(names)
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            keras.layers.Conv2D(width, 3, name=names["conv"]),
            keras.layers.BatchNormalization(name=names["bn"]),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(num_classes, name=names["logits"]),
        ]
    )
    return model if seed is None else randomize(model, seed)


def randomize(model, seed=0):
    """Sets random weights and statistics that keep the scale of activations; returns the model."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        if "kernel" in weight.name:
            value = random.normal(0, np.sqrt(2 / np.prod(weight.shape[:-1])), weight.shape)
        elif weight.name in ("gamma", "moving_variance"):
            value = random.uniform(0.5, 1.5, weight.shape)
        else:
            value = random.normal(0, 0.1, weight.shape)
        weight.assign(value)
    return model


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a.get_weights(), b.get_weights(), strict=True))


def predict(model, images):
    return keras.tree.map_structure(keras.ops.convert_to_numpy, model(images, training=False))


def images(side, channels=3):
    return np.random.default_rng(0).uniform(0, 255, (2, side, side, channels)).astype("float32")


def save_old(model, path):
    """Writes a file as those of keras.applications: groups by layer, at the root."""
    with h5py.File(path, "w") as root:
        layers = [layer for layer in model.layers if layer.weights]
        root.attrs["layer_names"] = [layer.name.encode() for layer in layers]
        for layer in layers:
            group = root.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0" for weight in layer.weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, array in zip(names, layer.get_weights(), strict=True):
                group[name] = array


WRITERS = {
    "weights.weights.h5": lambda model, path: model.save_weights(path),
    "model.keras": lambda model, path: model.save(path),
    "model.h5": lambda model, path: model.save(path),
    "applications.h5": save_old,
    "zoo.npz": lambda model, path: weights.save(model, path, "float32"),
}


@pytest.fixture(params=WRITERS)
def written(request, tmp_path):
    """A model and its file in each format."""
    model = network(seed=7)
    path = tmp_path / request.param
    WRITERS[request.param](model, path)
    return model, path


def test_load_every_format(written):
    model, path = written
    other = network()
    assert not equal(model, other)
    loaded = weights.load(other, path, strict=True)
    assert equal(model, other)
    assert loaded.matched == ("conv", "bn", "logits")
    assert not loaded.skipped
    assert not loaded.unexpected
    assert str(loaded) == f"{path}: 3 of 3 layers"


def test_head_of_another_shape_is_skipped_with_a_warning(written, caplog):
    model, path = written
    other = network(num_classes=5)
    fresh = other.get_layer("logits").get_weights()
    with caplog.at_level(logging.WARNING, "zoo"):
        loaded = weights.load(other, path)
    assert loaded.matched == ("conv", "bn")
    assert loaded.skipped == {"logits": "4x3 + 3 in the file, 4x5 + 5 here"}
    assert "2 of 3 layers (skipped logits: 4x3 + 3 in the file" in caplog.text
    for layer in ("conv", "bn"):
        assert equal(model.get_layer(layer), other.get_layer(layer))
    for before, after in zip(fresh, other.get_layer("logits").get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_strict_loading_refuses_another_head(written):
    _, path = written
    with pytest.raises(UsageError, match=r"leaves 1 layers of .* without weights \(logits: 4x3"):
        weights.load(network(num_classes=5), path, strict=True)


def test_weights_of_another_network_are_refused(written):
    _, path = written
    with pytest.raises(UsageError, match="another network's weights: 0 of the 3 layers"):
        weights.load(network(num_classes=5, width=6), path)


def test_layers_with_other_names_match_by_order(written):
    model, path = written
    other = network(prefix="my_")
    weights.load(other, path, strict=True)
    assert equal(model, other)


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.check
def test_layers_with_default_names_match_by_order(form, tmp_path):
    def stack():
        square = [keras.layers.Conv2D(3, 3, padding="same") for _ in range(12)]
        return keras.Sequential([keras.Input((SIZE, SIZE, 3)), *square])

    model = randomize(stack())
    WRITERS[form](model, tmp_path / form)
    keras.utils.clear_session()
    keras.layers.Conv2D(3, 3)  # takes the first number: each name is now that of the next layer
    other = stack()
    assert {layer.name for layer in model.layers} & {layer.name for layer in other.layers}
    weights.load(other, tmp_path / form, strict=True)
    assert equal(model, other)


def test_nested_models_are_flattened(tmp_path):
    inner = network(seed=7)
    image = keras.Input((SIZE, SIZE, 3))
    inner.name = "inner"
    keras.Model(image, inner(image)).save_weights(tmp_path / "outer.weights.h5")
    assert len(formats.read(tmp_path / "outer.weights.h5")) == 3
    other = network()
    loaded = weights.load(other, tmp_path / "outer.weights.h5", strict=True)
    assert loaded.unexpected == ()
    assert equal(inner, other)


# A file of a larger network


def deep(*parts, seed=7):
    """Returns a model by layer names: `c*` convolution, `b*` batch norm, `p` pool, else dense."""
    keras.utils.set_random_seed(1)
    made = {
        "c": lambda name: keras.layers.Conv2D(3, 3, padding="same", name=name),
        "b": lambda name: keras.layers.BatchNormalization(name=name),
        "p": lambda name: keras.layers.GlobalAveragePooling2D(name=name),
    }
    dense = lambda name: keras.layers.Dense(3, name=name)  # noqa: E731
    stack = [made.get(part.partition("_")[0], dense)(part) for part in parts]
    return randomize(keras.Sequential([keras.Input((SIZE, SIZE, 3)), *stack]), seed)


def save_safetensors(model, path):
    """Writes `layer/index` names in alphabetical order, as the safetensors package does."""
    header, data = {}, b""
    arrays = {f"{x.name}/{i}": a for x in model.layers for i, a in enumerate(x.get_weights())}
    for name, array in sorted(arrays.items()):
        place = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": place}
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


SAVE = {**WRITERS, "zoo.safetensors": save_safetensors}


@pytest.mark.parametrize("form", SAVE)
@pytest.mark.parametrize("parts", [("c_1", "b_1", "p", "logits"), ("c_1", "b_1", "c_3")])
def test_weights_of_a_larger_network_are_refused(form, parts, tmp_path):
    path = tmp_path / form
    SAVE[form](deep("c_1", "b_1", "c_2", "b_2", "c_3", "b_3", "p", "logits"), path)
    model = deep(*parts, seed=1)
    before = model.get_weights()
    with pytest.raises(UsageError, match=r"does not have . of its 7 layers \(.*c_2") as error:
        weights.load(model, path)
    assert "\n" not in str(error.value)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


HEADS = {  # the layers of the file, and those of the model
    "another head": (("c_1", "b_1", "p", "first", "second"), ("c_1", "b_1")),
    "a hidden layer before fresh logits": (("c_1", "p", "hidden", "logits"), ("c_1", "p")),
    "the head of Keras": (("c_1", "p", "fc1", "fc2", "predictions"), ("c_1",)),
    "the stages of a segmenter": (("c_1", "b_1", "c_8", "b_9"), ("c_1", "b_1")),
    "auxiliary heads": (("c_1", "auxiliary1", "c_2", "p", "logits"), ("c_1", "c_2", "p", "logits")),
}


@pytest.mark.parametrize("form", SAVE)
@pytest.mark.parametrize("case", HEADS)
def test_unused_head_in_the_file_is_allowed(case, form, tmp_path):
    file_layers, model_layers = HEADS[case]
    if (case, form) == ("the stages of a segmenter", "zoo.safetensors"):
        pytest.skip("the format has no order, so that the last layers are unknown")
    if case == "auxiliary heads":  # a branch, as in GoogLeNet
        image = keras.Input((SIZE, SIZE, 3))
        x = keras.layers.Conv2D(3, 3, name="c_1")(image)
        side = keras.layers.GlobalAveragePooling2D(name="q")(x)
        side = keras.layers.Dense(3, name="auxiliary1")(side)
        x = keras.layers.Conv2D(3, 3, name="c_2")(x)
        x = keras.layers.GlobalAveragePooling2D(name="p")(x)
        model = keras.Model(image, [side, keras.layers.Dense(3, name="logits")(x)])
    else:
        model = deep(*file_layers)
    SAVE[form](model, tmp_path / form)
    other = deep(*model_layers, seed=1)
    loaded = weights.load(other, tmp_path / form)
    unused = {layer.name for layer in model.layers if layer.weights} - set(model_layers)
    assert {name.replace("predictions", "logits") for name in unused} == (
        {name.replace("predictions", "logits") for name in loaded.unexpected}
    )
    for layer in other.layers:
        assert equal(layer, model.get_layer(layer.name)) or not layer.weights


def test_model_without_weights_matches_nothing(tmp_path):
    deep("c_1").save_weights(tmp_path / "x.weights.h5")
    image = keras.Input((SIZE, SIZE, 3))
    loaded = weights.load(keras.Model(image, keras.layers.ReLU()(image)), tmp_path / "x.weights.h5")
    assert loaded.matched == ()
    assert loaded.unexpected == ("c_1",)


def test_weights_of_resnet32_are_refused_by_resnet20(tmp_path):
    model = zoo.build("resnet32")
    weights.save(model, tmp_path / "resnet32.npz")
    with pytest.raises(
        UsageError, match=r"does not have 24 of its 63 layers \(conv2_block4_1_conv"
    ):
        zoo.build("resnet20.cifar10", weights=tmp_path / "resnet32.npz")
    assert zoo.build("resnet32", weights=tmp_path / "resnet32.npz")


def test_save_uses_float16_by_default(tmp_path):
    model, other = network(seed=7), network()
    weights.save(model, tmp_path / "half.npz")
    weights.load(other, tmp_path / "half.npz", strict=True)
    for exact, rounded in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(exact.astype("float16"), rounded)


@pytest.mark.parametrize("left", [0, 40, 0.5, 0.99])
def test_truncated_file_is_refused(written, left):
    _, path = written
    whole = path.read_bytes()
    path.write_bytes(whole[: int(left * len(whole)) if left < 1 else left])
    with pytest.raises(UsageError) as error:
        weights.load(network(), path, strict=True)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.check) for seed in range(2, 8))]
)
def test_random_damage_raises_only_usage_errors(written, seed):
    _, path = written
    random = np.random.default_rng(seed)
    content = bytearray(path.read_bytes())
    start = random.integers(len(content))
    content[start : start + 200] = random.bytes(len(content[start : start + 200]))
    path.write_bytes(content)
    with contextlib.suppress(UsageError):  # damaged values of an array are not detected
        weights.load(network(), path, strict=True)


@pytest.mark.parametrize("form", WRITERS)
def test_unreadable_file_is_refused(form, tmp_path):
    (tmp_path / form).write_bytes(b"<html>404 not found</html>")
    with pytest.raises(UsageError, match=f"{form} cannot be read as weights"):
        formats.read(tmp_path / form)


def test_hdf5_file_without_weights_is_refused(tmp_path):
    with h5py.File(tmp_path / "table.h5", "w") as root:
        root["x"] = [1, 2]
    with pytest.raises(UsageError, match="neither a Keras 3 nor an older Keras weights file"):
        formats.read(tmp_path / "table.h5")


def test_missing_file_and_unknown_ending_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"no weights file at .*gone.keras"):
        formats.read(tmp_path / "gone.keras")
    with pytest.raises(UsageError, match="no weights file at aaa"):
        zoo.build("lenet5", weights="a" * 300)
    (tmp_path / "model.onnx").write_bytes(b"graph")
    with pytest.raises(
        UsageError, match=r"model.onnx is not a weights file; known endings: .*\.npz"
    ):
        formats.read(tmp_path / "model.onnx")


# Weights in `zoo.build` and `zoo.backbone`


@pytest.fixture
def tiny(monkeypatch):
    """Registers a model with a tag for one test."""
    zoo.names()  # discover the other models first
    monkeypatch.setattr(catalog.models, "_entries", dict(catalog.models._entries))
    demo = Weights(
        source="https://example.org/tiny.npz",
        digest="0" * 32,
        headless=("https://example.org/tiny_notop.npz", "1" * 32),
        num_classes=6,
        preprocessing="caffe",
        options={"hidden": 0},
    )

    @zoo.register(
        {"tiny": {}},
        input_shape=(SIZE, SIZE, 3),
        paper="https://example.org",
        stages=[1],
        weights={"tiny": {"demo": demo}},
    )
    def tiny(image, num_classes=10, *, hidden=5):
        """Builds a tiny classifier."""
        x = keras.layers.Conv2D(4, 3, 2, padding="same", name="conv")(image)
        ends = {"stage1": x}
        if num_classes:
            x = keras.layers.Flatten()(x)
            x = keras.layers.Dense(hidden, name="hidden")(x) if hidden else x
            ends["logits"] = keras.layers.Dense(num_classes, name="logits")(x)
        return ends


@pytest.fixture
def tiny_file(tiny, tmp_path):
    """The whole model `tiny.demo` and its weights file."""
    model = randomize(zoo.build("tiny.demo", weights="random"))
    weights.save(model, tmp_path / "tiny.npz", "float32")
    return model, tmp_path / "tiny.npz"


def test_build_with_a_file_beside_a_name(tiny, tmp_path):
    model = randomize(zoo.build("tiny"))
    model.save_weights(tmp_path / "mine.weights.h5")
    assert equal(zoo.build("tiny", weights=tmp_path / "mine.weights.h5"), model)
    other = zoo.build("tiny", num_classes=3, weights=str(tmp_path / "mine.weights.h5"))
    assert equal(other.get_layer("hidden"), model.get_layer("hidden"))
    assert other.output.shape == (None, 3)


def test_build_tag_with_file_keeps_its_preprocessing(tiny_file):
    model, path = tiny_file
    whole = zoo.build("tiny.demo", weights=path)
    assert equal(whole, model)
    assert whole.output.shape == (None, 6)
    assert whole.get_layer("pixels").offset == pytest.approx([-103.939, -116.779, -123.68])
    assert zoo.build("tiny").get_layer("pixels").offset == -127.5


def test_build_tag_with_num_classes_has_the_implied_head(tiny_file):
    model, path = tiny_file
    fresh = zoo.build("tiny.demo", num_classes=3, weights=path)
    assert fresh.output.shape == (None, 3)
    assert equal(fresh.get_layer("conv"), model.get_layer("conv"))
    assert "hidden" not in [layer.name for layer in fresh.layers]
    explicit = zoo.build("tiny.demo", num_classes=3, hidden=9, weights="random")
    assert explicit.get_layer("hidden").units == 9


def test_backbone_of_tag_loads_part_of_a_whole_file(tiny_file):
    model, path = tiny_file
    features = zoo.backbone("tiny.demo", weights=path)
    assert equal(features.get_layer("conv"), model.get_layer("conv"))
    assert list(features.output) == ["stage1"]


def test_whole_tag_is_loaded_strictly(tiny, tmp_path):
    other = zoo.build("tiny.demo", num_classes=3, hidden=5, weights="random")
    weights.save(other, tmp_path / "other.npz")
    with pytest.raises(UsageError, match="with num_classes=N the model gets a new head"):
        zoo.build("tiny.demo", weights=tmp_path / "other.npz")


def test_headless_file_is_downloaded_if_enough(tiny_file, monkeypatch):
    _, path = tiny_file
    fetched = []

    def fetch(file, owner):
        fetched.append((file.name, file.source, file.digest))
        return path

    monkeypatch.setattr(cache, "find_local", lambda _: None)
    monkeypatch.setattr(cache, "fetch", fetch)
    whole = ("tiny.npz", "https://example.org/tiny.npz", "0" * 32)
    headless = ("tiny_notop.npz", "https://example.org/tiny_notop.npz", "1" * 32)
    zoo.build("tiny.demo")
    zoo.build("tiny.demo", num_classes=3)
    zoo.build("tiny.demo", num_classes=3, hidden=0)
    zoo.build("tiny.demo", num_classes=3, hidden=5)  # the headless file does not have this layer
    zoo.backbone("tiny.demo")
    zoo.build("tiny.demo", weights="random")
    zoo.build("tiny")
    assert fetched == [whole, headless, headless, whole, headless]


def test_offline_build_is_refused(tiny, monkeypatch, tmp_path):
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    with pytest.raises(UsageError, match=r"tiny.demo are not on this machine .*FILE") as e:
        zoo.build("tiny.demo")
    assert "\n" not in str(e.value)


def test_tag_without_source_needs_a_file():
    with pytest.raises(UsageError, match="no source to download from; pass a file as weights=FILE"):
        zoo.build("vgg16.torch_imagenet", num_classes=2)


def test_weights_in_the_package_are_not_downloaded():
    path = weights.fetch("x", Weights(source="asset:imagenet.txt"))
    assert path.is_file()


# Weights files of keras.applications: the same logits

SAME = [
    pytest.param("vgg16", "VGG16", "vgg16", False),
    pytest.param("vgg16", "VGG16", "vgg16", True, marks=pytest.mark.check),
    *(
        pytest.param("resnet50", "ResNet50", "resnet", top, marks=pytest.mark.check)
        for top in (True, False)
    ),
    *(
        pytest.param(name, constructor, package, top, marks=pytest.mark.slow)
        for name, constructor, package in (
            ("resnet101", "ResNet101", "resnet"),
            ("resnet152", "ResNet152", "resnet"),
            ("vgg19", "VGG19", "vgg19"),
        )
        for top in (True, False)
    ),
]


@pytest.mark.parametrize(("name", "constructor", "package", "top"), SAME)
def test_logits_match_keras_applications(name, constructor, package, top, tmp_path):
    shape = (32, 32, 3)
    head = {"classifier_activation": None} if top else {}
    build = getattr(keras.applications, constructor)
    reference = randomize(build(weights=None, include_top=top, input_shape=shape, **head))
    reference.save_weights(tmp_path / "reference.weights.h5")
    make = zoo.build if top else zoo.backbone
    model = make(f"{name}.imagenet", input_shape=shape, weights=tmp_path / "reference.weights.h5")
    preprocess = getattr(keras.applications, package).preprocess_input
    expected = predict(reference, preprocess(images(32)))
    found = predict(model, images(32))
    found = found if top else found["stage5"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(("photo", "label"), [("chelsea.png", 285), ("coffee.png", 967)])
def test_resnet50_classifies_a_photo(photo, label, zoo_data):
    path = zoo_data / "weights" / "resnet50_imagenet.weights.h5"
    model = zoo.build("resnet50.imagenet", weights=path)
    image = keras.utils.load_img(zoo_data / "photos" / photo, target_size=(224, 224))
    [logits] = predict(model, np.asarray(image)[None])
    assert logits.argmax() == label


def test_torch_weights_of_vgg16_load_into_the_backbone(zoo_data):
    path = zoo_data / "weights" / "vgg16_notop_torch.weights.h5"
    model = zoo.backbone("vgg16.torch_imagenet", input_shape=(32, 32, 3), weights=path)
    assert model.get_layer("block5_conv3").bias.numpy().any()


def test_num_classes_gives_a_new_head_of_the_same_shape():
    import keras

    whole = zoo.build("resnet20.cifar10")
    fresh = zoo.build("resnet20.cifar10", num_classes=10)
    kernels = [
        {
            layer.name: keras.ops.convert_to_numpy(layer.weights[0])
            for layer in m.layers
            if layer.weights
        }
        for m in (whole, fresh)
    ]
    assert (kernels[0]["conv1_conv"] == kernels[1]["conv1_conv"]).all()
    assert (kernels[0]["logits"] != kernels[1]["logits"]).any()
