"""The contracts of a generator and of a critic, tested for every name of the kinds."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import zoo
from tests.support import checks
from tests.support.networks import EAGER, outline, run
from zoo import UsageError

GENERATORS, CRITICS = zoo.names(kind="generator"), zoo.names(kind="critic")
SMALL = {"width": 4}
CLASSES = 3
CONDITIONS = {
    "unconditional": {},
    "default condition": {"num_classes": CLASSES},
    "concatenated": {"num_classes": CLASSES, "condition": "concatenation"},
}
SIZES = [8, 28, 64, *(pytest.param(x, marks=pytest.mark.check) for x in (32, 48, 96, 128))]
NORMALIZATIONS = ("batch", "spectral", "layer", "none")


def inputs(model, count=4, seed=0):
    """Returns inputs of a model, a dict if it takes several."""
    random = np.random.default_rng(seed)
    found = {"label": np.arange(count, dtype="int32") % CLASSES}
    (first,) = (x for x in model.inputs if x.name != "label")
    shape = (count, *first.shape[1:])
    if first.name == "image":
        found["image"] = random.integers(0, 256, shape).astype("float32")
    else:
        found["latent"] = random.normal(size=shape).astype("float32")
    return found if len(model.inputs) > 1 else found[first.name]


def networks():
    """Yields options of a network of each name, condition and normalization."""
    for condition, options in CONDITIONS.items():
        for name in GENERATORS:
            yield pytest.param(name, {"image_size": 28, **options}, id=f"{name}, {condition}")
        for name in CRITICS:
            options = {"input_shape": (28, 28, 1), **options}
            yield pytest.param(name, options, id=f"{name}, {condition}")
    for normalization in NORMALIZATIONS[1:]:
        for name in CRITICS:
            options = {"input_shape": (28, 28, 1), "normalization": normalization}
            options["num_classes"] = CLASSES
            yield pytest.param(name, options, id=f"{name}, {normalization}")


# The contracts


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("size", SIZES)
def test_generators_output_images_of_any_valid_size(name, size):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = outline(name, image_size=size, channels=1)
    assert model.output.shape == (None, size, size, 1)
    assert model.output.dtype == "float32"
    assert model.name == name
    assert any(layer.compute_dtype == "bfloat16" for layer in model.layers)


@pytest.mark.parametrize("name", CRITICS)
@pytest.mark.parametrize("size", SIZES)
def test_critics_take_images_of_any_valid_size(name, size):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = outline(name, input_shape=(size, size, 1), normalization="spectral", width=8)
    assert model.output.shape == (None, 1)
    assert model.output.dtype == "float32"


@pytest.mark.parametrize("name", GENERATORS)
def test_generators_output_pixels(name):
    model = zoo.build(name, image_size=28, **SMALL)
    project = model.get_layer("project")
    project.kernel.assign(np.full(project.kernel.shape, 100.0))
    images = run(model, inputs(model, 8), training=True)
    assert images.min() >= 0
    assert images.max() <= 255
    assert images.std() > 1


@pytest.mark.parametrize("name", CRITICS)
def test_critics_take_pixels(name):
    """Integers and floats in [0, 255] give the same scores; the model scales them."""
    model = zoo.build(name, input_shape=(28, 28, 1), **SMALL)
    images = inputs(model)
    scores = run(model, images)
    np.testing.assert_allclose(run(model, images.astype("uint8")), scores, rtol=1e-5, atol=1e-6)
    inside = keras.Model(model.input, next(x for x in model.layers if x.weights).input)
    scaled = run(inside, np.array([0.0, 255.0]).reshape(2, 1, 1, 1) * np.ones((2, 28, 28, 1)))
    assert (scaled.min(), scaled.max()) == (-1, 1)


@pytest.mark.parametrize(("name", "options"), list(networks()))
def test_a_gradient_reaches_every_weight(name, options):
    keras.utils.set_random_seed(0)
    model = zoo.build(name, **options, **SMALL)
    target = np.random.default_rng(1).normal(size=(4, *model.output.shape[1:]))
    checks.assert_all_learn(model, inputs(model), target, "mse", run_eagerly=EAGER)


@pytest.mark.parametrize(("name", "options"), list(networks()))
def test_outputs_depend_on_the_label(name, options):
    if "num_classes" not in options:
        pytest.skip("is unconditional")
    model = zoo.build(name, **options, **SMALL)
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Embedding):
            table = layer.trainable_weights[0]
            table.assign(random.normal(size=table.shape))
    x = inputs(model)
    others = {**x, "label": (x["label"] + 1) % CLASSES}
    assert (run(model, x) != run(model, others)).reshape(4, -1).any(axis=1).all()


SAVED = [
    ("dcgan_generator", {"image_size": 28, "num_classes": CLASSES}),
    ("dcgan_generator", {"image_size": 32, "num_classes": CLASSES, "condition": "concatenation"}),
    ("dcgan_critic", {"input_shape": (28, 28, 1), "num_classes": CLASSES}),
    (
        "dcgan_critic",
        {"input_shape": (32, 32, 3), "normalization": "spectral", "num_classes": CLASSES},
    ),
]


@pytest.mark.xdist_group("reader")
@pytest.mark.parametrize(("name", "options"), SAVED)
@pytest.mark.check
def test_saved_model_predicts_the_same_in_a_process_without_the_builders(name, options, reader):
    model = zoo.build(name, **options, **SMALL)
    x = inputs(model)
    for _ in range(2):
        model(x, training=True)  # updates moving averages and singular vectors
    np.testing.assert_allclose(reader(model, x), run(model, x), rtol=1e-3, atol=1e-3)


# DCGAN


def test_dcgan_is_the_published_network():
    """Figure 1 of the paper: 4 x 4 x 1024, and each transposed convolution halves the channels."""
    model = outline("dcgan_generator")
    shapes = [model.get_layer(name).output.shape[1:] for name in ("maps", "up1", "up2", "up3")]
    assert shapes == [(4, 4, 1024), (8, 8, 512), (16, 16, 256), (32, 32, 128)]
    assert model.output.shape == (None, 64, 64, 3)
    ups = [x for x in model.layers if isinstance(x, keras.layers.Conv2DTranspose)]
    assert [(x.kernel_size, x.strides) for x in ups] == [((5, 5), (2, 2))] * 4
    critic = outline("dcgan_critic")
    shapes = [critic.get_layer(f"down{n}").output.shape[1:] for n in range(1, 5)]
    assert shapes == [(32, 32, 128), (16, 16, 256), (8, 8, 512), (4, 4, 1024)]
    kinds = [type(layer).__name__ for layer in critic.layers]
    assert kinds.count("BatchNormalization") == 3  # not after the first
    slopes = {x.negative_slope for x in critic.layers if isinstance(x, keras.layers.LeakyReLU)}
    assert slopes == {0.2}
    kernels = np.concatenate(
        [
            keras.ops.convert_to_numpy(x.kernel).reshape(-1)
            for x in zoo.build("dcgan_critic", **SMALL).layers
            if hasattr(x, "kernel")
        ]
    )
    assert kernels.std() == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize(
    ("size", "start", "steps"), [(28, 7, 2), (32, 4, 3), (48, 6, 3), (56, 7, 3), (80, 5, 4)]
)
def test_sizes_are_halved_down_to_four_to_seven_pixels(size, start, steps):
    model = outline("dcgan_generator", image_size=size)
    assert model.get_layer("maps").output.shape[1:3] == (start, start)
    assert len([x for x in model.layers if isinstance(x, keras.layers.Conv2DTranspose)]) == steps


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: zoo.build("dcgan_generator", image_size=30), "such as 28, 32.*got 30"),
        (lambda: zoo.build("dcgan_generator", image_size=7), "got 7"),
        (lambda: zoo.build("dcgan_critic", input_shape=(28, 32, 1)), "square images; got 28 x 32"),
        (lambda: zoo.build("dcgan_critic", input_shape=(4, 4, 1)), "8 x 8 pixels or more"),
        (lambda: zoo.build("dcgan_critic", normalization="bach"), "did you mean batch"),
        (lambda: zoo.build("dcgan_critic", condition="project"), "did you mean projection"),
        (lambda: zoo.build("dcgan_generator", condition="x"), "batch_norm, concatenation"),
        (lambda: zoo.build("dcgan_generator", num_classes=0), "must be an integer from 1"),
    ],
)
def test_invalid_options_are_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_projection_follows_its_equation():
    """score = w h + b + e_label h (Miyato and Koyama, 2018, equation 11)."""
    model = zoo.build("dcgan_critic", input_shape=(28, 28, 1), num_classes=CLASSES, **SMALL)
    x = inputs(model)
    maps = keras.Model(model.input, model.get_layer("flatten").output)
    h = run(maps, x)
    score, vectors = model.get_layer("score"), model.get_layer("label_vector")
    kernel, bias = (keras.ops.convert_to_numpy(w) for w in (score.kernel, score.bias))
    table = keras.ops.convert_to_numpy(vectors.embeddings)
    expected = h @ kernel[:, 0] + bias + (h * table[x["label"]]).sum(axis=1)
    np.testing.assert_allclose(run(model, x)[:, 0], expected, rtol=1e-4, atol=1e-6)
