"""The networks of keras.applications: that the table has them all, and that they stay Keras's.

The contract of a model is tested in `test_models.py`; here each network is held against Keras's
own, built as `weights="imagenet"` builds it, with all that it asks to download.
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
from zoo import graphs
from zoo.errors import UsageError

OWN = {  # written out in files of the zoo
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
PIXELS = ("mobilenet_v2", "densenet121", "efficientnet_b0", "mobilenet_v3_small")  # of each kind
NESTED = "convnext_tiny"  # has models inside


def some(*fast):
    """Every network; all but `fast` are marked slow."""
    return [pytest.param(n, marks=() if n in fast else pytest.mark.slow) for n in NAMES]


def constructor(name):
    return getattr(applications, zoo.spec(name).options["constructor"])


def keras_model(name, side=None, **options):
    """Keras's own network, by its own constructor, for images of that side or the usual one."""
    spec = zoo.spec(name)
    if "alpha" in spec.options:
        options["alpha"] = spec.options["alpha"]
    side = side or spec.input_shape[0]
    return constructor(name)(classifier_activation=None, input_shape=(side, side, 3), **options)


def keras_pixels(name, images):
    """What Keras tells its users to do with pixels before they call the network."""
    module = importlib.import_module(constructor(name).__module__)
    return module.preprocess_input(images.astype("float32"))


def photos(side, count=2):
    """Smooth noise, whose statistics differ from image to image, in [0, 255]."""
    coarse = np.random.default_rng(0).uniform(0, 255, (count, 6, 6, 3)).astype("float32")
    return np.stack(
        [keras.ops.convert_to_numpy(keras.ops.image.resize(x, (side, side))) for x in coarse]
    )


def train(model, images):
    """Gives a network what training gives it: weights that differ, statistics that are its own.

    Without them the logits of a deep random network are near nought whatever the image.
    """
    random = np.random.default_rng(1)
    for layer in graphs.leaf_layers(model):
        if isinstance(layer, keras.layers.Normalization):
            if layer.weights:  # EfficientNet's, with what Keras's files hold
                values = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], 1
                layer.set_weights([np.array(value) for value in values])
                layer.finalize_state()
            continue
        layer.momentum = 0.0  # normalisation then keeps the statistics of this batch alone
        for weight in layer.weights:
            if len(weight.shape) == 1:
                low, high = (0.5, 1.5) if "gamma" in weight.path else (-0.3, 0.3)
                weight.assign(random.uniform(low, high, weight.shape))
    model(images, training=True)


def answers(model, images):
    return keras.ops.convert_to_numpy(model(images, training=False))


def held(model):
    """A model's values by layer; the weights of layers that nobody named too."""
    return {layer.name: layer.get_weights() for layer in graphs.leaf_layers(model) if layer.weights}


@pytest.fixture
def downloads(monkeypatch):
    """What Keras asks to download, a list of `(url, digest)`; it gets nothing, and goes on."""
    asked = []

    def get_file(fname, origin, cache_subdir, file_hash=None):
        asked.append((origin, file_hash or ""))

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    monkeypatch.setattr(keras.Model, "load_weights", lambda model, path: None)
    return asked


def test_table_and_zoo_cover_keras_applications():
    theirs = {name for name, value in vars(applications).items() if inspect.isfunction(value)}
    ours = {zoo.spec(name).options["constructor"] for name in NAMES}
    assert len(theirs) == 40
    assert ours | set(OWN.values()) == theirs
    assert not ours & set(OWN.values())
    assert set(OWN) <= set(zoo.names())
    assert all(f"{name}.imagenet" in zoo.names() for name in [*NAMES, *OWN])


@pytest.mark.parametrize("name", NAMES)
def test_smallest_size_is_the_one_that_keras_states(name):
    least = zoo.spec(name).min_size
    with pytest.raises(ValueError, match=f"{least}x{least}"):
        keras_model(name, least - 1, weights=None, include_top=False)


@pytest.mark.parametrize("name", some(*PIXELS))
def test_logits_are_those_of_keras_with_its_imagenet_weights(name, tmp_path, downloads):
    spec = zoo.spec(f"{name}.imagenet")
    # With other random weights rounding alone can come to 3e-4 in EfficientNet-B7, the deepest.
    keras.utils.set_random_seed(0)
    theirs = keras_model(name, weights="imagenet")
    assert downloads == [(spec.weights.source, spec.weights.digest)]

    images = photos(spec.input_shape[0])
    train(theirs, keras_pixels(name, images))
    theirs.save_weights(tmp_path / "whole.weights.h5")
    expected = answers(theirs, keras_pixels(name, images))
    spread = np.abs(expected[0] - expected[1]).max()
    assert spread > 0.01, "the images cannot be told apart"

    ours = zoo.build(f"{name}.imagenet", weights=tmp_path / "whole.weights.h5")
    bound = 1e-4 * min(1, 10 * spread)
    np.testing.assert_allclose(answers(ours, images), expected, rtol=0, atol=bound)
    assert ours.layers[-1].name == "logits"


