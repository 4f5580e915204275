"""COCO annotation files: parsing, errors, and masks equal to those of pycocotools."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from tasks.data import coco, coco_masks
from zoo.errors import UsageError


def write(path, **changes):
    """Writes a small annotation file; returns its path."""
    content = {
        "images": [
            {"id": 7, "file_name": "a.png", "height": 6, "width": 8},
            {"id": 9, "file_name": "b.png", "height": 6, "width": 8},
        ],
        "categories": [
            {"id": 18, "name": "dog"},
            {"id": 3, "name": "cat"},
            {"id": 5, "name": "ox"},
        ],
        "annotations": [
            {
                "id": 1,
                "image_id": 9,
                "category_id": 18,
                "bbox": [1, 2, 3, 2.5],
                "segmentation": [[1, 2, 4, 2, 4, 4.5, 1, 4.5]],
                "area": 7.5,
                "iscrowd": 0,
            },
            {
                "id": 2,
                "image_id": 9,
                "category_id": 3,
                "bbox": [0, 0, 2, 2],
                "segmentation": {"size": [6, 8], "counts": [0, 2, 4, 2, 40]},
                "iscrowd": 1,
            },
        ],
        **changes,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def draw(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (8, 6)).save(folder / name)


def error_of(call, *arguments):
    """Returns the message of the `UsageError` of a call, which must be one line."""
    with pytest.raises(UsageError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Files


def test_a_file_is_read(tmp_path):
    draw(tmp_path, "a.png", "b.png")
    found = coco.read_annotations(write(tmp_path / "all.json"))
    assert found.classes == ("cat", "ox", "dog")  # sorted by id; ox has no annotations
    assert found.skipped == ()
    empty, full = found.images
    assert (empty.path, empty.height, empty.width) == (str(tmp_path / "a.png"), 6, 8)
    assert empty.objects == ()
    dog, cats = full.objects
    assert (dog.label, dog.box, dog.area, dog.crowd) == (2, (1, 2, 4, 4.5), 7.5, False)
    assert (cats.label, cats.box, cats.area, cats.crowd) == (0, (0, 0, 2, 2), 4, True)


@pytest.mark.parametrize(
    ("file", "images"),
    [
        ("all.json", "."),
        ("all.json", "images"),
        ("annotations/train.json", "."),
        ("annotations/train.json", "images"),
        ("annotations/instances_train2017.json", "train2017"),
        ("annotations/instances_train2017.json", "images/train2017"),
        ("train/_annotations.coco.json", "train"),
    ],
)
def test_images_are_found_where_they_usually_are(tmp_path, file, images):
    draw(tmp_path / images, "a.png", "b.png")
    found = coco.read_annotations(write(tmp_path / file))
    assert [picture.path for picture in found.images] == [
        str(tmp_path / images / name) for name in ("a.png", "b.png")
    ]


def test_missing_images_are_reported(tmp_path):
    path = write(tmp_path / "all.json")
    assert "none of the 2 images of" in error_of(coco.read_annotations, path)
    draw(tmp_path, "b.png")
    found = coco.read_annotations(path)
    assert len(found.images) == 1
    assert found.skipped == ((str(tmp_path / "a.png"), "no such file"),)


def test_annotations_of_unlisted_images_are_counted(tmp_path):
    draw(tmp_path, "a.png")
    images = [{"id": 7, "file_name": "a.png", "height": 6, "width": 8}]
    path = write(tmp_path / "all.json", images=images)
    assert coco.read_annotations(path).skipped == (
        (str(path), "2 annotations of images that it does not list: of the image_id 9; it lists 7"),
    )


def test_splits_are_found_by_the_names_of_files(tmp_path):
    names = ("instances_train2017.json", "instances_val2017.json", "captions.json")
    for name in names:
        write(tmp_path / "annotations" / name)
    found = coco.annotation_files(tmp_path)
    assert {split: path.name for split, path in found.items()} == {
        "train": names[0],
        "val": names[1],
    }
    assert coco.annotation_files(tmp_path / "annotations" / names[0]) == {
        "all": tmp_path / "annotations" / names[0]
    }
    write(tmp_path / "annotations" / "person_keypoints_train2017.json")
    assert "has 2 annotation files for train" in error_of(coco.annotation_files, tmp_path)


def test_splits_are_found_by_the_names_of_folders(tmp_path):
    for split in ("train", "valid", "test"):
        write(tmp_path / split / "_annotations.coco.json")
    assert list(coco.annotation_files(tmp_path)) == ["train", "valid", "test"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": []}, "has no list of images; a COCO file has images, annotations, categories"),
        ({"categories": {}}, "has no list of categories"),
        ({"categories": [{"id": 3}]}, "category {'id': 3} has no name"),
        (
            {"categories": [{"id": 3, "name": "cat"}, {"id": 4, "name": "cat"}]},
            "several categories named cat",
        ),
        (
            {"annotations": [{"id": 1, "image_id": 7, "category_id": 99}]},
            "annotation 1 has the category 99, which the file does not list; it lists 3, 5, 18",
        ),
        (
            {"annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 3]}]},
            "annotation 1 has the box [1, 2, 3]; expected x, y, width, height",
        ),
        (
            {"annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 3, "a"]}]},
            "annotation 1 has the box",
        ),
        ({"annotations": [{"id": 1, "category_id": 3}]}, "has no image_id"),
        ({"annotations": [{"id": 1, "image_id": [7], "category_id": 3}]}, "has the image_id [7]"),
        ({"annotations": 5}, "annotations is 5, not a list"),
        ({"annotations": [5]}, "annotation 5 has no image_id"),
        (
            {"annotations": [{"id": 1, "image_id": 7, "category_id": "cat"}]},
            "has the category 'cat', which the file does not list; it lists 3, 5, 18",
        ),
        ({"images": [{"id": 7, "file_name": "a.png", "width": 8}]}, "has no height"),
    ],
)
def test_invalid_files_are_rejected(tmp_path, changes, message):
    draw(tmp_path, "a.png", "b.png")
    path = write(tmp_path / "all.json", **changes)
    found = error_of(coco.read_annotations, path)
    assert str(path) in found
    assert message in found


@pytest.mark.parametrize("width", ["x", [], -8, 8.5, True, 10**6, 10**400, "1" * 5000, {}])
def test_invalid_sizes_are_rejected(tmp_path, width):
    draw(tmp_path, "a.png", "b.png")
    images = [{"id": 7, "file_name": "a.png", "height": 10**6, "width": width}]
    message = error_of(
        coco.read_annotations, write(tmp_path / "all.json", images=images, annotations=[])
    )
    assert "image 'a.png' has the width " in message
    assert "and the height 1000000; expected pixels, at most 134,217,728 in all" in message


def test_ids_may_be_numbers_or_text(tmp_path):
    draw(tmp_path, "a.png", "b.png")
    content = json.loads(write(tmp_path / "all.json").read_text())
    content["images"][1]["id"] = "9"
    content["categories"][1]["id"] = "3"
    content["categories"][2]["id"] = "bovine"  # which no number is
    content["annotations"][0] |= {"category_id": "18", "image_id": 9.0}
    found = coco.read_annotations(write(tmp_path / "all.json", **content))
    assert found.classes == ("cat", "dog", "ox")
    assert found.skipped == ()
    assert [thing.label for thing in found.images[1].objects] == [1, 0]


@pytest.mark.parametrize(
    "names",
    [
        ("C:\\data\\a.png", "C:\\data\\b.png"),
        ("/home/somebody/a.png", "/home/somebody/b.png"),
        ("somewhere/a.png", "elsewhere/b.png"),
    ],
)
def test_images_of_other_folders_are_found_by_file_name(tmp_path, names):
    draw(tmp_path / "images", "a.png", "b.png")
    images = [
        {"id": number, "file_name": name, "height": 6, "width": 8}
        for number, name in zip((7, 9), names, strict=True)
    ]
    found = coco.read_annotations(write(tmp_path / "all.json", images=images))
    assert [picture.path for picture in found.images] == [
        str(tmp_path / "images" / name) for name in ("a.png", "b.png")
    ]


def test_ambiguous_file_names_are_not_used(tmp_path):
    draw(tmp_path, "a.png", "b.png")
    images = [
        {"id": number, "file_name": name, "height": 6, "width": 8}
        for number, name in ((7, "one/a.png"), (8, "two/a.png"), (9, "sub\\b.png"))
    ]
    found = coco.read_annotations(write(tmp_path / "all.json", images=images))
    assert [picture.number for picture in found.images] == [9]
    assert [reason for _, reason in found.skipped] == ["no such file", "no such file"]


def test_files_that_are_not_json_are_rejected(tmp_path):
    path = tmp_path / "all.json"
    assert "cannot be read: No such file" in error_of(coco.read_annotations, path)
    path.write_text("{", encoding="utf-8")
    assert "is not a JSON file" in error_of(coco.read_annotations, path)
    path.write_text("[1]", encoding="utf-8")
    assert "has no list of images" in error_of(coco.read_annotations, path)
    path.write_text(100_000 * "[", encoding="utf-8")
    assert "is not a JSON file" in error_of(coco.read_annotations, path)


def test_a_byte_order_mark_is_ignored(tmp_path):
    draw(tmp_path, "a.png", "b.png")
    path = write(tmp_path / "all.json")
    path.write_text(path.read_text("utf-8"), "utf-8-sig")
    assert coco.read_annotations(path).classes == ("cat", "ox", "dog")


def test_a_file_name_with_nul_is_skipped(tmp_path):
    draw(tmp_path, "a.png")
    images = [
        {"id": number, "file_name": name, "height": 6, "width": 8}
        for number, name in ((7, "a.png"), (9, "b\0.png"))
    ]
    found = coco.read_annotations(write(tmp_path / "all.json", images=images))
    assert [picture.number for picture in found.images] == [7]
    assert found.skipped == ((str(tmp_path / "b\0.png"), "no such file"),)


# Masks


def test_polygons_by_hand():
    square = [1, 2, 4, 2, 4, 4, 1, 4]
    mask = coco_masks.decode_segmentation([square], 6, 8)
    assert mask.shape == (6, 8)
    assert mask.sum() == 6
    assert mask[2:4, 1:4].all()
    both = coco_masks.decode_segmentation([square, [6, 0, 8, 0, 8, 1, 6, 1]], 6, 8)
    assert both.sum() == 8
    assert both[0, 6:].all()
    assert not coco_masks.decode_segmentation([[1, 2, 4, 2]], 6, 8).any()
    assert not coco_masks.decode_segmentation([], 6, 8).any()


def test_points_of_polygons_may_be_text():
    square = ["1", "2", "4", "2", "4", "4", "1", "4"]
    assert coco_masks.decode_segmentation([square], 6, 8).sum() == 6


def test_run_lengths_go_down_the_columns():
    expected = np.zeros((3, 2), bool)
    expected[1:, 0] = expected[0, 1] = True
    assert np.array_equal(
        coco_masks.decode_segmentation({"size": [3, 2], "counts": [1, 3, 2]}, 3, 2), expected
    )
    everything = coco_masks.decode_segmentation({"size": [3, 2], "counts": [0, 6]}, 3, 2)
    assert everything.all()


def test_polygons_and_run_lengths_equal_pycocotools():
    reference = pytest.importorskip("pycocotools.mask")
    random = np.random.default_rng(0)
    for trial in range(300):
        height, width = map(int, random.integers(3, 90, 2))
        points = random.uniform(-0.3, 1.3, (random.integers(3, 12), 2)) * (width, height)
        points = np.round(points) if trial % 3 == 0 else points
        points = points.clip(0, (width, height)) if trial % 5 == 0 else points
        polygon = points.reshape(-1).tolist()
        expected = reference.decode(reference.frPyObjects([polygon], height, width))[..., 0]
        assert np.array_equal(
            coco_masks.polygon_mask(polygon, height, width), expected.astype(bool)
        )
        packed = reference.encode(np.asfortranarray(expected))
        text = {"size": packed["size"], "counts": packed["counts"].decode()}
        assert np.array_equal(
            coco_masks.decode_segmentation(text, height, width), expected.astype(bool)
        )


def test_compressed_run_lengths():
    # As pycocotools writes these runs.
    assert coco_masks.decode_rle_text("0240T1") == [0, 2, 4, 2, 40]
    assert coco_masks.decode_rle_text(b"5T3\\9SMmFQo0ja0") == [5, 100, 300, 7, 9, 1000, 579]


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [8, 6], "counts": [0, 48]}, "run lengths are for the size [8, 6]; the image has"),
        ({"size": [6, 8], "counts": [0, 47]}, "do not add up to the 6 x 8 pixels"),
        ({"size": [6, 8], "counts": [-1, 49]}, "do not add up"),
        ({"size": [6, 8]}, "do not add up"),
        ({"size": [6, 8], "counts": "zz"}, "do not add up"),
        ("polygon", "is polygons or run lengths, not 'polygon'"),
        ([1, 2, 3, 4, 5, 6], "is polygons or run lengths"),
        ([[1, 2, 3, 4, 5]], "a polygon is numbers x0, y0"),
        ([[1, 2, 3, 4, 5, None]], "a polygon is numbers x0, y0"),
        ([[1, 2, 3, 4, 5, float("inf")]], "a polygon is numbers x0, y0"),
        ([[1, 2, 3, 4, 5, 10**400]], "a polygon is numbers x0, y0"),
        ([[1, 2, 3, 4, 5, "x"]], "a polygon is numbers x0, y0"),
        ([[1, 2, 1e300, 4, 5, 1]], "a polygon extends far beyond its image of 8 x 6"),
        ([[0, 0, 1e7, 0, 0, 1]], "a polygon extends far beyond its image"),
        ({"size": 5, "counts": [0, 48]}, "run lengths are for the size 5"),
        ({"size": [6, 8], "counts": 1000 * "o"}, "invalid run-length text"),
        ({"size": [6, 8], "counts": [0, 10**400]}, "do not add up"),
        ({"size": [6, 8], "counts": "\ud800"}, "do not add up"),
    ],
)
def test_invalid_segmentations_are_rejected(segmentation, message):
    assert message in error_of(coco_masks.decode_segmentation, segmentation, 6, 8)
