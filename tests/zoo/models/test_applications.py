"""The networks of keras.applications: the table is complete, and they equal those of Keras.

The contract of a model is tested in `test_models.py`; here each network is compared with Keras's
own, built with `weights="imagenet"`, and with the files that it would download.
"""

from __future__ import annotations

import importlib
import inspect

import keras
import numpy as np
import pytest
from keras import applications
from PIL import Image

import zoo
from tests.support.networks import outline
from zoo import graphs
from zoo.errors import UsageError

OWN = {  # with a file of their own in the zoo
    "vgg16": "VGG16",
    "vgg19": "VGG19",
    "resnet50": "ResNet50",
    "resnet101": "ResNet101",
    "resnet152": "ResNet152",
}
NAMES = [
    name
    for name in zoo.names(weights=False)
    if zoo.spec(name).builder.__module__ == "zoo.models.applications"
]
# One of each kind of preprocessing; `make test` runs the smallest.
PREPROCESSED = ("mobilenet_v3_small", "mobilenet_v2", "densenet121", "efficientnet_b0")
NESTED = "convnext_tiny"  # contains models


def some(fast, *check):
    """Returns every network; all but `fast` are marked check or slow."""
    marks = {fast: (), **dict.fromkeys(check, pytest.mark.check)}
    return [pytest.param(name, marks=marks.get(name, pytest.mark.slow)) for name in NAMES]


def constructor(name):
    return getattr(applications, zoo.spec(name).options["constructor"])


def keras_model(name, side=None, **options):
    """Builds Keras's own network, for images of that side or of the default one."""
    spec = zoo.spec(name)
    if "alpha" in spec.options:
        options["alpha"] = spec.options["alpha"]
    side = side or spec.input_shape[0]
    return constructor(name)(classifier_activation=None, input_shape=(side, side, 3), **options)


def keras_preprocess(name, images):
    """Returns images after the `preprocess_input` of the network's module in Keras."""
    module = importlib.import_module(constructor(name).__module__)
    return module.preprocess_input(images.astype("float32"))


def photos(side, count=2):
    """Returns smooth noise in [0, 255], whose statistics differ from image to image."""
    coarse = np.random.default_rng(0).uniform(0, 255, (count, 6, 6, 3)).astype("float32")
    return np.stack(
        [keras.ops.convert_to_numpy(keras.ops.image.resize(x, (side, side))) for x in coarse]
    )


def randomize(model, images):
    """Gives a network distinct weights, and the statistics of its own activations.

    Without them the logits of a deep random network are near zero for any image.
    """
    random = np.random.default_rng(1)
    for layer in graphs.leaf_layers(model):
        if isinstance(layer, keras.layers.Normalization):
            if layer.weights:  # EfficientNet's, with the values of Keras's files
                values = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], 1
                layer.set_weights([np.array(value) for value in values])
                layer.finalize_state()
            continue
        layer.momentum = 0.0  # batch normalization then stores the statistics of this batch
        for weight in layer.weights:
            if len(weight.shape) == 1:
                low, high = (0.5, 1.5) if "gamma" in weight.path else (-0.3, 0.3)
                weight.assign(random.uniform(low, high, weight.shape))
    model(images, training=True)


def logits(model, images):
    return keras.ops.convert_to_numpy(model(images, training=False))


def weights_by_layer(model):
    """Returns the weights of a model by layer, those of layers with automatic names too."""
    return {layer.name: layer.get_weights() for layer in graphs.leaf_layers(model) if layer.weights}


@pytest.fixture
def downloads(monkeypatch):
    """The downloads that Keras requests, a list of `(url, digest)`; nothing is downloaded."""
    requests = []

    def get_file(fname, origin, cache_subdir, file_hash=None):
        requests.append((origin, file_hash or ""))

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    monkeypatch.setattr(keras.Model, "load_weights", lambda model, path: None)
    return requests


def test_table_and_zoo_cover_keras_applications():
    constructors = {name for name, value in vars(applications).items() if inspect.isfunction(value)}
    table = {zoo.spec(name).options["constructor"] for name in NAMES}
    assert len(constructors) == 40
    assert table | set(OWN.values()) == constructors
    assert not table & set(OWN.values())
    assert set(OWN) <= set(zoo.names())
    assert all(f"{name}.imagenet" in zoo.names() for name in [*NAMES, *OWN])


@pytest.mark.parametrize("name", NAMES)
def test_smallest_size_is_the_one_that_keras_states(name):
    side = zoo.spec(name).min_size
    with pytest.raises(ValueError, match=f"{side}x{side}"):
        keras_model(name, side - 1, weights=None, include_top=False)


@pytest.mark.parametrize("name", some(None, *PREPROCESSED))
def test_logits_are_those_of_keras_with_its_imagenet_weights(name, tmp_path, downloads):
    spec = zoo.spec(f"{name}.imagenet")
    # With other random weights rounding alone can come to 3e-4 in EfficientNet-B7, the deepest.
    keras.utils.set_random_seed(0)
    reference = keras_model(name, weights="imagenet")
    assert downloads == [(spec.weights.source, spec.weights.digest)]

    images = photos(spec.input_shape[0])
    randomize(reference, keras_preprocess(name, images))
    reference.save_weights(tmp_path / "full.weights.h5")
    expected = logits(reference, keras_preprocess(name, images))
    spread = np.abs(expected[0] - expected[1]).max()
    assert spread > 0.01, "the logits do not depend on the image"

    model = zoo.build(f"{name}.imagenet", weights=tmp_path / "full.weights.h5")
    bound = 1e-4 * min(1, 10 * spread)
    np.testing.assert_allclose(logits(model, images), expected, rtol=0, atol=bound)
    assert model.layers[-1].name == "logits"