@pytest.mark.parametrize("name", some("mobilenet_v2"))
def test_headless_file_is_the_one_that_keras_asks_for(name, downloads):
    with keras.StatelessScope(initialize_variables=False):
        keras_model(name, weights="imagenet", include_top=False)
    facts = zoo.spec(f"{name}.imagenet").weights
    # The last features of MobileNetV3 come from a layer that its headless file lacks.
    assert facts.headless == (None if name.startswith("mobilenet_v3") else downloads[0])


@pytest.mark.parametrize("name", some("mobilenet_025", NESTED))
def test_every_file_fills_every_layer(name, tmp_path):
    side = zoo.spec(name).min_size
    source = keras_model(name, side, weights=None)
    train(source, photos(side))
    files = tmp_path / "now.weights.h5", tmp_path / "old.h5"
    source.save_weights(files[0])
    source.save(files[1])
    values = [value for layer in graphs.leaf_layers(source) for value in layer.get_weights()]
    shape = {"input_shape": (side, side, 3)}
    for file in files:
        whole = zoo.build(f"{name}.imagenet", weights=file, **shape)
        mine = held(whole)
        same_values = [value for arrays in mine.values() for value in arrays]
        for value, same in zip(values, same_values, strict=True):
            np.testing.assert_array_equal(value.reshape(same.shape), same)
    for part in (
        zoo.backbone(f"{name}.imagenet", weights=file, **shape),
        zoo.build(f"{name}.imagenet", weights=file, num_classes=7, **shape),
    ):
        for layer, arrays in held(part).items():
            if layer != "logits":
                for value, same in zip(arrays, mine[layer], strict=True):
                    np.testing.assert_array_equal(value, same)


@pytest.mark.parametrize("name", some("mobilenet_v3_small"))
def test_names_are_keras_own_whatever_was_built_before(name):
    with keras.StatelessScope(initialize_variables=False):
        theirs = keras_model(name, weights=None)
        ours = zoo.build(name)
    expected = [layer.name for layer in graphs.leaf_layers(theirs) if layer.weights]
    assert [layer.name for layer in graphs.leaf_layers(ours) if layer.weights][:-1] == expected[:-1]


def test_fresh_head_keeps_the_features_that_were_trained():
    model = zoo.build("mobilenet_v3_small.imagenet", weights="random", num_classes=5)
    assert model.get_layer("conv_2").output.shape == (None, 1, 1, 1024)
    assert model.get_layer("dropout").rate == 0.2
    assert model.output.shape == (None, 5)


@pytest.mark.parametrize(("given", "rate"), [({}, 1e-3), ({"dropout": 0.5}, 0.5)])
def test_dropout_is_that_of_the_network_unless_told(given, rate):
    assert zoo.build("mobilenet_025", num_classes=5, **given).get_layer("dropout").rate == rate


def test_no_dropout_is_no_layer():
    model = zoo.build("mobilenet_025", num_classes=5, dropout=0.0)
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
def test_stages_close_where_segmentation_networks_tap(name):
    with keras.StatelessScope(initialize_variables=False):
        taps = zoo.backbone(name).output.values()
    assert [tensor._keras_history.operation.name for tensor in taps] == TAPS[name]


@pytest.mark.parametrize("name", some("mobilenet_v3_large", "nasnet_mobile"))
def test_odd_sizes_will_do(name):
    with keras.StatelessScope(initialize_variables=False):
        last = zoo.backbone(name, input_shape=(97, 131, 3)).output["stage5"]
    assert 1 <= last.shape[1] < last.shape[2] <= 5


def test_channels_that_a_network_cannot_take_are_an_error_of_one_line():
    with pytest.raises(UsageError, match="ConvNeXtTiny takes RGB images; got 1 channels"):
        zoo.build("convnext_tiny", input_shape=(64, 64, 1))


def test_unknown_size_is_an_error_where_keras_would_build_nonsense():
    with pytest.raises(UsageError, match="NASNetMobile must know the height and width"):
        zoo.build("nasnet_mobile", input_shape=(None, None, 3))


def test_class_names_stand_in_label_order():
    names = zoo.class_names("imagenet")
    assert len(names) == len(set(names)) == 1000
    assert (names[285], names[967]) == ("Egyptian cat", "espresso")
    assert (names[134], names[517]) == ("crane (bird)", "crane (machine)")
    assert zoo.class_names("cifar10")[3] == "cat"


@pytest.mark.parametrize(
    ("photo", "label"), [("chelsea.png", "Egyptian cat"), ("coffee.png", "espresso")]
)
def test_mobilenet_knows_what_is_in_a_photo(photo, label, zoo_data):
    file = zoo_data / "weights" / "mobilenet_025_imagenet.weights.h5"
    model = zoo.build("mobilenet_025.imagenet", weights=file)
    with Image.open(zoo_data / "photos" / photo) as image:
        pixels = np.asarray(image.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC))
    order = np.argsort(answers(model, pixels[None])[0])
    assert label in [zoo.class_names("imagenet")[index] for index in order[-5:]]
