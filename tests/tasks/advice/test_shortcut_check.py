"""The check for shortcuts, on a network whose evidence is known: the colors of its pixels."""

from __future__ import annotations

import dataclasses
import json

import keras
import numpy as np
import pytest
from PIL import Image

from tasks.advice import doctor, object_masks, shortcut_check
from tasks.advice.findings import LOOK, CheckSkipped
from tasks.advice.model_predictions import ModelPredictions
from tasks.data import shapes
from tasks.data.dataset import Source
from zoo import model_files
from zoo.errors import UsageError

SIDE, COUNT = 20, 40
CLASSES = ("red", "green")


def network():
    """A classifier whose logits are the mean red and the mean green."""
    inputs = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Conv2D(2, 1, use_bias=False, name="colors")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(2, use_bias=False, name="logits")(x))
    model.set_weights([np.eye(3)[None, None, :, :2], np.eye(2)])
    return model


def sample(top, correct=COUNT):
    """Predictions on black images with a patch of the color of the class, `top` pixels down."""
    labels = np.arange(COUNT) % 2
    images = np.zeros((COUNT, SIDE, SIDE, 3), "uint8")
    images[np.arange(COUNT), top : top + 2, :2, labels] = 255
    images[np.arange(COUNT), top : top + 2, 2:, labels] = 255 * (top > 2)
    labels = np.where(np.arange(COUNT) < correct, labels, 1 - labels)
    return ModelPredictions(network(), images, labels, labels, CLASSES, CLASSES)


def test_evidence_at_the_border_is_a_finding():
    (found,) = shortcut_check.check_shortcut(sample(0))
    assert (found.name, found.severity) == ("shortcut", LOOK)
    assert "for 40 of 40 correct predictions more than 60%" in found.what
    assert "which is 36% of the image (median 100%)" in found.what


def test_evidence_inside_is_none():
    assert list(shortcut_check.check_shortcut(sample(9))) == []


def test_few_correct_predictions_are_not_enough():
    with pytest.raises(CheckSkipped, match="15 correct predictions; 16 are needed"):
        list(shortcut_check.check_shortcut(sample(0, correct=15)))


# Masks and boxes: images of a blue square, with a mark in the color of their class.

SQUARE, CORNER, BESIDE = slice(12, 17), slice(0, 2), slice(5, 8)  # rows and columns


@pytest.fixture
def photos(tmp_path):
    """Returns a function of the place of the mark that writes images, masks and boxes."""

    def write(mark):
        boxes = []
        for number in range(COUNT):
            label = number % 2
            image = np.zeros((SIDE, SIDE, 3), "uint8")
            image[..., 2] = np.random.default_rng(number).integers(0, 60, (SIDE, SIDE))
            image[SQUARE, SQUARE, 2] += 150
            image[mark, mark, label] = 255
            mask = np.zeros((SIDE, SIDE), "uint8")
            mask[SQUARE, SQUARE] = 1
            files = (
                (image, f"photos/test/{CLASSES[label]}/{number}.png"),
                (image[::-1], f"photos/train/{CLASSES[label]}/{number % 8}.png"),
                (image, f"cut/images/{number}.png"),
                (mask, f"cut/masks/{number}.png"),
            )
            for pixels, name in files:
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(tmp_path / name)
            boxes.append({"id": number, "image_id": number, "category_id": 1})
        coco = {
            "images": [
                {"id": n, "file_name": f"{n}.png", "width": SIDE, "height": SIDE}
                for n in range(COUNT)
            ],
            "annotations": [{**each, "bbox": [12, 12, 5, 5]} for each in boxes],
            "categories": [{"id": 1, "name": "square"}],
        }
        (tmp_path / "cut/images/boxes.json").write_text(json.dumps(coco))
        model_files.save(network(), tmp_path / "net.keras", {"classes": CLASSES})
        return tmp_path

    return write


def diagnose(folder, objects):
    found = doctor.diagnose(
        folder / "net.keras", str(folder / "photos"), images=COUNT, objects=objects
    )
    return {each.name: each for each in found.findings}, dict(found.unchecked), found.checked


@pytest.mark.parametrize(
    ("mark", "objects", "at_border"),
    [(CORNER, "cut", True), (BESIDE, "cut/images/boxes.json", False)],
)
def test_a_mark_beside_the_objects_is_a_finding(photos, mark, objects, at_border):
    folder = photos(mark)
    found, _, _ = diagnose(folder, str(folder / objects))
    finding = found["shortcut outside objects"]
    assert finding.severity == LOOK
    assert "for 40 of 40 correct predictions more than 60% of the heat" in finding.what
    assert ("shortcut" in found) == at_border  # the border alone misses the other


@pytest.mark.parametrize("objects", ["cut", "cut/images/boxes.json"])
def test_a_mark_on_the_objects_is_none(photos, objects):
    folder = photos(SQUARE)
    _, _, checked = diagnose(folder, str(folder / objects))
    assert {"shortcut", "shortcut outside objects"} <= set(checked)


@pytest.mark.parametrize(("outside", "found"), [(0, 0), (13, 0), (14, 1), (40, 1)])
def test_a_third_of_the_maps_outside_is_a_finding(outside, found, monkeypatch):
    maps = np.zeros((COUNT, 10, 10), "float32")
    maps[:, 7, 7], maps[:outside, 2, 2] = 1, 9
    mask = np.zeros((SIDE, SIDE), bool)
    mask[SQUARE, SQUARE] = True
    monkeypatch.setattr(shortcut_check, "_correct_maps", lambda _: (np.arange(COUNT), maps))
    monkeypatch.setattr(object_masks, "find", lambda *_: dict.fromkeys(range(COUNT), mask))
    source = Source("cut", (), {})
    assert len(list(shortcut_check.check_objects(None, source))) == found
    monkeypatch.setattr(object_masks, "find", lambda *_: dict.fromkeys(range(COUNT), mask | True))
    with pytest.raises(CheckSkipped, match="40 of 40 correct predictions have an object in cut, 0"):
        list(shortcut_check.check_objects(None, source))


def test_objects_of_other_images_are_not_compared(photos):
    folder = photos(CORNER)
    _, unchecked, _ = diagnose(folder, "")
    assert unchecked["shortcut outside objects"].startswith("no masks or boxes; pass")
    for path in (folder / "cut/images").glob("*.png"):
        Image.new("RGB", (SIDE, SIDE)).save(path)
    _, unchecked, _ = diagnose(folder, str(folder / "cut"))
    assert unchecked["shortcut outside objects"].startswith("0 of 40 correct predictions have an")
    with pytest.raises(UsageError, match=r"photos has no masks of objects \(.*\) and no boxes \("):
        diagnose(folder, str(folder / "photos"))


def test_objects_of_shapes_are_those_of_the_class():
    scenes = [shapes.draw("test", index) for index in range(8)]
    images = np.stack([scene.image for scene in scenes])
    labels = np.array([scene.label for scene in scenes])
    classes = tuple(shapes.SHAPES)
    predictions = ModelPredictions(None, images, labels, labels, classes, classes, "", list(images))
    source = object_masks.load_own("shapes")
    source = dataclasses.replace(source, splits={"test": source.splits["test"]})
    found = object_masks.find(predictions, [1, 3, 6], source)
    assert sorted(found) == [1, 3, 6]
    for index, mask in found.items():
        np.testing.assert_array_equal(mask, scenes[index].mask == 1 + scenes[index].label)
    assert object_masks.load_own("fashion_sample") is None