@pytest.mark.parametrize("name", some("mobilenet_v2"))
def test_headless_file_is_the_one_that_keras_downloads(name, downloads):
    with keras.StatelessScope(initialize_variables=False):
        keras_model(name, weights="imagenet", include_top=False)
    facts = zoo.spec(f"{name}.imagenet").weights
    # The last features of MobileNetV3 come from a layer that its headless file lacks.
    assert facts.headless == (None if name.startswith("mobilenet_v3") else downloads[0])


@pytest.mark.parametrize("name", some(None, "mobilenet_025", NESTED))
def test_every_file_fills_every_layer(name, tmp_path):
    side = zoo.spec(name).min_size
    source = keras_model(name, side, weights=None)
    randomize(source, photos(side))
    files = tmp_path / "current.weights.h5", tmp_path / "legacy.h5"
    source.save_weights(files[0])
    source.save(files[1])
    values = [value for layer in graphs.leaf_layers(source) for value in layer.get_weights()]
    shape = {"input_shape": (side, side, 3)}
    for file in files:
        model = zoo.build(f"{name}.imagenet", weights=file, **shape)
        loaded = weights_by_layer(model)
        arrays = [value for arrays in loaded.values() for value in arrays]
        for value, array in zip(values, arrays, strict=True):
            np.testing.assert_array_equal(value.reshape(array.shape), array)
    for part in (
        zoo.backbone(f"{name}.imagenet", weights=file, **shape),
        zoo.build(f"{name}.imagenet", weights=file, num_classes=7, **shape),
    ):
        for layer, arrays in weights_by_layer(part).items():
            if layer != "logits":
                for value, expected in zip(arrays, loaded[layer], strict=True):
                    np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("name", some("mobilenet_v3_small"))
def test_layer_names_are_those_of_keras_whatever_was_built_before(name):
    with keras.StatelessScope(initialize_variables=False):
        reference = keras_model(name, weights=None)
        model = zoo.build(name)
    expected = [layer.name for layer in graphs.leaf_layers(reference) if layer.weights]
    assert [layer.name for layer in graphs.leaf_layers(model) if layer.weights][:-1] == expected[
        :-1
    ]


def test_a_fresh_head_keeps_the_pretrained_features():
    model = outline("mobilenet_v3_small.imagenet", num_classes=5)
    assert model.get_layer("conv_2").output.shape == (None, 1, 1, 1024)
    assert model.get_layer("dropout").rate == 0.2
    assert model.output.shape == (None, 5)


@pytest.mark.parametrize(("options", "rate"), [({}, 1e-3), ({"dropout": 0.5}, 0.5)])
def test_dropout_is_that_of_the_network_by_default(options, rate):
    assert outline("mobilenet_025", num_classes=5, **options).get_layer("dropout").rate == rate


def test_a_dropout_rate_of_zero_adds_no_layer():
    model = outline("mobilenet_025", num_classes=5, dropout=0.0)
    assert "dropout" not in [layer.name for layer in model.layers]


TAPS = {
    "mobilenet_v2": [f"block_{n}_expand_relu" for n in (1, 3, 6, 13)] + ["out_relu"],
    "efficientnet_v2_b0": [
        "block1a_project_activation",
        "block2b_add",
        "block4a_expand_activation",
        "block6a_expand_activation",
        "top_activation",
    ],
    "resnet50_v2": ["conv1_conv"]
    + [f"conv{n}_preact_relu" for n in ("2_block3", "3_block4", "4_block6")]
    + ["post_relu"],
    "densenet121": ["conv1_relu", "pool2_conv", "pool3_conv", "pool4_conv", "relu"],
    "inception_v3": ["activation_2", "activation_4", "mixed2", "mixed7", "mixed10"],
}


@pytest.mark.parametrize("name", TAPS)
def test_stages_end_where_segmentation_networks_take_features(name):
    taps = outline(name, zoo.backbone).output.values()
    assert [tensor._keras_history.operation.name for tensor in taps] == TAPS[name]


@pytest.mark.parametrize("name", some("mobilenet_v3_large", "nasnet_mobile"))
def test_odd_sizes_are_accepted(name):
    last = outline(name, zoo.backbone, input_shape=(97, 131, 3)).output["stage5"]
    assert 1 <= last.shape[1] < last.shape[2] <= 5


def test_networks_for_rgb_images_refuse_other_channels():
    with pytest.raises(UsageError, match="ConvNeXtTiny takes RGB images; got 1 channels"):
        zoo.build("convnext_tiny", input_shape=(64, 64, 1))


def test_an_unknown_size_is_refused_where_keras_would_build_an_invalid_network():
    with pytest.raises(UsageError, match="NASNetMobile needs images of a fixed height and width"):
        zoo.build("nasnet_mobile", input_shape=(None, None, 3))


def test_class_names_are_in_the_order_of_labels():
    names = zoo.class_names("imagenet")
    assert len(names) == len(set(names)) == 1000
    assert (names[285], names[967]) == ("Egyptian cat", "espresso")
    assert (names[134], names[517]) == ("crane (bird)", "crane (machine)")
    assert zoo.class_names("cifar10")[3] == "cat"


@pytest.mark.parametrize(
    ("photo", "label"), [("chelsea.png", "Egyptian cat"), ("coffee.png", "espresso")]
)
def test_mobilenet_classifies_photos(photo, label, zoo_data):
    file = zoo_data / "weights" / "mobilenet_025_imagenet.weights.h5"
    model = zoo.build("mobilenet_025.imagenet", weights=file)
    with Image.open(zoo_data / "photos" / photo) as image:
        pixels = np.asarray(image.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC))
    order = np.argsort(logits(model, pixels[None])[0])
    assert label in [zoo.class_names("imagenet")[index] for index in order[-5:]]
