"""Samples of a generator that is served."""

from __future__ import annotations

import base64
import io

import keras
import numpy as np
import pytest
from PIL import Image

import zoo
from tasks.gan import sampling
from tasks.serve.served_generator import SampleRequest, ServedGenerator, is_generator
from zoo import model_files

pytestmark = pytest.mark.shared_fixtures("path", "served")
CLASSES = ["disc", "ring", "star"]
SIZE = {"input_shape": (8,), "width": 4, "image_size": 16, "channels": 1, "num_classes": 3}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The file of a small class-conditional generator."""
    keras.utils.set_random_seed(3)
    path = tmp_path_factory.mktemp("gan") / "gan.keras"
    model = zoo.build("dcgan_generator", weights="random", **SIZE)
    for variable in model.trainable_variables:  # larger weights: other latents, other images
        variable.assign(10 * variable)
    model_files.save(model, path, {"task": "gan", "classes": CLASSES})
    return path


@pytest.fixture(scope="module")
def served(path):
    """The generator with its queue."""
    served = ServedGenerator(str(path), "gan", queue_size=2, observe=lambda size: None)
    yield served
    served.batcher.close()


def images(served, **request):
    (found,) = served.batcher.submit([SampleRequest(**request)])
    decoded = (base64.b64decode(url.partition(",")[2]) for url in found.result())
    return [np.asarray(Image.open(io.BytesIO(content))) for content in decoded]


def test_samples_are_those_of_the_generator_on_the_arc(path, served):
    generator = sampling.load_generator(path).generator
    ends = [sampling.sample_latents(1, 8, seed)[0] for seed in (5, 7)]
    latent = sampling.slerp(*ends, 4)
    expected = sampling.generate(generator, latent.astype("float32"), np.full(4, 2))
    found = images(served, first=5, second=7, label=2, steps=4)
    np.testing.assert_array_equal(np.stack(found), expected[..., 0])
    assert (found[0] != found[-1]).any()


def test_the_same_seeds_give_the_same_ends(served):
    one = images(served, first=5, second=7, steps=2)
    other = images(served, first=7, second=5, steps=2)
    np.testing.assert_array_equal(one[0], other[1])
    np.testing.assert_array_equal(one[1], other[0])


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({}, ""),
        ({"label": 3}, "label must be from 0 to 2, not 3"),
        ({"first": -1}, "first must be from 0"),
        ({"second": 2**32}, "second must be from 0"),
        ({"steps": 1}, "steps must be from 2 to 64, not 1"),
    ],
)
def test_requests_are_checked(served, request_, reason):
    found = served.check(SampleRequest(**request_))
    assert found.startswith(reason)
    assert bool(found) == bool(reason)


def test_generators_are_found_by_their_metadata(path):
    assert is_generator(str(path))
    assert not is_generator("resnet20.cifar10")


def test_a_description_lists_the_classes(served):
    about = served.describe()
    assert (about["classes"], about["generates"], about["runtime"]) == (CLASSES, True, "keras")
