"""The contracts of a generator and of a critic, what every name of the kinds must do."""

from __future__ import annotations

import subprocess
import sys

import keras
import numpy as np
import pytest

import zoo
from tests.support import checks
from tests.support.paths import ROOT
from zoo import UsageError, layers
from zoo.flops import count_params_and_flops

GENERATORS, CRITICS = zoo.names(kind="generator"), zoo.names(kind="critic")
EAGERLY = keras.config.backend() == "tensorflow"  # where tracing a graph costs more than running
SMALL = {"width": 4}
CLASSES = 3
TOLD = {
    "none": {},
    "by the paper": {"num_classes": CLASSES},
    "concatenated": {"num_classes": CLASSES, "condition": "concatenation"},
}
NORMALIZATIONS = ("batch", "spectral", "layer", "none")


def outline(name, **options):
    """Builds a model whose weights have shapes and no values."""
    with keras.StatelessScope(initialize_variables=False):
        return zoo.build(name, **options)


def run(model, x, **kwargs):
    return keras.ops.convert_to_numpy(model(x, **kwargs))


def given(model, count=4, seed=0):
    """Inputs of a model, a dict where it takes several."""
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
    """A small network of each name, told the class in each way, and with each normalisation."""
    for told, options in TOLD.items():
        for name in GENERATORS:
            yield pytest.param(name, {"image_size": 28, **options}, id=f"{name}, {told}")
        for name in CRITICS:
            options = {"input_shape": (28, 28, 1), **options}
            yield pytest.param(name, options, id=f"{name}, {told}")
    for normalization in NORMALIZATIONS[1:]:
        for name in CRITICS:
            options = {"input_shape": (28, 28, 1), "normalization": normalization}
            options["num_classes"] = CLASSES
            yield pytest.param(name, options, id=f"{name}, {normalization}")


# The contracts


@pytest.mark.parametrize("name", [*GENERATORS, *CRITICS])
def test_spec_knows_parameters_and_flops(name):
    assert count_params_and_flops(outline(name)) == (
        zoo.spec(name).parameters,
        zoo.spec(name).flops,
    )
    assert zoo.spec(name).parameters > 0


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("size", [8, 28, 32, 48, 64, 96, 128])
def test_generators_paint_any_size_that_they_say(name, size):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = outline(name, image_size=size, channels=1)
    assert model.output.shape == (None, size, size, 1)
    assert model.output.dtype == "float32"
    assert model.name == name
    assert any(layer.compute_dtype == "bfloat16" for layer in model.layers)


@pytest.mark.parametrize("name", CRITICS)
@pytest.mark.parametrize("size", [zoo.spec(name).min_size for name in CRITICS[:1]] + [28, 64, 128])
def test_critics_judge_any_size_that_they_say(name, size):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = outline(name, input_shape=(size, size, 1), normalization="spectral", width=8)
    assert model.output.shape == (None, 1)
    assert model.output.dtype == "float32"


@pytest.mark.parametrize("name", GENERATORS)
def test_images_are_pixels(name):
    model = zoo.build(name, image_size=28, **SMALL)
    project = model.get_layer("project")
    project.kernel.assign(np.full(project.kernel.shape, 100.0))
    images = run(model, given(model, 8), training=True)
    assert images.min() >= 0
    assert images.max() <= 255
    assert images.std() > 1


@pytest.mark.parametrize("name", CRITICS)
def test_critics_see_pixels(name):
    """Images of whole numbers and of floats in [0, 255] are the same; scaling is inside."""
    model = zoo.build(name, input_shape=(28, 28, 1), **SMALL)
    images = given(model)
    scores = run(model, images)
    np.testing.assert_allclose(run(model, images.astype("uint8")), scores, rtol=1e-5, atol=1e-6)
    inside = keras.Model(model.input, next(x for x in model.layers if x.weights).input)
    seen = run(inside, np.array([0.0, 255.0]).reshape(2, 1, 1, 1) * np.ones((2, 28, 28, 1)))
    assert (seen.min(), seen.max()) == (-1, 1)


