"""Classifiers with several inputs, of which the image is explained."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from PIL import Image

from scripts.__main__ import main
from tasks.explain import fixed_inputs, methods
from zoo.errors import UsageError

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 255, (3, 16, 16, 3)).astype("float32")
AGE, SITE = np.float32(0.7), np.array([0, 2], "int32")


def classifier(order=("photo", "age", "site"), as_dict=False):
    """Returns a classifier of an image, a number, and two integers of which one is embedded."""
    keras.utils.set_random_seed(0)
    inputs = {
        "photo": keras.Input((16, 16, 3), name="photo"),
        "age": keras.Input((1,), name="age"),
        "site": keras.Input((2,), dtype="int32", name="site"),
    }
    x = keras.layers.Conv2D(6, 3, padding="same", activation="relu")(inputs["photo"] / 255)
    x = keras.layers.Conv2D(6, 3, strides=2, padding="same", activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    site = keras.layers.Flatten()(keras.layers.Embedding(3, 4)(inputs["site"]))
    x = keras.layers.Concatenate()([x, inputs["age"], site])
    logits = keras.layers.Dense(4)(x)
    return keras.Model(inputs if as_dict else [inputs[name] for name in order], logits)


@pytest.mark.parametrize("order", [("photo", "age", "site"), ("site", "photo", "age")])
@pytest.mark.parametrize("as_dict", [False, True])
def test_outputs_are_those_of_the_model_with_the_values(order, as_dict):
    model = classifier(order, as_dict)
    fixed = fixed_inputs.fix_inputs(model, {"age": AGE, "site": SITE})
    given = {"photo": IMAGES, "age": np.full((3, 1), AGE), "site": np.tile(SITE, (3, 1))}
    expected = model(given if as_dict else [given[name] for name in order])
    np.testing.assert_allclose(fixed(IMAGES), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["grad_cam", "integrated_gradients", "occlusion"])
def test_maps_depend_on_the_image_and_not_on_the_constants(name):
    """The other inputs are added to the logits, so that they change no gradient by the image."""
    maps = [
        methods.METHODS[name](
            methods.prepare(fixed_inputs.fix_inputs(classifier(), {"age": age, "site": SITE})),
            IMAGES,
            [0, 1, 2],
        )
        for age in (0.0, 5.0)
    ]
    assert (maps[0].std((1, 2)) > 0).any()
    np.testing.assert_allclose(*maps, rtol=1e-3, atol=1e-4)


def test_a_model_of_one_input_stays_as_it_is():
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten()])
    assert fixed_inputs.fix_inputs(model, {}) is model


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"inputs photo .*, age .*, site .*; an image can .*: --input age=0.5"),
        ({"age": 1}, "has the inputs .*: --input site=0.5"),
        ({"age": 1, "site": SITE, "weight": 1}, "no input .*'weight'|weight"),
        ({"age": 1, "site": np.zeros(3)}, r"site takes values of shape \(2,\), not \(3,\)"),
        ({"age": 1, "site": 1, "photo": 1}, "has the inputs"),
    ],
)
def test_wrong_values_are_refused(values, message):
    with pytest.raises(UsageError, match=message):
        fixed_inputs.fix_inputs(classifier(), values)


def test_values_are_parsed(tmp_path):
    path = tmp_path / "site.npy"
    np.save(path, SITE)
    found = fixed_inputs.parse_inputs(["age=0.5", f"site={path}", "x=1,2"])
    assert {name: value.tolist() for name, value in found.items()} == {
        "age": [0.5],
        "site": [0, 2],
        "x": [1, 2],
    }
    for text in ("age", "age=", "=1", "age=old", "age=missing.npy"):
        with pytest.raises(UsageError, match="expected NAME=NUMBER"):
            fixed_inputs.parse_inputs([text])


def test_the_command_explains_the_image(tmp_path, capsys):
    model, photo = tmp_path / "model.keras", tmp_path / "photo.png"
    classifier().save(model)
    Image.fromarray(IMAGES[0].astype("uint8")).save(photo)
    words = ["explain", str(model), str(photo), "--out", str(tmp_path / "maps")]
    assert main(words) == 1
    assert "--input age=0.5" in capsys.readouterr().err.replace("\n", " ")
    assert main([*words, "--input", "age=0.7", "--input", "site=0,2"]) == 0
    assert len([*(tmp_path / "maps").glob("photo-*.npy")]) == 1
