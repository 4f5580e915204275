"""Fingerprints of data sets of every task: what changes them, and what does not."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import tasks
from tasks.data import data_fingerprint

COUNT = 6


def write_images(folder, size=(12, 10)):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(COUNT):
        pixels = np.random.default_rng(number).integers(0, 256, (*size[::-1], 3), "uint8")
        Image.fromarray(pixels).save(folder / f"{number}.png")


def write_mask(top, number, seed):
    (top / "masks").mkdir(exist_ok=True)
    labels = np.random.default_rng(seed).integers(0, 2, (10, 12), "uint8")
    Image.fromarray(labels).save(top / "masks" / f"{number}.png")


def with_masks(top):
    write_images(top / "images")
    for number in range(COUNT):
        write_mask(top, number, number)


def with_boxes(top, left=1, label=1, width=4):
    write_images(top / "images")
    images = [{"id": n, "file_name": f"{n}.png", "width": 12, "height": 10} for n in range(COUNT)]
    boxes = [
        {"id": n, "image_id": n, "category_id": 1 + n % 2, "bbox": [1, 2, 4, 3]}
        for n in range(COUNT)
    ]
    boxes[2] = {"id": 2, "image_id": 2, "category_id": label, "bbox": [left, 2, width, 3]}
    content = {"images": images, "annotations": boxes}
    content["categories"] = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    (top / "train.json").write_text(json.dumps(content))


def with_captions(top, word="cat"):
    write_images(top / "Images")
    lines = [f"{n}.png#0\ta {word if n == 2 else 'dog'} sits" for n in range(COUNT)]
    (top / "captions.txt").write_text("\n".join(lines) + "\n")


def paint(path):
    """Changes the pixels of an image, and not its size in pixels."""
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)


TASKS = {  # of each: what writes its data, and changes that are other data
    "segmentation": (
        with_masks,
        [lambda top: write_mask(top, 3, 99), lambda top: paint(top / "images" / "3.png")],
    ),
    "detection": (
        with_boxes,
        [
            lambda top: with_boxes(top, left=2),
            lambda top: with_boxes(top, width=5),
            lambda top: with_boxes(top, label=2),
            lambda top: paint(top / "images" / "3.png"),
        ],
    ),
    "captioning": (
        with_captions,
        [lambda top: with_captions(top, "rat"), lambda top: paint(top / "Images" / "3.png")],
    ),
    "gan": (write_images, [lambda top: paint(top / "3.png"), lambda top: (top / "3.png").unlink()]),
}


def fingerprint(name, top):
    split = "train" if name == "detection" else "all"
    slices = {"train_split": f"{split}[1:]", "test_split": f"{split}[:1]"}
    task = tasks.get(name)(dataset=str(top), validation_split="none", **slices)
    return task.source_fingerprint(task.source)


@pytest.mark.parametrize("name", TASKS)
def test_labels_and_images_change_the_fingerprint_and_their_place_does_not(name, tmp_path):
    write, changes = TASKS[name]
    write(tmp_path / "data")
    before = fingerprint(name, tmp_path / "data")
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    assert fingerprint(name, tmp_path / "copy") == before
    for number, change in enumerate(changes):
        top = shutil.copytree(tmp_path / "data", tmp_path / str(number))
        change(top)
        found = data_fingerprint.differences(before, fingerprint(name, top))
        parts = {line.partition(" had ")[0] for line in found}
        assert parts, number
        assert parts <= {"train", "test"}


def test_pictures_named_by_flags_are_part_of_the_fingerprint(tmp_path):
    write_images(tmp_path)
    names = [str(tmp_path / "0.png"), "chelsea"]
    before = data_fingerprint.with_images({}, *names)
    assert list(before["splits"]) == [f"the picture {names[0]}"]
    paint(tmp_path / "0.png")
    (line,) = data_fingerprint.differences(before, data_fingerprint.with_images({}, *names))
    assert line.startswith(f"the picture {names[0]} had digest ")