@pytest.mark.parametrize(("name", "options"), list(networks()))
def test_a_gradient_reaches_every_weight(name, options):
    keras.utils.set_random_seed(0)
    model = zoo.build(name, **options, **SMALL)
    inputs = given(model)
    target = np.random.default_rng(1).normal(size=(4, *model.output.shape[1:]))
    checks.assert_all_learn(model, inputs, target, "mse", run_eagerly=EAGERLY)


@pytest.mark.parametrize(("name", "options"), list(networks()))
def test_what_is_told_matters(name, options):
    if "num_classes" not in options:
        pytest.skip("is told nothing")
    model = zoo.build(name, **options, **SMALL)
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Embedding):
            table = layer.trainable_weights[0]
            table.assign(random.normal(size=table.shape))
    inputs = given(model)
    others = {**inputs, "label": (inputs["label"] + 1) % CLASSES}
    assert (run(model, inputs) != run(model, others)).reshape(4, -1).any(axis=1).all()


def test_saved_models_are_read_by_a_process_without_the_zoo(tmp_path):
    for number, (name, options) in enumerate(
        [
            ("dcgan_generator", {"image_size": 28, "num_classes": CLASSES}),
            ("dcgan_generator", {"image_size": 32, "condition": "concatenation"}),
            ("dcgan_critic", {"input_shape": (28, 28, 1), "num_classes": CLASSES}),
            (
                "dcgan_critic",
                {"input_shape": (32, 32, 3), "normalization": "spectral", "num_classes": CLASSES},
            ),
        ]
    ):
        model = zoo.build(name, **options, **SMALL)
        for _ in range(2):
            model(given(model), training=True)  # so that what is estimated has moved
        inputs = given(model)
        named = inputs if isinstance(inputs, dict) else {"only": inputs}
        np.savez(tmp_path / f"{number}.npz", answer=run(model, inputs), **named)
        model.save(tmp_path / f"{number}.keras")
    code = (
        "import pathlib, sys, keras, numpy as np, zoo.layers\n"
        "for path in pathlib.Path(sys.argv[1]).glob('*.keras'):\n"
        "    model = keras.saving.load_model(path)\n"
        "    known = dict(np.load(path.with_suffix('.npz')))\n"
        "    answer, inputs = known.pop('answer'), known.get('only', known)\n"
        "    found = keras.ops.convert_to_numpy(model(inputs))\n"
        "    np.testing.assert_allclose(found, answer, rtol=1e-3, atol=1e-3)\n"
        "assert 'zoo.models' not in sys.modules\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


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
    assert kinds.count("BatchNormalization") == 3  # not behind the first
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
def test_a_side_is_halved_down_to_four_to_seven(size, start, steps):
    model = outline("dcgan_generator", image_size=size)
    assert model.get_layer("maps").output.shape[1:3] == (start, start)
    assert len([x for x in model.layers if isinstance(x, keras.layers.Conv2DTranspose)]) == steps


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda: zoo.build("dcgan_generator", image_size=30), "such as 28, 32.*not 30"),
        (lambda: zoo.build("dcgan_generator", image_size=7), "not 7"),
        (lambda: zoo.build("dcgan_critic", input_shape=(28, 32, 1)), "square images, not 28 x 32"),
        (lambda: zoo.build("dcgan_critic", input_shape=(4, 4, 1)), "8 x 8 pixels or more"),
        (lambda: zoo.build("dcgan_critic", normalization="bach"), "did you mean batch"),
        (lambda: zoo.build("dcgan_critic", condition="project"), "did you mean projection"),
        (lambda: zoo.build("dcgan_generator", condition="x"), "batch_norm, concatenation"),
        (lambda: zoo.build("dcgan_generator", num_classes=0), "must be an integer from 1"),
    ],
)
def test_what_cannot_be_is_said(make, wanted):
    with pytest.raises(UsageError, match=wanted):
        make()


