"""Images with masks: where they come from, what is refused, how they are decoded and batched."""

from __future__ import annotations

import itertools
import json
import shlex

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tasks.data import coco_masks, geometry, image_io, shapes, splits
from tasks.data.dataset import Source, Split, object_array
from tasks.data.geometry import IGNORE_LABEL
from tasks.segmentation import batches as segmentation_batches
from tasks.segmentation import class_map, dataset
from zoo.errors import UsageError

PALETTE = [0, 0, 0, 200, 0, 0, 0, 200, 0]
TABLE = "name,r,g,b\nground,0,0,0\ncat,200,0,0\ndog,0,200,0\nvoid,9,9,9\n"


def labels_of(seed, size=(6, 8), count=3):
    """A random mask, another for each seed."""
    return np.random.default_rng(seed).integers(0, count, size, "uint8")


def image_of(labels):
    """An image whose red is the mask, tenfold."""
    return np.stack([labels * 10, 255 - labels, labels], -1)


def save(path, array, mode=None):
    """Writes an array as a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(array)
    if mode == "P":
        picture = Image.fromarray(array, mode="P")
        picture.putpalette(PALETTE + [9, 9, 9] * 253)
    elif mode:
        picture = picture.convert(mode)
    picture.save(path)


def fill(root, names, mode=None, ending=""):
    """Writes an image and a mask of each name; returns their labels by name."""
    found = {}
    for seed, name in enumerate(names):
        found[name] = labels_of(seed)
        save(root / "images" / f"{name}.png", image_of(found[name]))
        save(root / "masks" / f"{name}{ending}.png", found[name], mode)
    return found


def refused(call, *arguments, **named):
    """The message, which must be one line, with which a call is refused."""
    with pytest.raises(UsageError) as caught:
        call(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def decoded(source, split="all", shape=(6, 8, 3), resize="stretch", **options):
    return dataset.decode(source.splits[split], len(source.classes), shape, resize, **options)


def check_pairs(examples, known=3):
    """Checks that every image still has its own mask."""
    pixels, labels = examples.pixels[np.arange(len(examples))], examples.labels
    labels = labels[np.arange(len(examples))]
    there = labels < known
    assert there.any()
    assert np.array_equal(pixels[..., 0][there], labels[there] * 10)


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


# Keys


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
def test_lists_of_classes_are_read(tmp_path, text, classes, values, colours):
    path = tmp_path / "classes.txt"
    path.write_text(text, encoding="utf-8")
    key = class_map.read(path)
    assert key.classes == tuple(classes)
    assert key.values == values
    assert key.colours == (
        {(0, 0, 0): 0, (1, 1, 1): IGNORE_LABEL, (2, 2, 2): 1} if colours is None else colours
    )


def test_names_may_be_of_several_words(tmp_path):
    path = tmp_path / "classes.csv"
    path.write_text("traffic light,1,2,3\nroad,4,5,6\n", encoding="utf-8")
    assert class_map.read(path).classes == ("traffic light", "road")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no class; needed: a line for each class"),
        ("a\n", "has 1 classes; a mask has 2 to 254"),
        ("a,1\nb,1,2,3\n", "line 2: other cells than those of a class"),
        ("a,1,2\nb,3,4\n", "other cells"),
        ("a,1\nb,256\n", "line 2: the number 256 is beyond 255"),
        ("a,1,2,3\nb,1,2,3\n", "line 2: the colour (1, 2, 3) stands twice"),
    ],
)
def test_a_wrong_list_of_classes_is_refused(tmp_path, text, message):
    path = tmp_path / "classes.txt"
    path.write_text(text, encoding="utf-8")
    said = refused(class_map.read, path)
    assert str(path) in said
    assert message in said


# Folders


@pytest.mark.parametrize("mode", [None, "P", "RGB"])
@pytest.mark.parametrize("ending", ["", "_mask"])
def test_a_folder_without_a_list_has_as_many_classes_as_its_masks(tmp_path, mode, ending):
    found = fill(tmp_path, ["b", "a", "sub/c"], mode, ending)
    source = dataset.load(tmp_path)
    assert source.classes == ("0", "1", "2")
    split = source.splits["all"]
    assert len(split) == 3
    for item, mask in zip(split.items, split.labels, strict=True):
        name = item.removeprefix(f"{tmp_path}/images/").removesuffix(".png")
        assert np.array_equal(mask.read(), found[name])
    check_pairs(decoded(source))


def test_names_come_from_a_list_beside_the_folders(tmp_path):
    fill(tmp_path, "ab")
    (tmp_path / "classes.txt").write_text("ground\ncat\ndog\nnobody\n", encoding="utf-8")
    source = dataset.load(tmp_path)
    assert source.classes == ("ground", "cat", "dog", "nobody")
    examples = decoded(source)
    assert examples.counts.tolist() == [*np.bincount(np.ravel(examples.labels)), 0]
    assert dataset.missing_classes(examples, source.classes) == [
        "nobody"
    ]  # kept, and known to be absent


@pytest.mark.parametrize("mode", ["P", "RGB"])
def test_colours_are_looked_up_in_a_table(tmp_path, mode):
    found = fill(tmp_path, "abc", "P")
    found["a"][2, 3] = 7  # of the palette's third colour and all that follow, which is void
    for name, labels in found.items():
        path = tmp_path / "masks" / f"{name}.png"
        save(path, labels, "P")
        Image.open(path).convert(mode).save(path)
    if mode == "RGB":
        assert "is a mask in colours" in refused(dataset.load, tmp_path)
    table = tmp_path / "colours.csv"
    table.write_text(TABLE, encoding="utf-8")
    source = dataset.load(tmp_path, colours=str(table))
    assert source.classes == ("ground", "cat", "dog")
    for item, mask in zip(
        *(getattr(source.splits["all"], n) for n in ("items", "labels")), strict=True
    ):
        expected = found[item[-5]].copy()
        expected[expected == 7] = IGNORE_LABEL
        assert np.array_equal(mask.read(), expected)


def test_a_colour_that_nobody_lists_is_refused_by_name(tmp_path):
    found = fill(tmp_path, "ab")
    for name, labels in found.items():
        save(tmp_path / "masks" / f"{name}.png", image_of(labels % 2))
    (tmp_path / "classes.csv").write_text("x,0,255,0\ny,10,254,2\n", encoding="utf-8")
    said = refused(decoded, dataset.load(tmp_path))
    assert "masks/" in said
    assert "has the colour (10, 254, 1) at x " in said
    assert "classes.csv does not list; it lists (0, 255, 0), (10, 254, 2)" in said


@pytest.mark.parametrize("layout", ["{split}/{kind}", "{kind}/{split}"])
def test_folders_may_have_splits(tmp_path, layout):
    for seed, split in enumerate(("train", "val", "test")):
        for number in range(3):
            labels = labels_of(10 * seed + number)
            for kind, array in (("images", image_of(labels)), ("masks", labels)):
                save(tmp_path / layout.format(split=split, kind=kind) / f"{number}.png", array)
    source = dataset.load(tmp_path)
    assert {name: len(split) for name, split in source.splits.items()} == {
        "train": 3,
        "val": 3,
        "test": 3,
    }
    data = dataset.data(source, ("", "", ""), (6, 8, 3), "stretch")
    for examples in (data.train, data.validation, data.test):
        check_pairs(examples)


def test_a_folder_without_splits_is_split_by_the_content_of_images(tmp_path):
    fill(tmp_path, [f"{n:03}" for n in range(60)])
    source = dataset.load(tmp_path)
    parts = splits.train_val_test_split(source)
    assert sum(map(len, parts)) == 60
    assert len({item for part in parts for item in part.items}) == 60
    assert min(map(len, parts)) >= 1
    data = dataset.data(source, ("all[:50%]", "none", "all[50%:]"), (6, 8, 3), "stretch")
    assert (len(data.train), data.validation, len(data.test)) == (30, None, 30)
    check_pairs(data.train)


def test_images_without_a_mask_are_refused_by_name(tmp_path):
    fill(tmp_path, "abc")
    (tmp_path / "masks" / "b.png").unlink()
    said = refused(dataset.load, tmp_path)
    assert said.startswith(
        f"1 of 3 images of {tmp_path}/images have no mask in {tmp_path}/masks: b"
    )
    assert f"such as {tmp_path}/masks/b.png" in said


def test_what_is_no_pair_is_refused_or_named(tmp_path):
    fill(tmp_path, "ab")
    save(tmp_path / "masks" / "x.png", labels_of(0))
    (tmp_path / "masks" / "notes.txt").write_text("hello")
    (tmp_path / "images" / "notes.txt").write_text("hello")
    skipped = dict(dataset.load(tmp_path).skipped)
    assert skipped[f"{tmp_path}/masks/x.png"] == "a mask without an image"
    assert skipped[f"{tmp_path}/masks/notes.txt"].startswith("no mask")
    assert "not an image" in skipped[f"{tmp_path}/images/notes.txt"]
    save(tmp_path / "masks" / "a_mask.png", labels_of(0))
    assert "has 2 masks" in refused(dataset.load, tmp_path)
    (tmp_path / "masks" / "a_mask.png").unlink()
    (tmp_path / "masks" / "a.png").unlink()
    save(tmp_path / "masks" / "a.jpg", labels_of(0))
    assert "a.jpg is a JPEG, which blurs labels; save masks as PNG" in refused(
        dataset.load, tmp_path
    )


@pytest.mark.parametrize(("values", "said"), [((0, 0), "0"), ((7, 255), "7 and 255, which is")])
def test_masks_of_one_class_are_refused_with_a_way_out(tmp_path, values, said):
    fill(tmp_path, "a")
    save(tmp_path / "masks" / "a.png", np.tile(np.uint8(values), (6, 4)))
    message = refused(dataset.load, tmp_path)
    assert f"hold only {said}" in message
    assert f"'object,255,255,255' in {tmp_path}/classes.csv" in message


# What numbers mean


def regions(values, size=24):
    """A mask of square regions, one for each value."""
    side = int(np.ceil(np.sqrt(len(values))))
    grid = np.resize(np.array(values), (side, side))
    return np.kron(grid, np.ones((size // side,) * 2, grid.dtype)).astype(grid.dtype)


def write_masks(root, *masks):
    """Writes masks with an image of the same size each."""
    for number, labels in enumerate(masks):
        save(root / "images" / f"{number}.png", np.zeros((*labels.shape, 3), "uint8"))
        save(root / "masks" / f"{number}.png", labels)
    return root


@pytest.mark.parametrize("value", [1, 200, 254, 255, 65535])
def test_a_pair_of_numbers_is_background_and_object(tmp_path, value):
    kind = "uint16" if value > 255 else "uint8"
    labels = regions(np.array([0, value, value, value], kind))
    source = dataset.load(write_masks(tmp_path, labels))
    assert source.classes == ("background", "object")
    assert np.array_equal(source.splits["all"].labels[0].read(), labels > 0)
    examples = dataset.decode(source.splits["all"], 2, (24, 24, 3), "stretch")
    assert examples.counts.tolist() == [144, 432]


@pytest.mark.parametrize("mode", [None, "P", "RGB"])
def test_numbers_with_gaps_are_refused_with_the_list_to_write(tmp_path, mode):
    tmp_path = tmp_path / "lakes,rivers"
    write_masks(tmp_path, regions(np.uint8([0, 3, 200, 255])))
    save(tmp_path / "masks" / "0.png", regions(np.uint8([0, 3, 200, 255])), mode)
    said = refused(dataset.load, tmp_path)
    assert "hold 3 numbers with gaps between them, 0, 3, 200, and no list of classes" in said
    written = said.rpartition("printf ")[2]
    text, path = written.split(" > ")
    (path,) = shlex.split(path)
    assert path == f"{tmp_path}/classes.csv"
    (tmp_path / "classes.csv").write_text(text.strip("'").replace(r"\n", "\n"), encoding="utf-8")
    source = dataset.load(tmp_path)
    assert source.classes == ("0", "3", "200")
    assert np.unique(source.splits["all"].labels[0].read()).tolist() == [0, 1, 2, IGNORE_LABEL]


def test_numbers_that_do_not_begin_at_0_have_a_gap(tmp_path):
    said = refused(dataset.load, write_masks(tmp_path, regions(np.uint8([1, 2, 3, 3]))))
    assert "gaps between them, 1, 2, 3, and" in said
    assert r"printf '1,1\n2,2\n3,3\n' > " in said


def test_masks_that_number_objects_are_asked_about(tmp_path):
    """Objects 1 to 4 in one image and 1 to 9 in another are no nine classes."""
    said = refused(
        dataset.load,
        write_masks(
            tmp_path, regions(np.arange(5, dtype="u1")), regions(np.arange(10, dtype="u1"))
        ),
    )
    assert "seem to number objects (instances) and not classes" in said
    assert "N differs from 4 to 9" in said
    assert "(mask > 0)" in said
    assert r"printf '0,0\n1,1\n2,2\n" in said
    (tmp_path / "classes.csv").write_text(
        "background,0\n" + "".join(f"thing,{n}\n" for n in range(1, 10)), encoding="utf-8"
    )
    assert dataset.load(tmp_path).classes == ("background", "thing")


def test_numbers_of_many_objects_are_no_classes(tmp_path):
    labels = [regions(np.array([0, 26001, 26002 + n], "uint16")) for n in range(2)]
    said = refused(dataset.load, write_masks(tmp_path, *labels))
    assert "hold numbers from 0 to 26003; classes are 0 to 253" in said
    assert "(instances)" in said


def test_classes_that_every_image_has_are_no_objects(tmp_path):
    """An image without any object beside one with all classes says nothing of instances."""
    masks = (regions(np.uint8([0])), regions(np.uint8([0, 1, 2, 3])))
    assert dataset.load(write_masks(tmp_path, *masks)).classes == ("0", "1", "2", "3")


@pytest.mark.parametrize("by", ["resizing", "JPEG"])
@pytest.mark.parametrize("listed", [False, True])
def test_blurred_masks_are_called_so(tmp_path, by, listed):
    disc = np.hypot(*np.mgrid[-32:32, -32:32]) < 20
    large = Image.fromarray(np.uint8(255 * disc)).resize((200, 200), Image.Resampling.NEAREST)
    if by == "JPEG":
        large.save(tmp_path / "mask.jpg", quality=60)
        blurred = np.asarray(Image.open(tmp_path / "mask.jpg"))
    else:
        blurred = np.asarray(large.resize((128, 128), Image.Resampling.BILINEAR))
    write_masks(tmp_path, blurred)
    if listed:
        (tmp_path / "classes.csv").write_text("ground,0\nobject,255\n", encoding="utf-8")
    said = refused(lambda: dataset.load(tmp_path).splits["all"].labels[0].read())
    assert "at the edges of regions: antialiasing, smooth resizing or JPEG" in said
    assert "the label 254" not in said


def test_masks_are_named_as_a_trained_model_names_them(tmp_path):
    """To evaluate on images that lack a class takes no list of classes."""
    write_masks(tmp_path, regions(np.uint8([0, 2])))
    assert dataset.load(tmp_path).classes == ("background", "object")
    source = dataset.load(tmp_path, classes=("0", "1", "2"))
    assert source.classes == ("0", "1", "2")
    assert np.unique(source.splits["all"].labels[0].read()).tolist() == [0, 2]


# Checks of masks


def test_a_mask_of_another_size_is_refused_by_name(tmp_path):
    fill(tmp_path, "ab")
    save(tmp_path / "masks" / "b.png", labels_of(1, (8, 6)))
    said = refused(decoded, dataset.load(tmp_path))
    assert said.startswith(
        f"{tmp_path}/masks/b.png is 6 x 8 pixels; its image, {tmp_path}/images/b.png"
    )
    assert "is 8 x 6" in said


def test_a_photo_is_as_large_as_it_is_seen(tmp_path):
    """A photo that is stored lying on its side has a mask that stands upright."""
    labels = np.kron(labels_of(0, (3, 2)), np.ones((32, 32), "uint8"))
    stored = Image.fromarray(np.rot90(image_of(labels)))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    (tmp_path / "images").mkdir()
    stored.save(tmp_path / "images" / "a.jpg", quality=100, subsampling=0, exif=exif)
    assert image_io.image_size(tmp_path / "images" / "a.jpg") == (96, 64)
    save(tmp_path / "masks" / "a.png", labels)
    (tmp_path / "classes.txt").write_text("ground\ncat\ndog\n", encoding="utf-8")
    examples = decoded(dataset.load(tmp_path), shape=(96, 64, 3))
    assert abs(examples.pixels[0, ..., 0].astype(int) - 10 * labels).mean() < 1
    save(tmp_path / "masks" / "a.png", labels[:, :32])
    assert "is 64 x 96 as it is seen" in refused(decoded, dataset.load(tmp_path))


def turned_photo(root, labels, orientation):
    """Writes an image that EXIF turns so that it shows a mask, tenfold; returns both as stored."""
    back = {6: lambda x: np.rot90(x), 8: lambda x: np.rot90(x, -1), 3: lambda x: np.rot90(x, 2)}
    back |= {5: lambda x: np.swapaxes(x, 0, 1), 7: lambda x: np.swapaxes(np.rot90(x, 2), 0, 1)}
    exif = Image.Exif()
    exif[0x0112] = orientation
    (root / "images").mkdir(exist_ok=True)
    stored = Image.fromarray(back[orientation](image_of(labels)))
    stored.save(root / "images" / "a.jpg", quality=100, subsampling=0, exif=exif)
    return back[orientation](labels)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("room", [{}, {"memory": 0, "disk": 0}])
def test_a_mask_of_the_size_of_the_stored_photo_is_turned_with_it(tmp_path, orientation, room):
    labels = np.kron(labels_of(0, (3, 2)), np.ones((32, 32), "uint8"))
    stored = turned_photo(tmp_path, labels, orientation)
    save(tmp_path / "masks" / "a.png", stored)
    (tmp_path / "classes.txt").write_text("ground\ncat\ndog\n", encoding="utf-8")
    examples = decoded(dataset.load(tmp_path), shape=(96, 64, 3), **room)
    assert np.array_equal(examples.labels[np.array([0])][0], labels)
    assert abs(examples.pixels[np.array([0])][0, ..., 0].astype(int) - 10 * labels).mean() < 1
    assert examples.notes == ()


@pytest.mark.parametrize(("orientation", "size"), [(3, (3, 2)), (6, (3, 3))])
def test_a_turned_photo_is_named_where_the_size_of_its_mask_says_nothing(
    tmp_path, orientation, size
):
    labels = np.kron(labels_of(0, size), np.ones((32, 32), "uint8"))
    turned_photo(tmp_path, labels, orientation)
    save(tmp_path / "masks" / "a.png", labels)
    (tmp_path / "classes.txt").write_text("ground\ncat\ndog\n", encoding="utf-8")
    examples = decoded(dataset.load(tmp_path), shape=(*labels.shape, 3))
    assert np.array_equal(examples.labels[0], labels)
    [note] = examples.notes
    assert note == (
        "EXIF rotates 1 image of all, and it is unknown whether the masks are for the image "
        f"as stored or as shown; assumed as shown: {tmp_path}/images/a.jpg"
    )


def test_sizes_are_those_of_images(tmp_path):
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
        refused(image_io.image_size, item)


def test_a_label_beyond_the_classes_is_refused_by_name(tmp_path):
    found = fill(tmp_path, "ab")
    (tmp_path / "classes.txt").write_text("ground\ncat\ndog\n", encoding="utf-8")
    found["b"][4, 7] = 9  # a single pixel, which a smaller mask would not show
    save(tmp_path / "masks" / "b.png", found["b"])
    said = refused(decoded, dataset.load(tmp_path), shape=(2, 2, 3))
    assert said.startswith(f"{tmp_path}/masks/b.png has the label 9 at x 7, y 4")
    assert "has 3 classes, labels 0 to 2, and 255 for what is ignored" in said


def test_labels_of_16_bits_are_refused_by_their_value(tmp_path):
    fill(tmp_path, "ab")
    (tmp_path / "classes.txt").write_text("ground\ncat\ndog\n", encoding="utf-8")
    save(tmp_path / "masks" / "b.png", np.full((6, 8), 1001, "uint16"))
    assert "b.png has the label 1001" in refused(decoded, dataset.load(tmp_path))


def test_what_is_ignored_stays_so_and_is_not_counted(tmp_path):
    found = fill(tmp_path, "a")
    found["a"][:3] = IGNORE_LABEL
    save(tmp_path / "masks" / "a.png", found["a"])
    examples = decoded(dataset.load(tmp_path))
    assert (examples.labels[0][:3] == IGNORE_LABEL).all()
    assert examples.counts.sum() == 24


def test_masks_in_which_all_is_ignored_are_refused(tmp_path):
    fill(tmp_path, "a")
    (tmp_path / "classes.txt").write_text("ground\ncat\n", encoding="utf-8")
    save(tmp_path / "masks" / "a.png", np.full((6, 8), IGNORE_LABEL, "uint8"))
    assert "every pixel of the masks of all is ignored" in refused(decoded, dataset.load(tmp_path))


def test_an_unreadable_image_or_mask_is_dropped_with_its_other_half(tmp_path):
    fill(tmp_path, "abcd")
    for path in ("images/b.png", "masks/c.png"):
        whole = (tmp_path / path).read_bytes()
        (tmp_path / path).write_bytes(whole[: len(whole) // 2])
    examples = decoded(dataset.load(tmp_path))
    assert len(examples) == len(examples.pixels) == 2
    assert sorted(name[-12:] for name, _ in examples.dropped) == [
        "/masks/c.png",
        "images/b.png",
    ]
    check_pairs(examples)


# COCO


def write_coco(root, file="all.json", **changes):
    """Writes two images and annotations of them."""
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


def test_coco_masks_by_hand(tmp_path):
    source = dataset.load(write_coco(tmp_path))
    assert source.classes == ("ground", "cat", "dog")
    dog, crowd = (mask.read() for mask in source.splits["all"].labels)
    expected = np.full((6, 8), 2)
    expected[2:4, 2:4] = 1  # the smaller one is in front, though the file has it in any order
    assert np.array_equal(dog, expected)
    expected = np.zeros((6, 8))
    expected[:, :2] = IGNORE_LABEL  # the crowd
    expected[4:, 5:] = IGNORE_LABEL  # an object of which there is only a box
    expected[0, 1:3] = 2
    assert np.array_equal(crowd, expected)
    assert decoded(source).counts.sum() == 96 - 11 - 6


def test_splits_of_coco_need_the_same_categories(tmp_path):
    for split in ("train", "val"):
        write_coco(tmp_path / split, "_annotations.coco.json")
    source = dataset.load(tmp_path)
    assert list(source.splits) == ["train", "val"]
    other = [{"id": 4, "name": "dog"}, {"id": 2, "name": "ox"}]
    write_coco(tmp_path / "val", "_annotations.coco.json", categories=other)
    said = refused(dataset.load, tmp_path)
    assert "val/_annotations.coco.json has the categories ox, dog" in said


def test_what_is_wrong_in_coco_is_refused_by_name(tmp_path):
    boxes = [{"id": 1, "image_id": 1, "category_id": 4, "bbox": [0, 0, 2, 2]}]
    path = write_coco(tmp_path, annotations=boxes)
    assert "has no masks but 1 boxes: it is for detection" in refused(dataset.load, path)
    runs = {"size": [8, 6], "counts": [0, 48]}
    path = write_coco(
        tmp_path, annotations=[{"id": 9, "image_id": 1, "category_id": 4, "segmentation": runs}]
    )
    said = refused(decoded, dataset.load(path))
    assert said.startswith(f"{path}: annotation 9: run lengths are for the size [8, 6]")
    path = write_coco(tmp_path)
    save(tmp_path / "2.png", np.zeros((8, 6, 3), "uint8"))
    assert "is 6 x 8 as it is seen" in refused(decoded, dataset.load(path))


def test_a_coco_file_without_annotations_is_called_so(tmp_path):
    path = write_coco(tmp_path, annotations=[])
    assert f"has an object: {path}: it has no annotations" in refused(dataset.load, path)


def test_no_mask_is_drawn_of_another_size_than_its_image(tmp_path, monkeypatch):
    path = write_coco(tmp_path)
    content = json.loads(path.read_text())
    content["images"][0] |= {"width": 11_000, "height": 11_000}
    path.write_text(json.dumps(content))
    monkeypatch.setattr(coco_masks, "decode_segmentation", None)
    said = refused(decoded, dataset.load(path))
    assert "is 11000 x 11000 pixels; its image, " in said


def test_a_category_called_ground_gets_another_ground(tmp_path):
    names = [{"id": 4, "name": "ground"}, {"id": 2, "name": "cat"}]
    assert dataset.load(write_coco(tmp_path, categories=names)).classes == (
        "background",
        "cat",
        "ground",
    )


def test_more_categories_than_a_mask_can_tell_are_refused(tmp_path):
    many = [{"id": n, "name": str(n)} for n in range(1, 255)]
    path = write_coco(tmp_path, categories=many)
    assert "has 255 classes; a mask tells 254 apart" in refused(dataset.load, path)


# TFDS


@pytest.fixture(scope="module")
def tfds_folder(tmp_path_factory):
    """A folder with tiny data sets of TFDS that have masks: named, counted, and like the pets."""
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
                labels = labels_of(n) + np.uint8(self.first)
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


def test_masks_of_tfds_have_the_names_of_their_makers(tfds_folder):
    source = dataset.load("tfds:zoo_named_masks", tfds_folder[0])
    assert source.classes == ("sky", "sea", "sand")
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 12, "test": 4}
    part = splits.select(source, "train[:5]")
    check_pairs(dataset.decode(part, 3, (6, 8, 3), "stretch"))
    train, validation, test = splits.train_val_test_split(source)
    assert len(train) + len(validation) == 12
    assert len(test) == 4


def test_masks_of_tfds_without_names_are_counted(tfds_folder, tmp_path):
    source = dataset.load("tfds:zoo_counted_masks", tfds_folder[0])
    assert source.classes == ("0", "1", "2")
    check_pairs(decoded(source, "test"))
    path = tmp_path / "classes.txt"
    path.write_text("sky\nsea\nsand\n", encoding="utf-8")
    named = dataset.load("tfds:zoo_counted_masks", tfds_folder[0], str(path))
    assert named.classes == ("sky", "sea", "sand")


def test_masks_of_the_pets_count_from_one(tfds_folder, monkeypatch):
    from tasks.data import tfds_source

    folder, made = tfds_folder
    monkeypatch.setattr(
        tfds_source, "find_builder", lambda name, data_dir: made[name[5:]](data_dir=data_dir)
    )
    source = dataset.load("tfds:oxford_iiit_pet", folder)
    assert source.classes == ("pet", "background", "border")
    examples = decoded(source, "train")
    assert np.array_equal(examples.pixels[..., 0], (examples.labels + 1) * 10)


def test_tfds_without_masks_is_refused(tfds_folder):
    said = refused(dataset.load, "tfds:zoo_maskless", tfds_folder[0])
    assert "zoo_maskless has no image with a mask" in said
    assert "its features: image, other" in said


# Names


def test_a_name_of_nothing_is_refused_with_a_way_out(tmp_path):
    assert "no data set named 'shaps': not shapes, no such folder" in refused(dataset.load, "shaps")
    assert "folders images/ and masks/" in refused(dataset.load, "")
    (tmp_path / "cats").mkdir()
    assert "holds no images with masks; needed" in refused(dataset.load, tmp_path)
    (tmp_path / "a.txt").write_text("a")
    assert "holds no images with masks" in refused(dataset.load, tmp_path / "a.txt")


def test_labels_go_by_the_names_that_a_model_was_taught(tmp_path):
    found = fill(tmp_path, "a")
    (tmp_path / "classes.txt").write_text("ground\ncat\ndog\nox\n", encoding="utf-8")
    source = dataset.load(tmp_path)
    split = dataset.relabel(source.splits["all"], source.classes, ("dog", "bird", "ground", "cat"))
    assert np.array_equal(split.labels[0].read(), np.array([2, 3, 0])[found["a"]])
    assert dataset.relabel(split, source.classes, source.classes) is split
    split = dataset.relabel(source.splits["all"], source.classes, ("ground", "dog"))
    assert "a.png has classes that the model was not taught: cat" in refused(split.labels[0].read)


# Decoding


@pytest.fixture
def large():
    """A source of one image of large fields, whose red is ten times the mask."""
    labels = np.kron(labels_of(3, (3, 5)), np.ones((20, 20), "uint8"))

    class Held:
        name = "held"

        def read(self):
            return labels

    split = Split("all", [image_of(labels)], object_array([Held()]))
    return Source("large", ("a", "b", "c"), {"all": split})


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize(
    "shape", [(60, 100, 3), (30, 50, 3), (48, 48, 3), (90, 40, 3), (128, 128, 3)]
)
def test_image_and_mask_are_resized_alike(large, resize, shape):
    examples = decoded(large, shape=shape, resize=resize)
    image, labels = examples.pixels[0], examples.labels[0]
    assert image.shape == shape
    assert labels.shape == shape[:2]
    assert set(np.unique(labels)) <= {0, 1, 2, IGNORE_LABEL}
    outside = labels == IGNORE_LABEL
    assert outside.any() == (resize == "pad" and shape[0] * 5 != shape[1] * 3)
    assert (image[outside] == 0).all()
    # Away from the borders of fields, the image has the colour of the label.
    reach = 4 if max(shape) > 100 else 3
    even = np.pad(np.ones([side - 2 * reach for side in labels.shape], bool), reach)
    for way in itertools.product(range(-reach, reach + 1), repeat=2):
        even &= np.roll(labels, way, (0, 1)) == labels
    even &= ~outside
    assert even.sum() > 20
    assert abs(image[..., 0][even].astype(int) - 10 * labels[even]).max() <= 1


def test_masks_are_read_anew_where_there_is_no_room(tmp_path):
    fill(tmp_path, "abcd")
    whole = (tmp_path / "masks/c.png").read_bytes()
    (tmp_path / "masks/c.png").write_bytes(whole[:20])
    source = dataset.load(tmp_path)
    held, filed, lazy = (
        decoded(source, shape=(4, 4, 3), **room)
        for room in ({}, {"memory": 0}, {"memory": 0, "disk": 0})
    )
    assert isinstance(held.labels, np.ndarray)
    assert isinstance(filed.labels, np.memmap)
    assert isinstance(lazy.labels, dataset.LazyMasks)
    assert len(lazy) == len(lazy.labels) == 3
    assert lazy.labels.shape == held.labels.shape == (3, 4, 4)
    for other in (filed, lazy):
        assert np.array_equal(other.labels[np.array([2, 0])], held.labels[[2, 0]])
        assert np.array_equal(other.pixels[np.array([2, 0])], held.pixels[[2, 0]])


# Batches


@pytest.fixture
def examples(tmp_path):
    fill(tmp_path, [f"{n:02}" for n in range(11)])
    return decoded(dataset.load(tmp_path))


def batches(stream, *arguments):
    return [(image.numpy(), mask.numpy()) for image, mask in stream.epoch(*arguments)]


def same(one, other):
    return len(one) == len(other) and all(
        np.array_equal(a, b)
        for pair in zip(one, other, strict=True)
        for a, b in zip(*pair, strict=True)
    )


@pytest.mark.parametrize("augment", geometry.LEVELS)
def test_epochs_are_functions_of_seed_and_number(examples, augment):
    stream = segmentation_batches.training(examples, batch_size=4, seed=1, augment=augment)
    assert (stream.size, stream.steps) == (4, 2)
    first = batches(stream, 3)
    assert first[0][0].shape == (4, 6, 8, 3)
    assert first[0][1].shape == (4, 6, 8)
    assert first[0][0].dtype == first[0][1].dtype == np.uint8
    assert same(first, batches(stream, 3))
    assert same(first[1:], batches(stream, 3, 1))
    assert not same(first, batches(stream, 4))
    other = segmentation_batches.training(examples, batch_size=4, seed=2, augment=augment)
    assert not same(first, batches(other, 3))
    for _, mask in first:
        assert set(np.unique(mask)) <= {0, 1, 2, IGNORE_LABEL}


@pytest.mark.parametrize("augment", ["none", "mirror"])
def test_images_keep_their_masks_and_each_is_seen_once(examples, augment):
    stream = segmentation_batches.training(examples, batch_size=11, seed=0, augment=augment)
    [(images, masks)] = batches(stream, 0)
    assert np.array_equal(images[..., 0], masks * 10)
    if augment == "none":
        assert sorted(mask.tobytes() for mask in masks) == sorted(
            mask.tobytes() for mask in examples.labels
        )


def test_a_wrong_level_is_refused_and_batches_are_no_larger_than_the_data(examples):
    assert "no level" in refused(
        segmentation_batches.training, examples, batch_size=2, seed=0, augment="x"
    )
    assert segmentation_batches.training(examples, batch_size=64, seed=0).size == 11


@pytest.mark.parametrize("size", [1, 3, 4, 11, 16])
def test_the_whole_split_comes_once_in_order_and_padded(examples, size):
    pairs = [
        (i.numpy(), m.numpy())
        for i, m in segmentation_batches.evaluation_batches(examples, batch_size=size)
    ]
    assert {len(image) for image, _ in pairs} == {size}
    images, masks = (np.concatenate(part) for part in zip(*pairs, strict=True))
    assert len(images) - size < 11 <= len(images)
    assert np.array_equal(images[:11], examples.pixels)
    assert np.array_equal(masks[:11], examples.labels)


def test_batches_are_the_same_wherever_images_are(examples, tmp_path):
    lazy = decoded(dataset.load(tmp_path), memory=0, disk=0)
    streams = [
        segmentation_batches.training(each, batch_size=4, seed=0, augment="light")
        for each in (examples, lazy)
    ]
    assert same(*(batches(stream, 0) for stream in streams))
    assert isinstance(streams[1].epoch(0), tf.data.Dataset)
