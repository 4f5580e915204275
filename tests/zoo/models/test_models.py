"""The contract of a model, tested for every name in the zoo.

A new family is tested as soon as it registers, and needs a file of its own only for what is
peculiar to it. `make test` covers the specs of all names and the smallest network of each family;
`make check` builds all networks without weights and runs the smallest ones at full width; `--slow`
runs all of them.
"""

from __future__ import annotations

import hashlib
import math
import re

import keras
import numpy as np
import pytest

import zoo
from tests.support import checks
from tests.support.networks import EAGER, outline
from zoo import weights
from zoo.errors import UsageError
from zoo.flops import count_params_and_flops
from zoo.parts import blocks

CLASSES = 7
DEEP = ("nasnet_mobile",)  # of a thousand layers
# JAX takes most of a minute to compile the gradients of so many layers.
SLOW_GRADIENTS = DEEP if EAGER else ("densenet121", "inception_v3", *DEEP)
CLASSIFIERS = zoo.names(kind="classifier", weights=False)
# Keras downloads these without verifying them: it publishes no digest.
NO_DIGEST = ("mobilenet", "mobilenet_075", "mobilenet_050", "mobilenet_025", "mobilenet_v2")
APPLICATIONS = {
    zoo.spec(name).family
    for name in CLASSIFIERS
    if zoo.spec(name).builder.__module__ == "zoo.models.applications"
}
# The families of keras.applications share one builder. `make test` builds two of them without
# weights (the stages of ConvNeXt begin with stage2) and runs the smaller one.
FAST_APPLICATIONS = {"mobilenet", "convnext"}
# `make check` runs those that are large, or that JAX takes long to compile.
LARGE = {"convnext_tiny", "googlenet"}
if not EAGER:
    LARGE |= {"alexnet_paper", "mobilenet_025", "nin", "squeezenet_v1_1", "vgg11"}
WITH_STAGES = [name for name in CLASSIFIERS if zoo.spec(name).stages]
SMALL = {  # options that shrink the smallest network of a family
    "alexnet_paper": {"widths": (8, 8, 12, 12, 8), "hidden": (16,)},
    "resnet20": {"depths": (1, 1, 1)},
    "resnet20_v2": {"depths": (1, 1, 1)},
    "vgg11": {"widths": (8, 8, 16, 16, 16), "hidden": (16,)},
    "vit_tiny": {"depth": 2},
}


def smallest_of_each_family(names):
    found = {}
    for name in sorted(names, key=lambda name: zoo.spec(name).parameters):
        found.setdefault(zoo.spec(name).family, name)
    return found


SMALLEST = smallest_of_each_family(CLASSIFIERS)
FAST = {
    name
    for family, name in smallest_of_each_family(zoo.names(weights=False)).items()
    if family not in APPLICATIONS - FAST_APPLICATIONS
}
FAST |= {name for family, name in SMALLEST.items() if family in FAST_APPLICATIONS}


def some(names, others=pytest.mark.check, smallest=()):
    """Returns all names as parameters, the smallest of each family and the others with marks."""
    return [pytest.param(x, marks=smallest if x in FAST else others) for x in names]


def distinct():
    """Returns the names without tags that are built as their architecture is."""
    found = {}
    for name in zoo.names():
        spec = zoo.spec(name)
        found.setdefault((spec.architecture, spec.input_shape, spec.num_classes), name)
    return list(found.values())


def samples(slow=DEEP):
    """Returns every architecture with options, as parameters.

    The smallest of each family is shrunk by `SMALL`, and marked check at full width. The other
    networks, and those in `slow`, are marked slow.
    """
    found = []
    for name in CLASSIFIERS:
        group = pytest.mark.xdist_group(f"model_{name}")  # which share a `sample`
        mark = pytest.mark.check
        if name not in SMALLEST.values() or name in slow:
            mark = pytest.mark.slow
        elif name in SMALL:
            marks = (group, mark) if name in LARGE else (group,)
            found.append(pytest.param((name, SMALL[name]), marks=marks, id=f"{name}-small"))
        marks = (group,) if name in FAST - LARGE and name not in SMALL else (group, mark)
        found.append(pytest.param((name, {}), marks=marks, id=name))
    return found


def square(name, side):
    return (side, side, zoo.spec(name).input_shape[-1])