def test_projection_is_the_formula():
    """score = w h + b + e_label h (Miyato and Koyama, 2018, equation 11)."""
    model = zoo.build("dcgan_critic", input_shape=(28, 28, 1), num_classes=CLASSES, **SMALL)
    inputs = given(model)
    maps = keras.Model(model.input, model.get_layer("flatten").output)
    h = run(maps, inputs)
    score, vectors = model.get_layer("score"), model.get_layer("label_vector")
    kernel, bias = (keras.ops.convert_to_numpy(w) for w in (score.kernel, score.bias))
    table = keras.ops.convert_to_numpy(vectors.embeddings)
    expected = h @ kernel[:, 0] + bias + (h * table[inputs["label"]]).sum(axis=1)
    np.testing.assert_allclose(run(model, inputs)[:, 0], expected, rtol=1e-4, atol=1e-6)


# Spectral normalisation


def made(kind):
    return {
        "conv": lambda: (layers.SpectralConv2D(6, 3, padding="same"), (2, 8, 8, 4)),
        "dense": lambda: (layers.SpectralDense(6), (2, 9)),
        "embedding": lambda: (layers.SpectralEmbedding(7, 5), None),
    }[kind]()


@pytest.mark.parametrize("kind", ["conv", "dense", "embedding"])
def test_spectral_weights_have_a_largest_singular_value_of_one(kind):
    layer, shape = made(kind)
    random = np.random.default_rng(0)
    x = np.array([0, 3]) if shape is None else random.normal(size=shape).astype("float32")
    layer.build(x.shape)
    weights = layer.trainable_weights[0]
    own = random.normal(size=weights.shape).astype("float32")
    weights.assign(own)
    for _ in range(60):
        layer(x, training=True)
    before = keras.ops.convert_to_numpy(layer.direction)
    answer = run(layer, x)
    assert (keras.ops.convert_to_numpy(layer.direction) == before).all()  # nothing at inference
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(weights), own)

    largest = np.linalg.svd(own.reshape(-1, own.shape[-1]))[1][0]
    used = layer.embeddings if kind == "embedding" else layer.kernel
    np.testing.assert_allclose(keras.ops.convert_to_numpy(used), own / largest, rtol=1e-4)
    plain = {
        "conv": keras.layers.Conv2D(6, 3, padding="same"),
        "dense": keras.layers.Dense(6),
        "embedding": keras.layers.Embedding(7, 5),
    }[kind]
    plain.build(x.shape)
    plain.trainable_weights[0].assign(own / largest)
    np.testing.assert_allclose(answer, run(plain, x), rtol=1e-4, atol=1e-5)


def test_the_gradient_is_that_of_weights_over_their_singular_value():
    """By differences: the paper's equation 12, which Keras's own wrapper leaves out."""
    if keras.config.backend() != "tensorflow":
        pytest.skip("takes a gradient of TensorFlow")
    import tensorflow as tf

    layer, _ = made("dense")
    x = np.random.default_rng(0).normal(size=(2, 9)).astype("float32")
    layer.build(x.shape)
    for _ in range(100):
        layer(x, training=True)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(layer(x) ** 2)
    found = tape.gradient(value, layer.trainable_weights[0]).numpy()
    own = layer.trainable_weights[0].numpy()

    def loss(weights):
        return ((x.astype("float64") @ (weights / np.linalg.svd(weights)[1][0])) ** 2).sum()

    for place in ((0, 0), (4, 3), (8, 5)):
        step = np.zeros(own.shape)
        step[place] = 1e-5
        slope = (loss(own.astype("float64") + step) - loss(own.astype("float64") - step)) / 2e-5
        assert found[place] == pytest.approx(slope, rel=1e-2, abs=1e-3)
