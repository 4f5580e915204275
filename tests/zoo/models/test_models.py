"""The contract of a model: what every name in the zoo must do.

A new family is tested by existing. It joins these tests the moment it registers, and needs a
file of its own only for what is peculiar to it. What can be known without weights is tested for
every architecture; running, training and saving for the smallest of each family, and for all
of them with `--slow`.
"""

from __future__ import annotations

import hashlib
import math
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

import zoo
from tests.support import checks
from tests.support.paths import ROOT
from zoo import weights
from zoo.errors import UsageError
from zoo.flops import count_params_and_flops
from zoo.parts import blocks

CLASSES = 7
EAGERLY = keras.config.backend() == "tensorflow"  # where tracing a graph costs more than running
# Of so many layers that a backend which compiles their gradients takes most of a minute.
DEEP = () if EAGERLY else ("densenet121", "inception_v3", "nasnet_mobile")
CLASSIFIERS = zoo.names(kind="classifier", weights=False)
# Keras downloads these without verifying them: it publishes no digest.
NO_DIGEST = ("mobilenet", "mobilenet_075", "mobilenet_050", "mobilenet_025", "mobilenet_v2")
APPLICATIONS = {
    zoo.spec(name).family
    for name in CLASSIFIERS
    if zoo.spec(name).builder.__module__ == "zoo.models.applications"
}
WITH_STAGES = [name for name in CLASSIFIERS if zoo.spec(name).stages]


def distinct():
    """Names less the tags that are built as their architecture is: they cannot differ from it."""
    found = {}
    for name in zoo.names():
        spec = zoo.spec(name)
        found.setdefault((spec.architecture, spec.input_shape, spec.num_classes), name)
    return list(found.values())


def samples(others=()):
    """Every architecture; slow: all but the smallest of each family, and the others named."""
    smallest = {}
    for name in sorted(CLASSIFIERS, key=lambda name: zoo.spec(name).parameters or 0):
        smallest.setdefault(zoo.spec(name).family, name)
    fast = set(smallest.values()) - set(others)
    slow = {name: pytest.mark.slow for name in CLASSIFIERS if name not in fast}
    return [pytest.param(name, marks=slow.get(name, ())) for name in CLASSIFIERS]


def outline(name, make=zoo.build, **options):
    """Builds a model whose weights have shapes and no values: a tenth of the time, no memory."""
    with keras.StatelessScope(initialize_variables=False):
        return make(name, **options, weights="random")


def square(name, side):
    return (side, side, zoo.spec(name).input_shape[-1])


@pytest.mark.parametrize("name", zoo.names())
def test_spec_says_what_is_known_before_building(name):
    spec = zoo.spec(name)
    assert spec.name == name
    assert spec.paper.startswith("https://")
    assert spec.builder.__doc__
    assert spec.preprocessing in blocks.PREPROCESSING
    assert 1 <= spec.min_size <= min(spec.input_shape[:-1], default=1)  # of a vector: 1
    assert all(re.fullmatch(r"stage\d", stage) for stage in spec.stages)
    assert list(spec.stages) == sorted(spec.stages)
    assert spec.parameters > 0
    assert spec.flops > 0


@pytest.mark.parametrize("name", zoo.names(weights=True))
def test_tag_says_where_its_weights_are_from(name):
    facts = zoo.spec(name).weights
    files = [(facts.source, facts.digest), *([facts.headless] if facts.headless else [])]
    for source, digest in files:
        if source.startswith("asset:"):
            content = (weights.ASSETS / source.removeprefix("asset:")).read_bytes()
            assert digest == hashlib.sha256(content).hexdigest()
        elif source:
            known = zoo.spec(name).architecture not in NO_DIGEST
            assert bool(re.fullmatch("[0-9a-f]{8}|[0-9a-f]{32}|[0-9a-f]{64}", digest)) == known
    assert len({source for source, _ in files}) == len(files)
    assert facts.licence
    assert facts.protocol or not facts.figures
    assert all(0 < figure < 1 for figure in facts.figures.values())
    assert facts.resize in ("stretch", "crop")
    if facts.classes:
        assert len(zoo.class_names(facts.classes)) == facts.num_classes