@pytest.mark.parametrize("name", zoo.names())
def test_spec_is_complete_before_building(name):
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
def test_tag_states_source_digest_licence_and_figures(name):
    facts = zoo.spec(name).weights
    files = [(facts.source, facts.digest), *([facts.headless] if facts.headless else [])]
    for source, digest in files:
        if source.startswith("asset:"):
            content = (weights.ASSETS / source.removeprefix("asset:")).read_bytes()
            assert digest == hashlib.sha256(content).hexdigest()
        elif source:
            published = zoo.spec(name).architecture not in NO_DIGEST
            pattern = "[0-9a-f]{8}|[0-9a-f]{32}|[0-9a-f]{64}"
            assert bool(re.fullmatch(pattern, digest)) == published
    assert len({source for source, _ in files}) == len(files)
    assert facts.licence
    assert facts.protocol or not facts.figures
    assert all(0 < figure < 1 for figure in facts.figures.values())
    assert facts.resize in ("stretch", "crop")
    if facts.classes:
        assert len(zoo.class_names(facts.classes)) == facts.num_classes


@pytest.mark.backend
@pytest.mark.parametrize("name", some(distinct()))
def test_counts_are_those_of_the_built_model(name):
    spec = zoo.spec(name)
    model = outline(name)
    assert count_params_and_flops(model) == (spec.parameters, spec.flops)
    assert model.inputs[0].shape == (None, *spec.input_shape)
    assert model.name == name


@pytest.mark.parametrize("name", some(CLASSIFIERS, pytest.mark.slow))
def test_logits_are_float32_with_one_column_per_class(name):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = outline(name, num_classes=CLASSES, input_shape=square(name, zoo.spec(name).min_size))
    assert model.output.shape == (None, CLASSES)
    assert model.output.dtype == "float32"
    assert model.name == name


@pytest.mark.parametrize("name", some(WITH_STAGES, pytest.mark.slow))
def test_stages_have_about_the_strides_of_their_names(name):
    spec = zoo.spec(name)
    size = max(224, spec.input_shape[0])  # margins that convolutions cut off hardly count
    stages = outline(name, zoo.backbone, input_shape=square(name, size)).output
    assert tuple(stages) == spec.stages
    for stage, x in stages.items():
        for side in x.shape[1:3]:
            assert f"stage{math.log2(size / side):.0f}" == stage


@pytest.mark.parametrize("name", some(WITH_STAGES, pytest.mark.slow, pytest.mark.check))
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
    min_size = zoo.spec(name).min_size
    if min_size == 1:
        pytest.skip("no image is smaller than a pixel")
    with pytest.raises(UsageError, match=f"{name} needs images of {min_size} x {min_size} pixels"):
        zoo.build(name, input_shape=square(name, min_size - 1))


@pytest.mark.parametrize("name", some(CLASSIFIERS))
def test_smaller_images_than_the_smallest_size_cannot_be_built(name):
    """One pixel less cannot be built, or is less than the stride of the last stage.

    The smallest sizes of `keras.applications` are compared with Keras in `test_applications.py`.
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
    assert any(min(x.shape[1:]) < 1 for x in endpoints.values()), "a smaller image can be built"


@pytest.fixture(scope="module", params=samples())
def sample(request):
    """A model at about its smallest size, with images and logits; built once for all tests."""
    name, options = request.param
    keras.utils.set_random_seed(0)
    shape = square(name, max(32, zoo.spec(name).min_size))
    model = zoo.build(name, input_shape=shape, num_classes=CLASSES, **options)
    model.run_eagerly = EAGER
    images = np.random.default_rng(0).integers(0, 256, (4, *shape), dtype="uint8")
    yield model, images, model.predict(images, verbose=0)
    keras.utils.clear_session()


@pytest.mark.backend
def test_logits_are_finite_and_depend_on_the_image(sample):
    _, _, logits = sample
    assert np.isfinite(logits).all()
    assert (logits[0] != logits[1]).any()


def test_integer_and_float_pixels_give_the_same_logits(sample):
    model, images, logits = sample
    again = model.predict(images.astype("float32"), verbose=0)
    np.testing.assert_allclose(again, logits, rtol=1e-4, atol=1e-4 * np.abs(logits).max())


@pytest.mark.check
def test_saved_model_predicts_the_same_in_a_process_without_the_builders(sample, reader):
    model, images, logits = sample
    np.testing.assert_array_equal(reader(model, images), logits)


@pytest.mark.backend
@pytest.mark.parametrize("sample", samples(SLOW_GRADIENTS), indirect=True)
def test_a_gradient_reaches_every_weight(sample):
    model, images, _ = sample
    targets = np.ones((len(images), CLASSES))
    checks.assert_all_learn(model, images, targets, "mse", run_eagerly=EAGER)
