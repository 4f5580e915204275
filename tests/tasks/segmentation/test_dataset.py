"""Segmentation data sets: layouts and class lists, checks of masks, decoding and batches."""

from __future__ import annotations

import itertools
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageFilter

from tasks.data import coco_masks, data_fingerprint, geometry, image_io, shapes, splits
from tasks.data.dataset import Source, Split, object_array
from tasks.data.geometry import IGNORE_LABEL
from tasks.segmentation import batches as segmentation_batches
from tasks.segmentation import class_map, dataset
from zoo.errors import UsageError

PALETTE = [0, 0, 0, 200, 0, 0, 0, 200, 0]
TABLE = "name,r,g,b\nground,0,0,0\ncat,200,0,0\ndog,0,200,0\nvoid,9,9,9\n"


def random_labels(seed, size=(6, 8), count=3):
    """Returns a random mask."""
    return np.random.default_rng(seed).integers(0, count, size, "uint8")


def image_of(labels):
    """Returns an image whose red channel is ten times the mask."""
    return np.stack([labels * 10, 255 - labels, labels], -1)


def save(path, array, mode=None):
    """Writes an array as an image file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if mode == "P":
        image = Image.fromarray(array, mode="P")
        image.putpalette(PALETTE + [9, 9, 9] * 253)
    elif mode:
        image = image.convert(mode)
    image.save(path)


def write_pairs(root, names, mode=None, suffix=""):
    """Writes an image and a mask for each name, and returns the labels by name."""
    labels = {}
    for seed, name in enumerate(names):
        labels[name] = random_labels(seed)
        save(root / "images" / f"{name}.png", image_of(labels[name]))
        save(root / "masks" / f"{name}{suffix}.png", labels[name], mode)
    return labels


def error_of(call, *arguments, **options):
    """Returns the message of the `UsageError` that a call raises, which must be one line."""
    with pytest.raises(UsageError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def decode(source, split="all", shape=(6, 8, 3), resize="stretch", **options):
    return dataset.decode(source.splits[split], len(source.classes), shape, resize, **options)


def check_pairs(examples, num_classes=3):
    """Asserts that every image has its own mask."""
    pixels, labels = examples.pixels[np.arange(len(examples))], examples.labels
    labels = labels[np.arange(len(examples))]
    valid = labels < num_classes
    assert valid.any()
    assert np.array_equal(pixels[..., 0][valid], labels[valid] * 10)


# Built-in


def test_shapes_have_masks_and_are_drawn_once(monkeypatch):
    source = dataset.load("shapes")
    assert source.classes == ("ground", *shapes.SHAPES)
    assert {name: len(split) for name, split in source.splits.items()} == shapes.SPLITS
    train, validation, test = splits.train_val_test_split(source)
    assert (len(train), len(validation), len(test)) == (2048, 256, 256)
    part = splits.select(source, "test[205:225]")  # of which no scene is kept yet
    draw, drawn = shapes.draw, []
    monkeypatch.setattr(shapes, "draw", lambda *scene: drawn.append(scene) or draw(*scene))
    examples = dataset.decode(part, 7, (128, 128, 3), "stretch")
    assert sorted(drawn) == [("test", index) for index in range(205, 225)]
    for index in range(20):
        scene = draw("test", 205 + index)
        assert np.array_equal(examples.pixels[index], scene.image)
        assert np.array_equal(examples.labels[index], scene.mask)
    assert examples.counts.tolist() == np.bincount(examples.labels.ravel(), minlength=7).tolist()


# Class lists


@pytest.mark.parametrize(
    ("text", "classes", "values", "colours"),
    [
        ("a\nb\nc\n", "abc", {0: 0, 1: 1, 2: 2}, {}),
        ("void\na\nb\n", "ab", {0: IGNORE_LABEL, 1: 0, 2: 1}, {}),
        ("class,value\na,0\nb,255\n", "ab", {0: 0, 255: 1}, {}),
        ("a;7\nb;3\na;9\n", "ab", {7: 0, 3: 1, 9: 0}, {}),
        ("0\n1\n", "01", {0: 0, 1: 1}, {}),
        ("# comment\n\na 1 2 3\nb 4 5 6\n", "ab", {}, {(1, 2, 3): 0, (4, 5, 6): 1}),
        ("64 128 64\ta\n192 0 128\tb\n", "ab", {}, {(64, 128, 64): 0, (192, 0, 128): 1}),
        ("name,r,g,b\na,0,0,0\nVoid,1,1,1\nb,2,2,2", "ab", {}, None),
    ],
)
def test_class_lists_are_read(tmp_path, text, classes, values, colours):
    path = tmp_path / "classes.txt"
    path.write_text(text, encoding="utf-8")
    found = class_map.read(path)
    assert found.classes == tuple(classes)
    assert found.values == values
    assert found.colours == (
        {(0, 0, 0): 0, (1, 1, 1): IGNORE_LABEL, (2, 2, 2): 1} if colours is None else colours
    )


def test_class_names_may_have_several_words(tmp_path):
    path = tmp_path / "classes.csv"
    path.write_text("traffic light,1,2,3\nroad,4,5,6\n", encoding="utf-8")
    assert class_map.read(path).classes == ("traffic light", "road")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no class; expected one line per class"),
        ("a\n", "has 1 classes; expected 2 to 254"),
        ("a,1\nb,1,2,3\n", "line 2: not the same cells as in the other lines"),
        ("a,1,2\nb,3,4\n", "not the same cells"),
        ("a,1\nb,256\n", "line 2: the number 256 is above 255"),
        ("a,1,2,3\nb,1,2,3\n", "line 2: the color (1, 2, 3) is listed twice"),
    ],
)
def test_an_invalid_class_list_is_refused(tmp_path, text, message):
    path = tmp_path / "classes.txt"
    path.write_text(text, encoding="utf-8")
    found = error_of(class_map.read, path)
    assert str(path) in found
    assert message in found


# Folders


@pytest.mark.parametrize("mode", [None, "P", "RGB"])
@pytest.mark.parametrize("suffix", ["", "_mask"])
def test_a_folder_without_a_class_list_has_the_classes_of_its_masks(tmp_path, mode, suffix):
    labels_by_name = write_pairs(tmp_path, ["b", "a", "sub/c"], mode, suffix)
    source = dataset.load(tmp_path)
    assert source.classes == ("0", "1", "2")
    split = source.splits["all"]
    assert len(split) == 3
    for item, mask in zip(split.items, split.labels, strict=True):
        name = item.removeprefix(f"{tmp_path}/images/").removesuffix(".png")
        assert np.array_equal(mask.read(), labels_by_name[name])
    check_pairs(decode(source))


def test_class_names_come_from_a_list_next_to_the_folders(tmp_path):
    write_pairs(tmp_path, "ab")
    (tmp_path / "classes.txt").write_text("ground\ncat\ndog\nnobody\n", encoding="utf-8")
    source = dataset.load(tmp_path)
    assert source.classes == ("ground", "cat", "dog", "nobody")
    examples = decode(source)
    assert examples.counts.tolist() == [*np.bincount(np.ravel(examples.labels)), 0]
    assert dataset.missing_classes(examples, source.classes) == [
        "nobody"
    ]  # a class, although no mask has it


@pytest.mark.parametrize("mode", ["P", "RGB"])
def test_colours_are_mapped_by_the_class_list(tmp_path, mode):
    labels_by_name = write_pairs(tmp_path, "abc", "P")
    labels_by_name["a"][2, 3] = 7  # the color of void
    for name, labels in labels_by_name.items():
        path = tmp_path / "masks" / f"{name}.png"
        save(path, labels, "P")
        Image.open(path).convert(mode).save(path)
    if mode == "RGB":
        assert "is a color-coded mask" in error_of(dataset.load, tmp_path)
    table = tmp_path / "colours.csv"
    table.write_text(TABLE, encoding="utf-8")
    source = dataset.load(tmp_path, class_map_path=str(table))
    assert source.classes == ("ground", "cat", "dog")
    for item, mask in zip(
        *(getattr(source.splits["all"], n) for n in ("items", "labels")), strict=True
    ):
        expected = labels_by_name[item[-5]].copy()
        expected[expected == 7] = IGNORE_LABEL
        assert np.array_equal(mask.read(), expected)


def test_an_unlisted_colour_is_refused_with_its_position(tmp_path):
    labels_by_name = write_pairs(tmp_path, "ab")
    for name, labels in labels_by_name.items():
        save(tmp_path / "masks" / f"{name}.png", image_of(labels % 2))
    (tmp_path / "classes.csv").write_text("x,0,255,0\ny,10,254,2\n", encoding="utf-8")
    message = error_of(decode, dataset.load(tmp_path))
    assert "masks/" in message
    assert "has the color (10, 254, 1) at x " in message
    assert "classes.csv does not list; it lists (0, 255, 0), (10, 254, 2)" in message
    shares = [f"(1 such: (10, 254, 1) {(x % 2).mean():.2%})" for x in labels_by_name.values()]
    assert any(share in message for share in shares)


@pytest.mark.parametrize("layout", ["{split}/{kind}", "{kind}/{split}"])
def test_splits_are_found_in_folders(tmp_path, layout):
    for seed, split in enumerate(("train", "val", "test")):
        for number in range(3):
            labels = random_labels(10 * seed + number)
            for kind, array in (("images", image_of(labels)), ("masks", labels)):
                save(tmp_path / layout.format(split=split, kind=kind) / f"{number}.png", array)
    source = dataset.load(tmp_path)
    assert {name: len(split) for name, split in source.splits.items()} == {
        "train": 3,
        "val": 3,
        "test": 3,
    }
    data = dataset.prepare(source, ("", "", ""), (6, 8, 3), "stretch")
    for examples in (data.train, data.validation, data.test):
        check_pairs(examples)


def test_a_folder_without_splits_is_split_by_image_content(tmp_path):
    write_pairs(tmp_path, [f"{n:03}" for n in range(60)])
    source = dataset.load(tmp_path)
    parts = splits.train_val_test_split(source)
    assert sum(map(len, parts)) == 60
    assert len({item for part in parts for item in part.items}) == 60
    assert min(map(len, parts)) >= 1
    data = dataset.prepare(source, ("all[:50%]", "none", "all[50%:]"), (6, 8, 3), "stretch")
    assert (len(data.train), data.validation, len(data.test)) == (30, None, 30)
    check_pairs(data.train)


def test_images_without_a_mask_are_refused(tmp_path):
    write_pairs(tmp_path, "abc")
    (tmp_path / "masks" / "b.png").unlink()
    message = error_of(dataset.load, tmp_path)
    assert message.startswith(
        f"1 of 3 images of {tmp_path}/images have no mask in {tmp_path}/masks: b"
    )
    assert f"such as {tmp_path}/masks/b.png" in message


def test_files_without_a_counterpart_are_skipped_or_refused(tmp_path):
    write_pairs(tmp_path, "ab")
    save(tmp_path / "masks" / "x.png", random_labels(0))
    (tmp_path / "masks" / "notes.txt").write_text("hello")
    (tmp_path / "images" / "notes.txt").write_text("hello")
    skipped = dict(dataset.load(tmp_path).skipped)
    assert skipped[f"{tmp_path}/masks/x.png"] == "a mask without an image"
    assert skipped[f"{tmp_path}/masks/notes.txt"].startswith("no mask")
    assert "not an image" in skipped[f"{tmp_path}/images/notes.txt"]
    save(tmp_path / "masks" / "a_mask.png", random_labels(0))
    assert "has 2 masks" in error_of(dataset.load, tmp_path)
    (tmp_path / "masks" / "a_mask.png").unlink()
    (tmp_path / "masks" / "a.png").unlink()
    save(tmp_path / "masks" / "a.jpg", random_labels(0))
    assert "a.jpg is a JPEG, which blurs labels; save masks as PNG files" in error_of(
        dataset.load, tmp_path
    )


@pytest.mark.parametrize(("values", "listed"), [((0, 0), "0"), ((7, 255), "7 and 255, which is")])
def test_masks_of_one_class_are_refused_with_instructions(tmp_path, values, listed):
    write_pairs(tmp_path, "a")
    save(tmp_path / "masks" / "a.png", np.tile(np.uint8(values), (6, 4)))
    message = error_of(dataset.load, tmp_path)
    assert f"contain only {listed}" in message
    assert f"'object,255,255,255' in {tmp_path}/classes.csv" in message


# Masks without a class list


def regions(values, size=24):
    """Returns a mask of square regions, one per value."""
    side = int(np.ceil(np.sqrt(len(values))))
    grid = np.resize(np.array(values), (side, side))
    return np.kron(grid, np.ones((size // side,) * 2, grid.dtype)).astype(grid.dtype)


def write_masks(root, *masks):
    """Writes masks, each with an image of the same size."""
    for number, labels in enumerate(masks):
        save(root / "images" / f"{number}.png", np.zeros((*labels.shape, 3), "uint8"))
        save(root / "masks" / f"{number}.png", labels)
    return root


@pytest.mark.parametrize("value", [1, 200, 254, 255, 65535])
def test_zero_and_one_other_value_are_background_and_object(tmp_path, value):
    kind = "uint16" if value > 255 else "uint8"
    labels = regions(np.array([0, value, value, value], kind))
    source = dataset.load(write_masks(tmp_path, labels))
    assert source.classes == ("background", "object")
    assert np.array_equal(source.splits["all"].labels[0].read(), labels > 0)
    examples = dataset.decode(source.splits["all"], 2, (24, 24, 3), "stretch")
    assert examples.counts.tolist() == [144, 432]


def test_classes_that_follow_from_the_values_of_masks_are_stated(tmp_path):
    source = dataset.load(write_masks(tmp_path, regions(np.uint8([0, 255, 0, 0]))))
    assert source.notes == ("masks of 0 and 255: background and object",)
    (tmp_path / "classes.csv").write_text("road\ncar\n", encoding="utf-8")
    source = dataset.load(tmp_path)
    assert source.classes == ("road", "car")
    assert source.splits["all"].labels[0].read().sum() == 144
    write_masks(tmp_path, regions(np.uint8([0, 255, 1, 0])))
    mask = dataset.load(tmp_path).splits["all"].labels[0].read()
    assert np.unique(mask).tolist() == [0, 1, IGNORE_LABEL]


@pytest.mark.parametrize("kind", ["antialiased", "JPEG", "RGB JPEG", "instances", "16-bit"])
def test_masks_of_one_object_by_a_threshold(tmp_path, kind):
    sharp = np.kron(regions(np.uint8([0, 1, 1, 0]), 6), np.ones((8, 8), "uint8"))
    threshold, path = 127, tmp_path / "masks" / "0.png"
    write_masks(tmp_path, 255 * sharp)
    if kind == "antialiased":
        image = Image.fromarray(255 * sharp).filter(ImageFilter.GaussianBlur(1.5))
        sharp = (np.asarray(image) > 127).astype("uint8")
        image.save(path)
    elif "JPEG" in kind:
        path.unlink()
        image = Image.fromarray(255 * sharp).convert("RGB" if "RGB" in kind else "L")
        image.save(path.with_suffix(".jpg"), quality=80)
    else:
        threshold = 0
        ids = np.arange(1, sharp.size + 1).reshape(sharp.shape)
        ids = ids.astype("uint16") if kind == "16-bit" else (ids % 5 + 1).astype("uint8")
        save(path, sharp * ids)
    if kind != "instances":  # which are classes, for all that one mask shows
        assert "--threshold" in error_of(dataset.load, tmp_path)
    source = dataset.load(tmp_path, threshold=threshold)
    assert source.classes == ("background", "object")
    assert source.notes == (f"masks: values from {threshold + 1} are the class object, others "
                            "background",)  # fmt: skip
    assert np.array_equal(source.splits["all"].labels[0].read(), sharp)
    other = dataset.load(tmp_path, threshold=threshold + 1)
    digests = [data_fingerprint.split_digest(each.splits["all"]) for each in (source, other)]
    assert digests[0] != digests[1]


def test_a_threshold_is_for_folders_without_a_class_map(tmp_path):
    write_masks(tmp_path, regions(np.uint8([0, 255, 0, 0])))
    for name, path in ((tmp_path, "x.csv"), ("shapes", ""), ("tfds:x", "")):
        assert "--threshold" in error_of(dataset.load, name, None, path, threshold=1)


@pytest.mark.parametrize("mode", [None, "P", "RGB"])
def test_values_with_gaps_are_refused_with_a_command_that_writes_a_class_list(tmp_path, mode):
    tmp_path = tmp_path / "lakes,rivers"
    write_masks(tmp_path, regions(np.uint8([0, 3, 200, 255])))
    save(tmp_path / "masks" / "0.png", regions(np.uint8([0, 3, 200, 255])), mode)
    message = error_of(dataset.load, tmp_path)
    assert (
        "contain 3 values with gaps between them, 0, 3, 200, and there is no class list" in message
    )
    command = message.rpartition("printf ")[2]
    text, path = command.split(" > ")
    (path,) = shlex.split(path)
    assert path == f"{tmp_path}/classes.csv"
    (tmp_path / "classes.csv").write_text(text.strip("'").replace(r"\n", "\n"), encoding="utf-8")
    source = dataset.load(tmp_path)
    assert source.classes == ("0", "3", "200")
    assert np.unique(source.splits["all"].labels[0].read()).tolist() == [0, 1, 2, IGNORE_LABEL]


def test_values_that_do_not_start_at_0_have_a_gap(tmp_path):
    message = error_of(dataset.load, write_masks(tmp_path, regions(np.uint8([1, 2, 3, 3]))))
    assert "gaps between them, 1, 2, 3, and" in message
    assert r"printf '1,1\n2,2\n3,3\n' > " in message


def test_masks_of_instance_ids_are_refused(tmp_path):
    """Values 1 to 4 in one image and 1 to 9 in another are not nine classes."""
    message = error_of(
        dataset.load,
        write_masks(
            tmp_path, regions(np.arange(5, dtype="u1")), regions(np.arange(10, dtype="u1"))
        ),
    )
    assert "seem to contain instance ids instead of classes" in message
    assert "N ranges from 4 to 9" in message
    assert "set --threshold 0" in message
    assert r"printf '0,0\n1,1\n2,2\n" in message
    (tmp_path / "classes.csv").write_text(
        "background,0\n" + "".join(f"thing,{n}\n" for n in range(1, 10)), encoding="utf-8"
    )
    assert dataset.load(tmp_path).classes == ("background", "thing")


def test_large_instance_ids_are_refused(tmp_path):
    labels = [regions(np.array([0, 26001, 26002 + n], "uint16")) for n in range(2)]
    message = error_of(dataset.load, write_masks(tmp_path, *labels))
    assert "contain values from 0 to 26003; classes are 0 to 253" in message
    assert "instance ids" in message


def test_an_image_without_objects_does_not_suggest_instance_ids(tmp_path):
    """An image of background only and one with all classes are compatible with classes."""
    masks = (regions(np.uint8([0])), regions(np.uint8([0, 1, 2, 3])))
    assert dataset.load(write_masks(tmp_path, *masks)).classes == ("0", "1", "2", "3")


@pytest.mark.parametrize("cause", ["resizing", "JPEG"])
@pytest.mark.parametrize("listed", [False, True])
def test_blurred_masks_are_refused(tmp_path, cause, listed):
    disc = np.hypot(*np.mgrid[-32:32, -32:32]) < 20
    large = Image.fromarray(np.uint8(255 * disc)).resize((200, 200), Image.Resampling.NEAREST)
    if cause == "JPEG":
        large.save(tmp_path / "mask.jpg", quality=60)
        blurred = np.asarray(Image.open(tmp_path / "mask.jpg"))
    else:
        blurred = np.asarray(large.resize((128, 128), Image.Resampling.BILINEAR))
    write_masks(tmp_path, blurred)
    if listed:
        (tmp_path / "classes.csv").write_text("ground,0\nobject,255\n", encoding="utf-8")
    message = error_of(lambda: dataset.load(tmp_path).splits["all"].labels[0].read())
    assert "at the edges of regions: antialiasing, smooth resizing or JPEG" in message
    assert "the label 254" not in message


def test_masks_without_a_class_list_have_the_classes_of_a_trained_model(tmp_path):
    """Evaluation on images that lack a class needs no class list."""
    write_masks(tmp_path, regions(np.uint8([0, 2])))
    assert dataset.load(tmp_path).classes == ("background", "object")
    source = dataset.load(tmp_path, classes=("0", "1", "2"))
    assert source.classes == ("0", "1", "2")
    assert np.unique(source.splits["all"].labels[0].read()).tolist() == [0, 2]


# Checks of masks


def test_a_mask_of_another_size_is_refused(tmp_path):
    write_pairs(tmp_path, "ab")
    save(tmp_path / "masks" / "b.png", random_labels(1, (8, 6)))
    message = error_of(decode, dataset.load(tmp_path))
    assert message.startswith(
        f"{tmp_path}/masks/b.png is 6 x 8 pixels; its image, {tmp_path}/images/b.png"
    )
    assert "is 8 x 6" in message


def test_a_mask_has_the_size_of_the_image_as_displayed(tmp_path):
    """The mask of a photo with an EXIF rotation is upright."""
    labels = np.kron(random_labels(0, (3, 2)), np.ones((32, 32), "uint8"))
    stored = Image.fromarray(np.rot90(image_of(labels)))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    (tmp_path / "images").mkdir()
    stored.save(tmp_path / "images" / "a.jpg", quality=100, subsampling=0, exif=exif)
    assert image_io.image_size(tmp_path / "images" / "a.jpg") == (96, 64)
    save(tmp_path / "masks" / "a.png", labels)
    (tmp_path / "classes.txt").write_text("ground\ncat\ndog\n", encoding="utf-8")
    examples = decode(dataset.load(tmp_path), shape=(96, 64, 3))
    assert abs(examples.pixels[0, ..., 0].astype(int) - 10 * labels).mean() < 1
    save(tmp_path / "masks" / "a.png", labels[:, :32])
    assert "is 64 x 96 as displayed" in error_of(decode, dataset.load(tmp_path))


def write_rotated_photo(root, labels, orientation):
    """Writes an image with an EXIF orientation, and returns its mask in the stored orientation."""
    inverse = {6: lambda x: np.rot90(x), 8: lambda x: np.rot90(x, -1), 3: lambda x: np.rot90(x, 2)}
    inverse |= {5: lambda x: np.swapaxes(x, 0, 1), 7: lambda x: np.swapaxes(np.rot90(x, 2), 0, 1)}
    exif = Image.Exif()
    exif[0x0112] = orientation
    (root / "images").mkdir(exist_ok=True)
    stored = Image.fromarray(inverse[orientation](image_of(labels)))
    stored.save(root / "images" / "a.jpg", quality=100, subsampling=0, exif=exif)
    return inverse[orientation](labels)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("limits", [{}, {"memory": 0, "disk": 0}])
def test_a_mask_of_the_stored_size_is_rotated_with_its_image(tmp_path, orientation, limits):
    labels = np.kron(random_labels(0, (3, 2)), np.ones((32, 32), "uint8"))
    stored = write_rotated_photo(tmp_path, labels, orientation)
    save(tmp_path / "masks" / "a.png", stored)
    (tmp_path / "classes.txt").write_text("ground\ncat\ndog\n", encoding="utf-8")
    examples = decode(dataset.load(tmp_path), shape=(96, 64, 3), **limits)
    assert np.array_equal(examples.labels[np.array([0])][0], labels)
    assert abs(examples.pixels[np.array([0])][0, ..., 0].astype(int) - 10 * labels).mean() < 1
    assert examples.notes == ()


@pytest.mark.parametrize(("orientation", "size"), [(3, (3, 2)), (6, (3, 3))])
def test_an_ambiguous_orientation_of_a_mask_is_reported(tmp_path, orientation, size):
    labels = np.kron(random_labels(0, size), np.ones((32, 32), "uint8"))
    write_rotated_photo(tmp_path, labels, orientation)
    save(tmp_path / "masks" / "a.png", labels)
    (tmp_path / "classes.txt").write_text("ground\ncat\ndog\n", encoding="utf-8")
    examples = decode(dataset.load(tmp_path), shape=(*labels.shape, 3))
    assert np.array_equal(examples.labels[0], labels)
    [note] = examples.notes
    assert note == (
        "EXIF rotates 1 image of all, and it is unknown whether the masks are for the image "
        f"as stored or as shown; assumed as shown: {tmp_path}/images/a.jpg"
    )


def test_image_size_of_files_bytes_and_arrays(tmp_path):
    array = np.zeros((5, 7, 2), "uint8")
    np.save(tmp_path / "a.npy", array)
    save(tmp_path / "a.png", array[..., 0])
    (tmp_path / "b.png").write_bytes(b"hello")
    for item in (array, tmp_path / "a.npy", tmp_path / "a.png"):
        assert image_io.image_size(item) == (5, 7)
        assert image_io.image_size(str(item) if item is not array else array) == (5, 7)
    for name in ("a.npy", "a.png"):
        assert image_io.image_size((tmp_path / name).read_bytes()) == (5, 7)
    for item in (tmp_path / "b.png", tmp_path / "no.png", tmp_path / "no.npy", b"hello"):
        error_of(image_io.image_size, item)


def test_an_unknown_label_is_refused_with_its_position(tmp_path):
    labels_by_name = write_pairs(tmp_path, "ab")
    (tmp_path / "classes.txt").write_text("ground\ncat\ndog\n", encoding="utf-8")
    labels_by_name["b"][4, 7] = 9  # a single pixel, which is lost when resizing
    save(tmp_path / "masks" / "b.png", labels_by_name["b"])
    message = error_of(decode, dataset.load(tmp_path), shape=(2, 2, 3))
    where = f"{tmp_path}/masks/b.png has the label 9 at x 7, y 4 (1 such: 9 2.08%)"
    assert message.startswith(where)
    assert "has 3 classes, labels 0 to 2, and 255 for ignored pixels" in message


def test_unknown_16_bit_labels_are_refused(tmp_path):
    write_pairs(tmp_path, "ab")
    (tmp_path / "classes.txt").write_text("ground\ncat\ndog\n", encoding="utf-8")
    save(tmp_path / "masks" / "b.png", np.full((6, 8), 1001, "uint16"))
    assert "b.png has the label 1001" in error_of(decode, dataset.load(tmp_path))


def test_ignored_pixels_are_kept_and_not_counted(tmp_path):
    labels_by_name = write_pairs(tmp_path, "a")
    labels_by_name["a"][:3] = IGNORE_LABEL
    save(tmp_path / "masks" / "a.png", labels_by_name["a"])
    examples = decode(dataset.load(tmp_path))
    assert (examples.labels[0][:3] == IGNORE_LABEL).all()
    assert examples.counts.sum() == 24


def test_masks_without_any_label_are_refused(tmp_path):
    write_pairs(tmp_path, "a")
    (tmp_path / "classes.txt").write_text("ground\ncat\n", encoding="utf-8")
    save(tmp_path / "masks" / "a.png", np.full((6, 8), IGNORE_LABEL, "uint8"))
    assert "every pixel of the masks of all is ignored" in error_of(decode, dataset.load(tmp_path))


@pytest.mark.parametrize("disk", [None, 0], ids=["decoded once", "decoded in each epoch"])
def test_masks_whose_labels_are_lost_by_resizing_are_refused(disk, tmp_path):
    write_pairs(tmp_path, "a")
    (tmp_path / "classes.txt").write_text("ground\ncat\n", encoding="utf-8")
    mask = np.full((6, 8), IGNORE_LABEL, "uint8")
    mask[:, 0] = 1  # outside the central square
    save(tmp_path / "masks" / "a.png", mask)
    split = dataset.load(tmp_path).splits["all"]
    limits = {"memory": disk, "disk": disk}
    kept = dataset.decode(split, 2, (6, 6, 3), "pad", **limits)
    assert kept.counts.tolist() == [0, 6]
    found = error_of(dataset.decode, split, 2, (6, 6, 3), "crop", **limits)
    assert "ignored after resizing to 6 x 6 pixels: its 6 labeled pixels are" in found


def test_an_unreadable_image_or_mask_is_dropped_with_its_counterpart(tmp_path):
    write_pairs(tmp_path, "abcd")
    for path in ("images/b.png", "masks/c.png"):
        whole = (tmp_path / path).read_bytes()
        (tmp_path / path).write_bytes(whole[: len(whole) // 2])
    examples = decode(dataset.load(tmp_path))
    assert len(examples) == len(examples.pixels) == 2
    assert sorted(name[-12:] for name, _ in examples.dropped) == [
        "/masks/c.png",
        "images/b.png",
    ]
    check_pairs(examples)


# COCO


def write_coco(root, file="all.json", **changes):
    """Writes two images and a COCO annotation file."""
    rows = [
        {"id": 1, "image_id": 1, "category_id": 4, "segmentation": [[0, 0, 8, 0, 8, 6, 0, 6]]},
        {"id": 2, "image_id": 1, "category_id": 2, "segmentation": [[2, 2, 4, 2, 4, 4, 2, 4]]},
        {
            "id": 3,
            "image_id": 2,
            "category_id": 2,
            "iscrowd": 1,
            "segmentation": {"size": [6, 8], "counts": [0, 12, 36]},
        },
        {"id": 4, "image_id": 2, "category_id": 4, "bbox": [5.5, 4, 2.5, 2]},
        {"id": 5, "image_id": 2, "category_id": 4, "segmentation": [[1, 0, 3, 0, 3, 1, 1, 1]]},
    ]
    for row, area in zip(rows, (48, 4, 12, 5, 2), strict=True):
        row["area"] = area
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", "height": 6, "width": 8} for n in (1, 2)],
        "categories": [{"id": 4, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": rows,
        **changes,
    }
    root.mkdir(parents=True, exist_ok=True)
    for n in (1, 2):
        save(root / f"{n}.png", np.full((6, 8, 3), n, "uint8"))
    (root / file).write_text(json.dumps(content), encoding="utf-8")
    return root / file


def test_coco_masks(tmp_path):
    source = dataset.load(write_coco(tmp_path))
    assert source.classes == ("ground", "cat", "dog")
    dog, crowd = (mask.read() for mask in source.splits["all"].labels)
    expected = np.full((6, 8), 2)
    expected[2:4, 2:4] = 1  # the smaller object is in front, whatever the order in the file
    assert np.array_equal(dog, expected)
    expected = np.zeros((6, 8))
    expected[:, :2] = IGNORE_LABEL  # the crowd
    expected[4:, 5:] = IGNORE_LABEL  # an object with a box and no mask
    expected[0, 1:3] = 2
    assert np.array_equal(crowd, expected)
    assert decode(source).counts.sum() == 96 - 11 - 6


def test_coco_splits_must_have_the_same_categories(tmp_path):
    for split in ("train", "val"):
        write_coco(tmp_path / split, "_annotations.coco.json")
    source = dataset.load(tmp_path)
    assert list(source.splits) == ["train", "val"]
    other = [{"id": 4, "name": "dog"}, {"id": 2, "name": "ox"}]
    write_coco(tmp_path / "val", "_annotations.coco.json", categories=other)
    message = error_of(dataset.load, tmp_path)
    assert "val/_annotations.coco.json has the categories ox, dog" in message


def test_invalid_coco_annotations_are_refused(tmp_path):
    boxes = [{"id": 1, "image_id": 1, "category_id": 4, "bbox": [0, 0, 2, 2]}]
    path = write_coco(tmp_path, annotations=boxes)
    assert "has 1 boxes but no masks; use it for detection" in error_of(dataset.load, path)
    runs = {"size": [8, 6], "counts": [0, 48]}
    path = write_coco(
        tmp_path, annotations=[{"id": 9, "image_id": 1, "category_id": 4, "segmentation": runs}]
    )
    message = error_of(decode, dataset.load(path))
    assert message.startswith(f"{path}: annotation 9: run lengths are for the size [8, 6]")
    path = write_coco(tmp_path)
    save(tmp_path / "2.png", np.zeros((8, 6, 3), "uint8"))
    assert "is 6 x 8 as displayed" in error_of(decode, dataset.load(path))


def test_a_coco_file_without_annotations_is_refused(tmp_path):
    path = write_coco(tmp_path, annotations=[])
    assert f"has an object: {path}: it has no annotations" in error_of(dataset.load, path)


def test_a_coco_mask_of_another_size_is_refused_before_it_is_rasterized(tmp_path, monkeypatch):
    path = write_coco(tmp_path)
    content = json.loads(path.read_text())
    content["images"][0] |= {"width": 11_000, "height": 11_000}
    path.write_text(json.dumps(content))
    monkeypatch.setattr(coco_masks, "decode_segmentation", None)
    message = error_of(decode, dataset.load(path))
    assert "is 11000 x 11000 pixels; its image, " in message


def test_the_background_class_does_not_have_the_name_of_a_category(tmp_path):
    names = [{"id": 4, "name": "ground"}, {"id": 2, "name": "cat"}]
    assert dataset.load(write_coco(tmp_path, categories=names)).classes == (
        "background",
        "cat",
        "ground",
    )


def test_too_many_categories_are_refused(tmp_path):
    many = [{"id": n, "name": str(n)} for n in range(1, 255)]
    path = write_coco(tmp_path, categories=many)
    assert "has 255 classes; a mask has 254 at most" in error_of(dataset.load, path)


# TFDS


@pytest.fixture(scope="module")
def tfds_folder(tmp_path_factory):
    """A folder of tiny TFDS data sets with masks: with and without class names, and the pets."""
    import tensorflow_datasets as tfds

    folder = tmp_path_factory.mktemp("tfds")

    class Named(tfds.core.GeneratorBasedBuilder):
        pkg_dir_path = folder  # a class in a test has no package around it
        VERSION = tfds.core.Version("1.0.0")
        name = "zoo_named_masks"
        mask_name = "segmentation_mask"
        first = 0

        def mask(self):
            return tfds.features.LabeledImage(labels=["sky", "sea", "sand"], shape=(None, None, 1))

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(None, None, 3)),
                self.mask_name: self.mask(),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, _):
            return {"train": self._examples(12), "test": self._examples(4, 100)}

        def _generate_examples(self):
            return ()

        def _examples(self, count, start=0):
            for n in range(start, start + count):
                labels = random_labels(n) + np.uint8(self.first)
                yield n, {"image": image_of(labels), self.mask_name: labels[..., None]}

    class Counted(Named):
        name = "zoo_counted_masks"
        mask_name = "segmentation_label"

        def mask(self):
            return tfds.features.Image(shape=(None, None, 1), encoding_format="png")

    class Pets(Named):
        name = "oxford_iiit_pet"
        first = 1

        def mask(self):
            return tfds.features.Image(shape=(None, None, 1), use_colormap=True)

    class Maskless(Named):
        name = "zoo_maskless"
        mask_name = "other"

        def mask(self):
            return tfds.features.Image(shape=(None, None, 1))

    for kind in (Named, Counted, Pets):
        kind(data_dir=folder).download_and_prepare()
    return folder, {"oxford_iiit_pet": Pets}


def test_tfds_masks_have_the_class_names_of_their_feature(tfds_folder):
    source = dataset.load("tfds:zoo_named_masks", tfds_folder[0])
    assert source.classes == ("sky", "sea", "sand")
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 12, "test": 4}
    part = splits.select(source, "train[:5]")
    check_pairs(dataset.decode(part, 3, (6, 8, 3), "stretch"))
    train, validation, test = splits.train_val_test_split(source)
    assert len(train) + len(validation) == 12
    assert len(test) == 4


def test_tfds_masks_without_class_names_have_the_classes_of_their_values(tfds_folder, tmp_path):
    source = dataset.load("tfds:zoo_counted_masks", tfds_folder[0])
    assert source.classes == ("0", "1", "2")
    check_pairs(decode(source, "test"))
    path = tmp_path / "classes.txt"
    path.write_text("sky\nsea\nsand\n", encoding="utf-8")
    named = dataset.load("tfds:zoo_counted_masks", tfds_folder[0], str(path))
    assert named.classes == ("sky", "sea", "sand")


def test_masks_of_oxford_iiit_pet_start_at_one(tfds_folder, monkeypatch):
    from tasks.data import tfds_source

    folder, made = tfds_folder
    monkeypatch.setattr(
        tfds_source, "find_builder", lambda name, data_dir: made[name[5:]](data_dir=data_dir)
    )
    source = dataset.load("tfds:oxford_iiit_pet", folder)
    assert source.classes == ("pet", "background", "border")
    examples = decode(source, "train")
    assert np.array_equal(examples.pixels[..., 0], (examples.labels + 1) * 10)


def test_a_tfds_data_set_without_masks_is_refused(tfds_folder):
    message = error_of(dataset.load, "tfds:zoo_maskless", tfds_folder[0])
    assert "zoo_maskless has no image with a mask" in message
    assert "its features: image, other" in message


# Names


def test_an_unknown_data_set_is_refused_with_instructions(tmp_path):
    assert "no data set named 'shaps': not shapes, no such folder" in error_of(
        dataset.load, "shaps"
    )
    assert "folders images/ and masks/" in error_of(dataset.load, "")
    (tmp_path / "cats").mkdir()
    assert "contains no images with masks; expected" in error_of(dataset.load, tmp_path)
    (tmp_path / "a.txt").write_text("a")
    assert "contains no images with masks" in error_of(dataset.load, tmp_path / "a.txt")


def test_labels_are_mapped_to_the_classes_of_a_model_by_name(tmp_path):
    labels_by_name = write_pairs(tmp_path, "a")
    (tmp_path / "classes.txt").write_text("ground\ncat\ndog\nox\n", encoding="utf-8")
    source = dataset.load(tmp_path)
    split = dataset.relabel(source.splits["all"], source.classes, ("dog", "bird", "ground", "cat"))
    assert np.array_equal(split.labels[0].read(), np.array([2, 3, 0])[labels_by_name["a"]])
    assert dataset.relabel(split, source.classes, source.classes) is split
    split = dataset.relabel(source.splits["all"], source.classes, ("ground", "dog"))
    assert "a.png has classes that the model was not trained on: cat" in error_of(
        split.labels[0].read
    )


# Decoding


@pytest.fixture
def large():
    """A source of one image of large uniform fields, whose red channel is ten times the mask."""
    labels = np.kron(random_labels(3, (3, 5)), np.ones((20, 20), "uint8"))

    class ArrayMask:
        name = "array"

        def read(self):
            return labels

    split = Split("all", [image_of(labels)], object_array([ArrayMask()]))
    return Source("large", ("a", "b", "c"), {"all": split})


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize(
    "shape", [(60, 100, 3), (30, 50, 3), (48, 48, 3), (90, 40, 3), (128, 128, 3)]
)
def test_image_and_mask_are_resized_together(large, resize, shape):
    examples = decode(large, shape=shape, resize=resize)
    image, labels = examples.pixels[0], examples.labels[0]
    assert image.shape == shape
    assert labels.shape == shape[:2]
    assert set(np.unique(labels)) <= {0, 1, 2, IGNORE_LABEL}
    outside = labels == IGNORE_LABEL
    assert outside.any() == (resize == "pad" and shape[0] * 5 != shape[1] * 3)
    assert (image[outside] == 0).all()
    # Away from the borders of the fields, the image has the color of the label.
    margin = 4 if max(shape) > 100 else 3
    uniform = np.pad(np.ones([side - 2 * margin for side in labels.shape], bool), margin)
    for shift in itertools.product(range(-margin, margin + 1), repeat=2):
        uniform &= np.roll(labels, shift, (0, 1)) == labels
    uniform &= ~outside
    assert uniform.sum() > 20
    assert abs(image[..., 0][uniform].astype(int) - 10 * labels[uniform]).max() <= 1


def test_masks_that_do_not_fit_in_memory_are_on_disk_or_read_on_demand(tmp_path):
    write_pairs(tmp_path, "abcd")
    whole = (tmp_path / "masks/c.png").read_bytes()
    (tmp_path / "masks/c.png").write_bytes(whole[:20])
    source = dataset.load(tmp_path)
    in_memory, on_disk, lazy = (
        decode(source, shape=(4, 4, 3), **limits)
        for limits in ({}, {"memory": 0}, {"memory": 0, "disk": 0})
    )
    assert isinstance(in_memory.labels, np.ndarray)
    assert isinstance(on_disk.labels, np.memmap)
    assert isinstance(lazy.labels, dataset.LazyMasks)
    assert len(lazy) == len(lazy.labels) == 3
    assert lazy.labels.shape == in_memory.labels.shape == (3, 4, 4)
    for other in (on_disk, lazy):
        assert np.array_equal(other.labels[np.array([2, 0])], in_memory.labels[[2, 0]])
        assert np.array_equal(other.pixels[np.array([2, 0])], in_memory.pixels[[2, 0]])


# Batches


@pytest.fixture
def examples(tmp_path):
    write_pairs(tmp_path, [f"{n:02}" for n in range(11)])
    return decode(dataset.load(tmp_path))


def epoch(batches, *arguments):
    return [(image.numpy(), mask.numpy()) for image, mask in batches.epoch(*arguments)]


def same(one, other):
    return len(one) == len(other) and all(
        np.array_equal(a, b)
        for pair in zip(one, other, strict=True)
        for a, b in zip(*pair, strict=True)
    )


@pytest.mark.parametrize("augment", geometry.LEVELS)
def test_batches_depend_on_the_seed_and_the_epoch_only(examples, augment):
    batches = segmentation_batches.training(examples, batch_size=4, seed=1, augment=augment)
    assert (batches.size, batches.steps) == (4, 2)
    first = epoch(batches, 3)
    assert first[0][0].shape == (4, 6, 8, 3)
    assert first[0][1].shape == (4, 6, 8)
    assert first[0][0].dtype == first[0][1].dtype == np.uint8
    assert same(first, epoch(batches, 3))
    assert same(first[1:], epoch(batches, 3, 1))
    assert not same(first, epoch(batches, 4))
    other = segmentation_batches.training(examples, batch_size=4, seed=2, augment=augment)
    assert not same(first, epoch(other, 3))
    for _, mask in first:
        assert set(np.unique(mask)) <= {0, 1, 2, IGNORE_LABEL}


@pytest.mark.parametrize("augment", ["none", "mirror"])
def test_an_epoch_has_every_image_with_its_mask_once(examples, augment):
    batches = segmentation_batches.training(examples, batch_size=11, seed=0, augment=augment)
    [(images, masks)] = epoch(batches, 0)
    assert np.array_equal(images[..., 0], masks * 10)
    if augment == "none":
        assert sorted(mask.tobytes() for mask in masks) == sorted(
            mask.tobytes() for mask in examples.labels
        )


def test_an_unknown_augmentation_is_refused_and_the_batch_size_is_limited_by_the_data(examples):
    assert "no level" in error_of(
        segmentation_batches.training, examples, batch_size=2, seed=0, augment="x"
    )
    assert segmentation_batches.training(examples, batch_size=64, seed=0).size == 11


@pytest.mark.parametrize("size", [1, 3, 4, 11, 16])
def test_evaluation_batches_are_in_order_and_padded(examples, size):
    pairs = [
        (i.numpy(), m.numpy())
        for i, m in segmentation_batches.evaluation_batches(examples, batch_size=size)
    ]
    assert {len(image) for image, _ in pairs} == {size}
    images, masks = (np.concatenate(part) for part in zip(*pairs, strict=True))
    assert len(images) - size < 11 <= len(images)
    assert np.array_equal(images[:11], examples.pixels)
    assert np.array_equal(masks[:11], examples.labels)


def test_batches_are_the_same_for_images_read_on_demand(examples, tmp_path):
    lazy = decode(dataset.load(tmp_path), memory=0, disk=0)
    pipelines = [
        segmentation_batches.training(each, batch_size=4, seed=0, augment="light")
        for each in (examples, lazy)
    ]
    assert same(*(epoch(batches, 0) for batches in pipelines))
    assert isinstance(pipelines[1].epoch(0), tf.data.Dataset)


KINDS = {"bool": bool, "int64": "int64", "uint32": "uint32", "float32": "float32"}


@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_other_types_are_read_value_by_value(kind, tmp_path):
    labels = [regions(np.array(row, "uint8")) for row in ([0, 1, 2], [0, 1, 1])]
    write_masks(tmp_path, *labels)
    for number, label in enumerate(labels):
        (tmp_path / "masks" / f"{number}.png").unlink()
        np.save(tmp_path / "masks" / f"{number}.npy", label.astype(KINDS[kind]))
    source = dataset.load(tmp_path)
    part = source.splits["all"]
    for item, mask in zip(part.items, part.labels, strict=True):
        expected = labels[int(Path(item).stem)]
        np.testing.assert_array_equal(mask.read(), expected > 0 if kind == "bool" else expected)


def test_the_reason_why_no_mask_can_be_read_is_given(tmp_path):
    write_masks(tmp_path, regions(np.array([0, 1], "uint8")))
    (tmp_path / "masks" / "0.png").unlink()
    np.save(tmp_path / "masks" / "0.npy", np.full((24, 24), 0.5))
    message = error_of(dataset.load, tmp_path)
    assert message.startswith(f"no mask of {tmp_path} can be read; the first: ")
    assert message.endswith("0.npy: its pixel values are not integers")


@pytest.mark.parametrize("suffix", ["", "_seg"])
def test_masks_of_volumes_have_the_names_of_their_images(suffix, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    labels = np.stack([regions([0, 1, 2]), regions([2, 1, 0])])
    for folder, end, values in (("images", "", labels * 9), ("masks", suffix, labels)):
        (tmp_path / folder).mkdir()
        stored = values.astype("int16" if folder == "images" else "float64")
        image = nibabel.Nifti1Image(stored.transpose(2, 1, 0), np.eye(4))
        nibabel.save(image, tmp_path / folder / f"a{end}.nii.gz")
    part = dataset.load(f"{tmp_path}#pages=all").splits["all"]
    for mask, expected in zip(part.labels, labels, strict=True):
        np.testing.assert_array_equal(mask.read(), expected)
    assert "has a page 9; use all" in error_of(dataset.load, f"{tmp_path}#pages=9")