@pytest.mark.parametrize("name", distinct())
def test_counts_are_those_of_the_built_model(name):
    spec = zoo.spec(name)
    model = outline(name)
    assert count_params_and_flops(model) == (spec.parameters, spec.flops)
    assert model.inputs[0].shape == (None, *spec.input_shape)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_logits_are_float32_with_one_column_per_class(name):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = outline(name, num_classes=CLASSES, input_shape=square(name, zoo.spec(name).min_size))
    assert model.output.shape == (None, CLASSES)
    assert model.output.dtype == "float32"
    assert model.name == name


@pytest.mark.parametrize("name", WITH_STAGES)
def test_stages_have_the_strides_of_their_names(name):
    spec = zoo.spec(name)
    sides = spec.min_size, spec.min_size + 64
    small, large = (
        outline(name, zoo.backbone, input_shape=square(name, side)).output for side in sides
    )
    assert tuple(small) == tuple(large) == spec.stages
    for stage in spec.stages:
        stride = 2 ** int(stage.removeprefix("stage"))
        for axis in (1, 2):
            less, more = small[stage].shape[axis], large[stage].shape[axis]
            assert more - less == 64 / stride, f"{stage} has another stride"
            assert less <= math.ceil(spec.min_size / stride), f"{stage} is padded"


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_too_small_an_image_is_refused(name):
    least = zoo.spec(name).min_size
    if least == 1:
        pytest.skip("no image is smaller than a pixel")
    with pytest.raises(UsageError, match=f"{name} needs images of {least} x {least} pixels"):
        zoo.build(name, input_shape=square(name, least - 1))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_smallest_size_is_found_by_building(name):
    """One pixel less cannot be built, or is less than the stride of the last stage.

    What Keras refuses in `keras.applications` is held against Keras in `test_applications.py`.
    """
    spec = zoo.spec(name)
    deepest = max((int(stage.removeprefix("stage")) for stage in spec.stages), default=0)
    if spec.min_size <= 2**deepest or spec.family in APPLICATIONS:
        return
    try:
        with keras.StatelessScope(initialize_variables=False):
            image = keras.Input(square(name, spec.min_size - 1))
            endpoints = spec.builder(image, **spec.options)
    except (ValueError, UsageError):
        return
    assert any(min(x.shape[1:]) < 1 for x in endpoints.values()), "a smaller image would do"


@pytest.fixture(scope="module", params=samples())
def sample(request):
    """A model at about its smallest size, with images; each is built once for all tests below."""
    name = request.param
    keras.utils.set_random_seed(0)
    shape = square(name, max(32, zoo.spec(name).min_size))
    model = zoo.build(name, input_shape=shape, num_classes=CLASSES)
    model.run_eagerly = EAGERLY
    yield model, np.random.default_rng(0).integers(0, 256, (4, *shape), dtype="uint8")
    keras.utils.clear_session()


def test_logits_are_finite_and_depend_on_the_image(sample):
    model, images = sample
    logits = model.predict(images, verbose=0)
    assert np.isfinite(logits).all()
    assert (logits[0] != logits[1]).any()


def test_bytes_and_floats_give_the_same_logits(sample):
    model, images = sample
    logits = model.predict(images, verbose=0)
    again = model.predict(images.astype("float32"), verbose=0)
    np.testing.assert_allclose(again, logits, rtol=1e-4, atol=1e-4 * np.abs(logits).max())


def test_saved_model_answers_the_same_in_a_process_without_the_zoo(sample, reader, tmp_path):
    model, images = sample
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    np.testing.assert_array_equal(reader(tmp_path), model.predict(images, verbose=0))


@pytest.mark.parametrize("sample", samples(DEEP), indirect=True)
def test_a_gradient_reaches_every_weight(sample):
    model, images = sample
    checks.assert_all_learn(
        model, images, np.ones((len(images), CLASSES)), "mse", run_eagerly=EAGERLY
    )


READER = f"""
import pathlib, sys
import keras, numpy
import zoo.layers

for line in sys.stdin:
    folder = pathlib.Path(line.strip())
    model = keras.saving.load_model(folder / "model.keras")
    model.run_eagerly = {EAGERLY}
    answers = model.predict(numpy.load(folder / "images.npy"), verbose=0)
    numpy.save(folder / "answers.npy", answers)
    assert "zoo.models" not in sys.modules
    print("done", flush=True)
"""


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A process that knows Keras and the zoo's layers; answers with the model in a folder."""
    log = tmp_path_factory.mktemp("reader") / "log"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [sys.executable, "-c", READER],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):

        def read(folder):
            process.stdin.write(f"{folder}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n", log.read_text()[-2000:]
            return np.load(folder / "answers.npy")

        yield read
        process.stdin.close()
