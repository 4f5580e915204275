"""Data sets by name, slices of their splits, and the split into train, validation and test."""

from __future__ import annotations

import csv
import hashlib
import random
import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from tasks.classification.relabel import relabel
from tasks.data import batches, decoding, image_io, sources, splits, tfds_source
from tasks.data.dataset import Source, Split
from zoo import paths
from zoo.errors import UsageError


def draw(path, seed):
    """Writes a small image, different for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), "uint8")
    Image.fromarray(pixels).save(path)


def fill(root, sizes, start=0):
    """Writes `sizes[class]` images into each class folder; returns the next free seed."""
    for name, size in sizes.items():
        for seed in range(start, start + size):
            draw(root / name / f"{seed:05}.png", seed)
        start += size
    return start


def write_csv(path, rows, encoding="utf-8"):
    """Writes rows, lists of cells, as a CSV file."""
    with open(path, "w", newline="", encoding=encoding) as file:
        csv.writer(file).writerows(rows)
    return str(path)


def arrays(labels, classes=None, names=("all",), copies=None):
    """Returns a source of distinct arrays of height 1; `copies` maps an index to its original."""
    labels = np.asarray(labels, "int64")
    items = [np.frombuffer(f"{n:08}".encode(), "uint8").reshape(1, 8) for n in range(len(labels))]
    for position, original in (copies or {}).items():
        items[position] = items[original]
    parts = np.array_split(np.arange(len(labels)), len(names))
    everything = Split("everything", items, labels)
    classes = classes or tuple(str(n) for n in range(labels.max() + 1))
    return Source(
        "arrays", classes, {n: everything.take(p, n) for n, p in zip(names, parts, strict=True)}
    )


def keys(split):
    """Returns the content digests of a split, as a set."""
    return {splits.content_digest(item) for item in split.items}


def error_of(call, *arguments, **named):
    """Returns the message of the `UsageError` of a call, which must be one line."""
    with pytest.raises(UsageError) as caught:
        call(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Built-ins


def test_fashion_sample_is_balanced_real_and_licensed():
    source = sources.load("fashion_sample")
    assert source.classes[0] == "T-shirt/top"
    assert source.classes[9] == "Ankle boot"
    for name, each in (("train", 400), ("test", 100)):
        split = source.splits[name]
        assert np.bincount(split.labels).tolist() == [each] * 10
        assert split.labels.dtype == np.int64
        assert split.items[0].shape == (28, 28)
        assert split.items[0].dtype == np.uint8
        assert len(keys(split)) == len(split)
    assert np.bincount(source.splits["train"].labels[:200]).tolist() == [20] * 10
    assert not keys(source.splits["train"]) & keys(source.splits["test"])
    assert "Zalando" in source.licence


@pytest.mark.slow
def test_fashion_sample_is_part_of_the_official_data_set(zoo_data):
    sample = sources.load("fashion_sample")
    whole = sources.load("tfds:fashion_mnist", zoo_data / "tfds")
    assert whole.classes == sample.classes
    for name, split in sample.splits.items():
        official = whole.splits[name]
        label_of = {
            hashlib.sha256(image_io.read_image(item, (28, 28, 1)).tobytes()).digest(): label
            for item, label in zip(official.items, official.labels, strict=True)
        }
        for item, label in zip(split.items, split.labels, strict=True):
            assert label_of[hashlib.sha256(item.tobytes()).digest()] == label


def test_labels_of_shapes_need_no_rendering(monkeypatch):
    from tasks.data import shapes

    monkeypatch.setattr(shapes, "draw", lambda *_, **__: pytest.fail("drawn"))
    source = sources.load("shapes")
    train, validation, test = splits.train_val_test_split(source)
    assert (len(train), len(validation), len(test)) == (2048, 256, 256)
    assert source.classes == tuple(shapes.SHAPES)
    half = splits.select(source, "train[50%:]")
    assert half.labels.tolist() == train.labels[1024:].tolist()
    monkeypatch.undo()
    assert np.array_equal(half.items[0], shapes.draw("train", 1024).image)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "flowerz",
            "no data set named 'flowerz': not a built-in (fashion_sample, shapes), no such folder "
            "or file; for TensorFlow Datasets write tfds:flowerz",
        ),
        ("fashion_sampel", "no data set named 'fashion_sampel'; did you mean fashion_sample?"),
        ("shape", "no data set named 'shape'; did you mean shapes?"),
        (
            "",
            "no data set named '': not a built-in (fashion_sample, shapes), no such folder or file",
        ),
        (
            "no/where.csv",
            "no data set named 'no/where.csv': not a built-in (fashion_sample, shapes), no such "
            "folder or file",
        ),
    ],
)
def test_unknown_names_are_rejected_with_a_hint(name, message):
    assert error_of(sources.load, name) == message


def test_files_other_than_csv_are_rejected(tmp_path):
    (tmp_path / "data.doc").touch()
    assert "is a file, but not a CSV file" in error_of(sources.load, tmp_path / "data.doc")


# Folders


def test_a_folder_of_class_folders(tmp_path):
    fill(tmp_path, {"dog": 3, "cat": 2})
    draw(tmp_path / "cat" / "kittens" / "deep.png", 99)
    source = sources.load(tmp_path)
    assert source.classes == ("cat", "dog")
    split = source.splits["all"]
    assert np.bincount(split.labels).tolist() == [3, 3]
    for item, label in zip(split.items, split.labels, strict=True):
        assert source.classes[label] in item
        assert image_io.read_image(item, (2, 2, 3)).shape == (2, 2, 3)
    assert source.skipped == ()


def test_a_slice_of_a_folder_has_all_classes(tmp_path):
    fill(tmp_path, dict.fromkeys("abc", 30))
    half = splits.select(sources.load(tmp_path), "all[:50%]")
    assert np.bincount(half.labels).min() >= 8
    again = splits.select(sources.load(tmp_path), "all[:50%]")
    assert list(half.items) == list(again.items)


def test_integer_class_names_are_sorted_numerically(tmp_path):
    fill(tmp_path, {"10": 1, "2": 1, "-1": 1})
    assert sources.load(tmp_path).classes == ("-1", "2", "10")
    fill(tmp_path, {"x": 1}, start=9)
    assert sources.load(tmp_path).classes == ("-1", "10", "2", "x")


def test_decimal_class_names_are_sorted_numerically(tmp_path):
    fill(tmp_path, {"x": 6})
    names = ["1", ".33", "0", "-2.5", "10", ".67"]
    rows = [[f"x/{number:05}.png", name] for number, name in enumerate(names)]
    source = sources.load(write_csv(tmp_path / "a.csv", [["path", "label"], *rows]))
    assert source.classes == ("-2.5", "0", ".33", ".67", "1", "10")


@pytest.mark.parametrize("validation", ["val", "valid", "validation"])
def test_a_folder_of_split_folders(tmp_path, validation):
    start = fill(tmp_path / "train", {"a": 4, "b": 4})
    start = fill(tmp_path / validation, {"a": 1, "b": 2}, start)
    fill(tmp_path / "Test", {"a": 2, "b": 2}, start)
    source = sources.load(tmp_path)
    assert list(source.splits) == ["train", validation, "test"]
    assert [len(part) for part in splits.train_val_test_split(source)] == [8, 3, 4]
    for name in ("val", "valid", "validation"):
        assert len(splits.select(source, name)) == 3


def test_a_class_may_be_named_train(tmp_path):
    fill(tmp_path, {"train": 2, "bus": 2})
    assert sources.load(tmp_path).classes == ("bus", "train")


def test_hidden_files_are_ignored_and_other_files_reported(tmp_path):
    fill(tmp_path, {"cat": 2, "dog": 2})
    for hidden in (".DS_Store", "cat/.DS_Store", "cat/Thumbs.db", "dog/._00002.png"):
        (tmp_path / hidden).write_bytes(b"\0\0")
    draw(tmp_path / "__MACOSX" / "cat" / "1.png", 5)
    draw(tmp_path / ".git" / "1.png", 5)
    assert sources.load(tmp_path).skipped == ()
    (tmp_path / "cat" / "notes.txt").write_text("a note")
    (tmp_path / "dog" / "fake.jpg").write_text("a note")
    (tmp_path / "dog" / "none.png").touch()
    draw(tmp_path / "loose.png", 6)
    source = sources.load(tmp_path)
    assert source.classes == ("cat", "dog")
    assert len(source.splits["all"]) == 4
    reasons = {path.removeprefix(f"{tmp_path}/"): reason for path, reason in source.skipped}
    assert reasons.pop("cat/notes.txt").startswith("not an image by its suffix")
    assert reasons == {
        "dog/fake.jpg": "not an image by its first bytes",
        "dog/none.png": "empty file",
        "loose.png": "not in a class folder",
    }


def test_folders_beside_the_splits_are_reported(tmp_path):
    start = fill(tmp_path / "train", {"a": 2, "b": 2})
    draw(tmp_path / "test" / "1.png", start)
    source = sources.load(tmp_path)
    assert list(source.splits) == ["train"]
    assert source.skipped[0][0] == str(tmp_path / "test")
    assert "with class folders" in source.skipped[0][1]


def test_an_empty_folder_is_rejected(tmp_path):
    assert "is empty" in error_of(sources.load, tmp_path)


def test_a_folder_without_images_is_rejected(tmp_path):
    (tmp_path / "notes.txt").touch()
    assert "no images in" in error_of(sources.load, tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert f"no images in {tmp_path}; add some" in error_of(sources.load, tmp_path)


def test_an_empty_class_folder_is_left_out_with_a_note(tmp_path):
    start = fill(tmp_path / "train", {"cat": 2, "cow": 2})
    fill(tmp_path / "test", {"cat": 2, "cow": 2}, start)
    (tmp_path / "train" / "dog").mkdir()
    source = sources.load(tmp_path)
    assert source.classes == ("cat", "cow")
    assert source.notes == ("class folders without files, left out: dog",)
    assert set(source.splits["train"].labels) == {0, 1}


def test_a_class_whose_files_are_no_images_is_rejected_by_name(tmp_path):
    fill(tmp_path, {"cat": 2, "cow": 2})
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "a.jpg").write_text("text")
    assert f"no images of dog in {tmp_path}" in error_of(sources.load, tmp_path)
    message = error_of(sources.load, tmp_path)
    assert f"skipped 1, the first {tmp_path}/dog/a.jpg: not an image by its first" in message


def test_a_single_class_is_rejected(tmp_path):
    fill(tmp_path, {"cat": 2})
    assert "has one class, 'cat'" in error_of(sources.load, tmp_path)
    fill(tmp_path, {"cat/tabby": 2, "cat/lion": 2})
    assert f"did you mean {tmp_path / 'cat'}?" in error_of(sources.load, tmp_path)


def test_images_without_class_folders_are_rejected_with_a_hint(tmp_path):
    draw(tmp_path / "a.png", 0)
    message = error_of(sources.load, tmp_path)
    assert "has 1 images but no class folders" in message
    assert f"{tmp_path}/cat/a.png" in message


def test_a_class_may_be_absent_from_the_validation_or_test_split(tmp_path):
    start = fill(tmp_path / "train", {"a": 2, "b": 2, "c": 2})
    start = fill(tmp_path / "val", {"a": 2, "c": 2}, start)
    fill(tmp_path / "test", {"b": 1}, start)
    source = sources.load(tmp_path)
    assert source.classes == ("a", "b", "c")
    labels = {name: sorted(part.labels) for name, part in source.splits.items()}
    assert labels == {"train": [0, 0, 1, 1, 2, 2], "val": [0, 0, 2, 2], "test": [1]}
    assert splits.train_val_test_split(source)[0].name == "train"


def test_a_class_folder_of_the_test_split_only_is_rejected_by_name(tmp_path):
    start = fill(tmp_path / "train", {"a": 2, "b": 2})
    fill(tmp_path / "test", {"a": 2, "b": 2, "d": 2}, start)
    message = error_of(splits.train_val_test_split, sources.load(tmp_path))
    assert f"d of {tmp_path} has no training image in train (90% of train); add some" in message


# CSV files


def test_a_csv_file(tmp_path):
    fill(tmp_path / "pictures, all", {"x": 4})
    rows = [["path", " Label "]] + [
        [f"pictures, all/x/{n:05}.png", label] for n, label in enumerate(["10", "9", "10", "9"])
    ]
    path = write_csv(tmp_path / "data.csv", rows, "utf-8-sig")
    with open(path, "a", encoding="utf-8") as file:
        file.write("\n  \n,\n")
    source = sources.load(path)
    assert source.classes == ("9", "10")
    assert source.splits["all"].labels.tolist() == [1, 0, 1, 0]
    assert source.splits["all"].items[0].endswith("00000.png")


@pytest.mark.parametrize(
    "uses",
    [
        ["train", "train", "train", "valid", "valid", "test"],
        ["Train", "train", "TRAIN", "Val", "val", "Test"],
    ],
)
def test_a_csv_file_with_splits(tmp_path, uses):
    fill(tmp_path, {"x": 6})
    rows = [["path", "label", "split"]]
    rows += [[f"x/{n:05}.png", "ab"[n % 2], use] for n, use in enumerate(uses)]
    source = sources.load(write_csv(tmp_path / "data.csv", rows))
    assert [len(part) for part in splits.train_val_test_split(source)] == [3, 2, 1]


def test_missing_and_invalid_files_of_a_csv_are_reported_and_skipped(tmp_path):
    fill(tmp_path, {"x": 2})
    (tmp_path / "c.jpg").write_text("text")
    rows = [["path", "label"], ["x/00000.png", "a"], ["x/00001.png", "b"], ["gone.png", "a"]]
    source = sources.load(write_csv(tmp_path / "data.csv", [*rows, ["c.jpg", "b"]]))
    assert len(source.splits["all"]) == 2
    assert source.skipped == (
        (str(tmp_path / "gone.png"), "no such file"),
        (str(tmp_path / "c.jpg"), "not an image by its first bytes"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na.png,x\n", "has no column path; its first line is 'file,label', expected"),
        ("path label\na.png x\n", "has no column path and no label"),
        ("path;label\na.png;x\n", "none of the 1 rows of"),
        ("", "has no column path and no label"),
        ("path,label\n\n", "has no rows below its header"),
        ("path,label\na.png,x\nb.png,\nc.png\n", "2 rows have no label: line 3, 4; fill in"),
        ("path,label\n,x\n", "a row has no path: line 2"),
        ("path,label,split\na.png,x,train\nb.png,y,\n", "a row has no split: line 3"),
        ("path,label\na.png,x\nb.png,y\n", "none of the 2 rows of"),
        ('path,label\n"a.png,x\n', "is not a CSV file: "),
        ("path,label\nreal.png,x\n", "has one class, 'x'"),
        ("path,label\nreal.png,x\ngone.png,y\n", "no images of y in"),
    ],
)
def test_invalid_csv_files_are_rejected(tmp_path, text, message):
    draw(tmp_path / "real.png", 0)
    (tmp_path / "data.csv").write_text(text)
    assert message in error_of(sources.load, tmp_path / "data.csv")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 50_000,
        "path,label\nreal.png," + "a" * 50_000,
        "path,label\nreal.png,x\n" + "a\\b" * 50_000 + ",y",
        "path,labels\nreal.png,|" + "a" * 50_000,
        "path,labels\nreal.png," + "|".join(["a" * 50_000] * 2),
    ],
    ids=["header", "class name", "path", "empty label", "label twice"],
)
def test_messages_quote_the_beginning_of_long_cells_only(tmp_path, text):
    draw(tmp_path / "real.png", 0)
    (tmp_path / "data.csv").write_text(text)
    assert len(error_of(sources.load, tmp_path / "data.csv")) < 1_000


def test_a_csv_file_in_another_encoding_is_rejected(tmp_path):
    (tmp_path / "data.csv").write_bytes("path,label\ngrün.png,a\n".encode("latin-1"))
    message = error_of(sources.load, tmp_path / "data.csv")
    expected = "is not encoded in UTF-8 (byte 0xfc at position 13); save it as UTF-8, in Excel"
    assert expected in message


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("separator", ["/", "\\"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_csv_files_of_excel_are_read(tmp_path, delimiter, separator, encoding):
    fill(tmp_path, {"x": 4})
    rows = [["Label", "Path"]] + [["ab"[n % 2], f"x{separator}{n:05}.png"] for n in range(4)]
    with open(tmp_path / "a.csv", "w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    source = sources.load(tmp_path / "a.csv")
    assert source.classes == ("a", "b")
    assert list(source.splits["all"].items) == [str(tmp_path / f"x/{n:05}.png") for n in range(4)]


def test_a_backslash_in_the_name_of_a_file_is_kept(tmp_path):
    fill(tmp_path, {"x": 1})
    draw(tmp_path / "x\\y.png", 1)
    rows = [["path", "label"], ["x/00000.png", "a"], ["x\\y.png", "b"]]
    items = sources.load(write_csv(tmp_path / "a.csv", rows)).splits["all"].items
    assert items[1] == str(tmp_path / "x\\y.png")


def test_a_path_with_nul_is_reported_and_skipped(tmp_path):
    fill(tmp_path, {"x": 2})
    rows = b"path,label\nx/00000.png,a\nx/00001.png,b\nx/0\0.png,a\n"
    (tmp_path / "a.csv").write_bytes(rows)
    ((_, reason),) = sources.load(tmp_path / "a.csv").skipped
    assert reason == "no such file: its name contains a NUL character"


def test_text_is_read_with_and_without_a_byte_order_mark(tmp_path):
    word = "k\xe4se"
    for number, encoding in enumerate(("utf-8", "utf-8-sig")):
        path = tmp_path / f"{number}.txt"
        path.write_text(word, encoding=encoding)
        assert paths.read_text(path) == word
    assert "gone.txt cannot be read: No such file" in error_of(
        paths.read_text, tmp_path / "gone.txt"
    )


# Multi-label


def multi_label_source(tmp_path, cells, header="label", count=None):
    """Returns the source of a CSV file with one image for each cell."""
    fill(tmp_path, {"x": count or len(cells)})
    rows = [["path", header]] + [[f"x/{n:05}.png", cell] for n, cell in enumerate(cells)]
    return sources.load(write_csv(tmp_path / "data.csv", rows))


@pytest.mark.parametrize("header", ["label", "labels"])
def test_multi_label_cells_become_rows_of_0_and_1(tmp_path, header):
    source = multi_label_source(
        tmp_path, ["dog|cat", "cat ; bird", "", "dog", "bird|dog;cat"], header
    )
    assert source.multi_label
    assert source.classes == ("bird", "cat", "dog")
    labels = source.splits["all"].labels
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[0, 1, 1], [1, 1, 0], [0, 0, 0], [0, 0, 1], [1, 1, 1]]
    part = splits.select(source, "all[1:4]")
    assert part.labels.tolist() == labels[1:4].tolist()
    assert splits.select(source, "all[:1]+all[-1:]").labels.tolist() == labels[[0, 4]].tolist()


def test_single_labels_are_multi_label_only_by_the_column_name(tmp_path):
    assert not multi_label_source(tmp_path, ["a", "b"]).multi_label
    assert multi_label_source(tmp_path, ["a", "b", ""], "labels").multi_label
    rows = [["path", "label", "labels"], ["x/00000.png", "a", "c|d"], ["x/00001.png", "b", ""]]
    both = sources.load(write_csv(tmp_path / "both.csv", rows))
    assert (both.classes, both.multi_label) == (("a", "b"), False)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["a|b", "a|b|a"], "line 3: a occurs more than once in 'a|b|a'"),
        (["a|b", "a||b"], "line 3: an empty label in 'a||b'; separate labels as in cat|dog"),
        (["a|b", "a|"], "line 3: an empty label in 'a|'"),
        (["a|b", " ; "], "line 3: an empty label in ';'"),
        (["a", "", "b"], "a row has no label: line 3; fill in or delete, or name the column 'labe"),
    ],
)
def test_invalid_cells_are_rejected_with_their_line(tmp_path, cells, message):
    assert message in error_of(multi_label_source, tmp_path, cells)


def test_a_multi_label_class_without_images_is_rejected(tmp_path):
    fill(tmp_path, {"x": 2})
    rows = [["path", "label"], ["x/00000.png", "a|b"], ["x/00001.png", ""], ["gone.png", "c"]]
    path = write_csv(tmp_path / "data.csv", rows)
    assert "no images of c in" in error_of(sources.load, path)
    assert "has one class, 'a'" in error_of(multi_label_source, tmp_path, ["a", ""], "labels")


def multi_label_arrays(count, seed=0):
    """Returns a multi-label source of arrays, with four classes from frequent to rare."""
    random = np.random.default_rng(seed)
    labels = (random.random((count, 4)) < (0.5, 0.2, 0.05, 0.01)).astype("uint8")
    labels[:3, 3] = 1
    source = arrays(np.zeros(count))
    split = source.splits["all"]
    return Source(
        "multi_label_arrays",
        tuple("abcd"),
        {"all": Split("all", split.items, labels)},
        multi_label=True,
    )


def test_multi_label_data_are_split_80_10_10():
    source = multi_label_arrays(3000)
    parts = splits.train_val_test_split(source)
    check_disjoint(parts, 3000)
    known = dict(
        zip(map(bytes, source.splits["all"].items), source.splits["all"].labels, strict=True)
    )
    for part, share in zip(parts, (0.8, 0.1, 0.1), strict=True):
        assert len(part) / 3000 == pytest.approx(share, abs=0.02)
        for item, label in zip(part.items, part.labels, strict=True):
            assert (label == known[bytes(item)]).all()


@pytest.mark.parametrize("seed", range(5))
def test_rare_multi_label_classes_are_in_every_part(seed):
    source = multi_label_arrays(300, seed)
    assert source.splits["all"].labels.sum(0).argmin() == 3  # so the rarest of its images
    parts = splits.train_val_test_split(source)
    assert all(part.labels[:, 3].any() for part in parts)
    assert parts[0].labels.any(0).all()


def test_a_multi_label_class_without_training_images_is_rejected():
    labels = np.array([[1, 0]] * 20 + [[1, 1]] * 20, "uint8")
    one = arrays(np.zeros(40), names=("train", "test"))
    parts = {
        name: Split(name, part.items, labels[20 * n : 20 * n + 20])
        for n, (name, part) in enumerate(one.splits.items())
    }
    source = Source("arrays", ("cat", "dog"), parts, multi_label=True)
    assert "dog of arrays has no training image" in error_of(splits.train_val_test_split, source)


def test_multi_label_targets_are_in_the_batches(tmp_path):
    source = multi_label_source(tmp_path, ["a|b", "c", "", "a|c", "b", "a"])
    (tmp_path / "x" / "00003.png").write_bytes(b"\x89PNG\r\n\x1a\n")  # damaged
    examples = decoding.decode(source.splits["all"], (4, 4, 3), "stretch")
    assert len(examples.dropped) == 1
    assert examples.labels.tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0], [0, 1, 0], [1, 0, 0]]
    found = batches.training(examples, batch_size=5, seed=0, num_classes=3)
    ((images, labels),) = found.epoch(0).as_numpy_iterator()
    assert labels.dtype == np.float32
    for image, label in zip(images, labels, strict=True):
        (place,) = [n for n, other in enumerate(examples.pixels) if (other == image).all()]
        assert label.tolist() == examples.labels[place].tolist()


@pytest.mark.parametrize("multi_label", [False, True])
def test_labels_are_mapped_by_class_name(multi_label):
    labels = np.array([0, 2, 2, 0])
    if multi_label:
        labels = np.array([[1, 0, 1], [0, 0, 0], [0, 0, 1]], "uint8")
    split = Split("test", list(range(len(labels))), labels)
    moved = relabel(split, ("ant", "bee", "cow"), ("cow", "dog", "ant", "eel"))
    expected = [[1, 0, 1, 0], [0] * 4, [1, 0, 0, 0]] if multi_label else [2, 0, 0, 2]
    assert moved.labels.tolist() == expected
    with pytest.raises(UsageError, match="was not trained on: cow; its classes are ant, bee"):
        relabel(split, ("ant", "bee", "cow"), ("ant", "bee"))


@pytest.mark.xdist_group("zoo_tiny")
def test_tfds_examples_are_relabelled(tfds_folder):
    part = splits.select(sources.load("tfds:zoo_tiny", tfds_folder), "train[:5]")
    moved = relabel(part, ("odd", "even", "third"), ("third", "even", "odd"))
    assert moved.labels.tolist() == (2 - part.labels).tolist()
    assert moved.items[0] == part.items[0]


# TFDS


@pytest.fixture(scope="module")
def tfds_folder(tmp_path_factory):
    """A folder with the data sets `zoo_tiny`, of images, and `zoo_words`, of none."""
    import tensorflow_datasets as tfds

    folder = tmp_path_factory.mktemp("tfds")

    class Tiny(tfds.core.GeneratorBasedBuilder):
        pkg_dir_path = folder  # a class in a test is in no package
        VERSION = tfds.core.Version("1.0.0")
        name = "zoo_tiny"

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(1, 1, 1)),
                "label": tfds.features.ClassLabel(names=["odd", "even", "third"]),
                "note": tfds.features.Text(),
            }
            features = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=features, citation="someone")

        def _split_generators(self, _):
            return {"train": self._examples(60), "holdout": self._examples(10, label=-1)}

        def _generate_examples(self):
            return ()

        def _examples(self, count, label=None):
            for n in range(count):
                pixel = np.full((1, 1, 1), n, "uint8")
                yield n, {"image": pixel, "label": label or n % 3, "note": str(n)}

    class Words(Tiny):
        name = "zoo_words"

        def _info(self):
            features = tfds.features.FeaturesDict({"note": tfds.features.Text()})
            return tfds.core.DatasetInfo(builder=self, features=features)

    class Faraway(Tiny):
        name = "zoo_faraway"

        def _split_generators(self, manager):
            raise ConnectionError("no route\nto host")

    tfds.builder("zoo_tiny", data_dir=folder).download_and_prepare()
    return folder


def values(split):
    """Returns the pixels of a split of `zoo_tiny`."""
    return [int(image_io.read_image(item, (1, 1, 1))[0, 0, 0]) for item in split.items]


@pytest.mark.xdist_group("zoo_tiny")
def test_tfds_images_are_encoded_and_slices_are_lazy(tfds_folder):
    source = sources.load("tfds:zoo_tiny", tfds_folder)
    assert source.classes == ("odd", "even", "third")
    assert source.citation == "someone"
    whole = source.splits["train"]
    assert len(whole) == 60
    part = splits.select(source, "train[10%:25%]")
    assert len(part) == 9
    assert "_read" not in part.__dict__
    assert isinstance(part.items[0], bytes)
    assert "_read" not in whole.__dict__  # only the slice is read
    assert sorted(values(whole)) == list(range(60))
    assert values(part) == values(whole)[6:15]
    assert part.labels.tolist() == whole.labels[6:15].tolist() == [v % 3 for v in values(part)]
    assert (
        values(splits.select(source, "train[:2]+train[-2:]"))
        == values(whole)[:2] + values(whole)[-2:]
    )
    assert values(whole.take([5, 3])) == [values(whole)[5], values(whole)[3]]


@pytest.mark.xdist_group("zoo_tiny")
def test_a_tfds_data_set_is_split_by_hash(tfds_folder):
    source = sources.load("tfds:zoo_tiny", tfds_folder)
    train, validation, test = splits.train_val_test_split(source)
    assert sorted(values(train) + values(validation) + values(test)) == list(range(60))
    assert set(validation.labels) == set(test.labels) == {0, 1, 2}


@pytest.mark.xdist_group("zoo_tiny")
def test_tfds_examples_without_a_label_are_rejected(tfds_folder):
    source = sources.load("tfds:zoo_tiny", tfds_folder)
    with pytest.raises(UsageError, match="10 examples of holdout in TFDS have no label"):
        len(source.splits["holdout"].labels)


@pytest.mark.xdist_group("zoo_tiny")
def test_a_large_tfds_split_is_rejected_with_a_slice_that_fits(tfds_folder, monkeypatch):
    source = sources.load("tfds:zoo_tiny", tfds_folder)
    size = source.splits["train"].builder.info.splits["train"].num_bytes
    monkeypatch.setattr(tfds_source, "_total_memory", lambda: size)
    with pytest.raises(UsageError, match=re.escape("use a slice such as train[:25%]")):
        len(source.splits["train"].items)
    assert len(splits.select(source, "train[:25%]").items) == 15


@pytest.mark.xdist_group("zoo_tiny")
def test_unknown_tfds_data_sets_are_rejected(tfds_folder, monkeypatch):
    monkeypatch.setattr(tfds_source, "_has_network", lambda: False)
    message = error_of(sources.load, "tfds:cifar11", tfds_folder)
    assert message.startswith("TFDS has no data set named 'cifar11'; did you mean tfds:cifar10")
    assert "has no Image 'image'; its features: note" in error_of(
        sources.load, "tfds:zoo_words", tfds_folder
    )
    message = error_of(sources.load, "tfds:zoo_faraway", tfds_folder)
    assert "could not be downloaded (no route to host); run `tfds build zoo_faraway" in message
    assert "TFDS cannot build" in error_of(sources.load, "tfds:no name", tfds_folder)


def test_real_data_sets_of_tfds_are_complete(zoo_data):
    source = sources.load("tfds:mnist", zoo_data / "tfds")
    assert {name: len(split) for name, split in source.splits.items()} == {
        "train": 60000,
        "test": 10000,
    }
    part = splits.select(source, "test[:100]")
    assert part.items[0].startswith(b"\x89PNG")
    assert part.labels.dtype == np.int64


# Slices


def bounds(seed):
    """Returns a random slice in the syntax of TFDS."""
    roll = random.Random(seed)

    def bound():
        number = roll.choice([roll.randint(-100, 100), round(roll.uniform(-100, 100), 1)])
        return roll.choice(["", f"{number}%", f"{number}%"])

    start, stop = bound(), bound()
    if roll.random() < 0.5:
        start, stop = (roll.choice(["", str(roll.randint(-9, 9))]) for _ in "ab")
    return f"[{start}:{stop}]" if start or stop else ""


@pytest.mark.parametrize(
    "count", [7, 1234, *(pytest.param(count, marks=pytest.mark.check) for count in (1, 10, 99))]
)
def test_slices_equal_those_of_tfds(count):
    import tensorflow_datasets as tfds

    source = arrays(np.zeros(count), names=("train",))
    info = tfds.core.SplitInfo(
        name="train", shard_lengths=[count], num_bytes=0, filename_template=None
    )
    positions = {key: index for index, key in enumerate(map(bytes, source.splits["train"].items))}
    compared = 0
    for seed in range(150):
        expression = "train" + bounds(seed)
        try:
            reads = tfds.core.ReadInstruction.from_spec(expression).to_absolute({"train": info})
            expected = list(range(count))[reads[0].from_ : reads[0].to]
        except ValueError:
            expected = []
        if expected:
            part = splits.select(source, expression)
            assert [positions[bytes(item)] for item in part.items] == expected, expression
            compared += 1
        else:
            error_of(splits.select, source, expression)
    assert compared > 20


def test_sums_of_slices_and_all():
    source = arrays(np.arange(20) % 2, names=("train", "test"))
    assert len(splits.select(source, "all")) == 20
    assert list(map(bytes, splits.select(source, "test[:1] + train[-1:]").items)) == [
        b"00000010",
        b"00000009",
    ]
    assert splits.select(source, "train[:1_0]").name == "train[:1_0]"


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (
            "trian",
            "arrays has no split 'trian'; choose from train, test, or a slice such as train[",
        ),
        ("train[5]", "'train[5]' is not a slice of arrays; choose from train, test"),
        ("train[:1.5]", "is not a slice"),
        ("train+", "'' is not a slice"),
        ("train[:11]", "train[:11] is out of range: there are 10 examples"),
        ("train[:101%]", "train[:101%] is out of range"),
        ("train[5:5]", "train[5:5] selects none of the 10 examples"),
        ("train[:4%]", "selects none"),
        ("all[:5]", "'all' of arrays is several splits"),
        ("train[:1.2.3%]", "is out of range"),
    ],
)
def test_invalid_slices_are_rejected_with_an_example(expression, message):
    assert message in error_of(
        splits.select, arrays(np.arange(20) % 2, names=("train", "test")), expression
    )


# Train, validation and test


def check_disjoint(parts, count):
    """Checks that parts are disjoint and have `count` examples together."""
    found = [keys(part) for part in parts if part is not None]
    assert len(set.union(*found)) == sum(map(len, found)) == count


def test_a_source_without_splits_is_split_80_10_10_by_class():
    parts = splits.train_val_test_split(arrays(np.arange(6000) % 3))
    check_disjoint(parts, 6000)
    for part, share in zip(parts, (0.8, 0.1, 0.1), strict=True):
        assert np.abs(np.bincount(part.labels) / 2000 - share).max() < 0.025
    assert [part.name for part in parts] == [
        "train (80% of all)",
        "validation (10% of all)",
        "test (10% of all)",
    ]


def test_missing_splits_are_made_from_train():
    only = arrays(np.arange(1000) % 2, names=("train",))
    check_disjoint(splits.train_val_test_split(only), 1000)
    source = arrays(np.arange(2000) % 2, names=("train", "test"))
    train, validation, test = splits.train_val_test_split(source)
    check_disjoint((train, validation), 1000)
    assert 70 < len(validation) < 130
    assert keys(test) == keys(source.splits["test"])
    assert keys(splits.train_val_test_split(only)[1]) == keys(
        validation
    )  # whether or not a test split is made


@pytest.mark.parametrize("names", [("train", "valid", "test"), ("Train", "VAL", "Test")])
def test_published_splits_are_kept(names):
    source = arrays(np.arange(90) % 2, names=names)
    assert [part.name for part in splits.train_val_test_split(source)] == [*names]
    assert [len(part) for part in splits.train_val_test_split(source)] == [30, 30, 30]


def test_without_validation():
    train, validation, test = splits.train_val_test_split(
        arrays(np.arange(500) % 2), validation="none"
    )
    assert validation is None
    check_disjoint((train, test), 500)


def test_files_that_are_added_move_no_others(tmp_path):
    start = fill(tmp_path, {"a": 60, "b": 60})
    before = [keys(part) for part in splits.train_val_test_split(sources.load(tmp_path))]
    fill(tmp_path, {"a": 40, "b": 10, "c": 30}, start)
    (tmp_path / "a" / "00000.png").rename(tmp_path / "a" / "renamed.png")
    after = splits.train_val_test_split(sources.load(tmp_path))
    check_disjoint(after, 200)
    for old, new in zip(before, after, strict=True):
        assert old < keys(new)


def test_duplicates_stay_together():
    copies = {n: n - 1 for n in range(1, 400, 2)}
    source = arrays(np.arange(400) // 2 % 2, copies=copies)
    parts = splits.train_val_test_split(source)
    assert sum(map(len, parts)) == 400
    assert sum(len(keys(part)) for part in parts) == len(set.union(*map(keys, parts))) == 200


def test_small_classes_are_in_every_part():
    sizes = [3, 4, 5, 6] * 25
    labels = np.repeat(np.arange(100), sizes)
    train, validation, test = splits.train_val_test_split(arrays(labels))
    check_disjoint((train, validation, test), len(labels))
    assert set(train.labels) == set(validation.labels) == set(test.labels) == set(range(100))
    assert np.bincount(train.labels).tolist() == [1, 2, 3, 4] * 25  # one to each of the others


def test_tiny_classes_are_for_training_then_validation():
    labels = np.concatenate([np.repeat(np.arange(50), 1), np.repeat(np.arange(50, 100), 2)])
    labels = np.concatenate([labels, np.full(300, 100)])
    train, validation, _ = splits.train_val_test_split(arrays(labels))
    assert set(train.labels) == set(range(101))
    assert set(validation.labels) == set(range(50, 101))


def test_a_class_without_training_images_is_rejected_by_name():
    source = arrays([0, 0, 0, 0, 1, 1, 1, 1], ("cat", "dog"), ("train", "test"))
    assert "dog of arrays has no training image in train (90% of train)" in error_of(
        splits.train_val_test_split, source
    )
    assert "dog of arrays has no training image in train" in error_of(
        splits.train_val_test_split, source, validation="none"
    )
    assert (
        len(splits.train_val_test_split(source, train="train", validation="none")[0]) == 4
    )  # asked for


def test_too_few_images_to_split_are_rejected():
    assert "are too few to split off validation and test" in error_of(
        splits.train_val_test_split, arrays([0, 1, 2])
    )


def test_a_train_slice_is_split_for_missing_validation():
    source = arrays(np.arange(3000) % 2, names=("train", "test"))
    train, validation, test = splits.train_val_test_split(source, train="train[:50%]")
    assert keys(train) | keys(validation) == keys(splits.select(source, "train[:50%]"))
    check_disjoint((train, validation), 750)
    assert len(test) == 1500
    own = arrays(np.arange(300) % 2, names=("train", "val", "test"))
    assert [len(part) for part in splits.train_val_test_split(own, train="train[:50%]")] == [
        50,
        100,
        100,
    ]


def test_slices_are_excluded_from_other_splits():
    source = arrays(np.arange(1000) % 2, names=("train", "test"))
    train, validation, test = splits.train_val_test_split(source, validation="train[80%:]")
    assert [len(train), len(validation), len(test)] == [400, 100, 500]
    assert train.name == "train[0:400]"
    check_disjoint((train, validation, test), 1000)
    train, validation, test = splits.train_val_test_split(source, validation="test[:100]")
    assert [len(train), len(validation), len(test)] == [500, 100, 400]
    train, validation, test = splits.train_val_test_split(source, validation="test")
    check_disjoint((train, validation, test), 1000)  # the test split is made from train
    assert len(train) + len(test) == 500
    train, validation, test = splits.train_val_test_split(
        source, train="train+test[:10%]", validation="test[10%:20%]"
    )
    assert [len(train), len(validation), len(test)] == [550, 50, 400]
    middle = splits.train_val_test_split(
        arrays(np.arange(100) % 2), validation="all[10:20]", test="all[30:40]"
    )
    assert [len(part) for part in middle] == [80, 10, 10]
    check_disjoint(middle, 100)
    assert middle[0].name == "all[0:10]+all[20:30]+all[40:100]"


def test_overlapping_slices_are_rejected_with_the_count():
    source = arrays(np.arange(100) % 2, names=("train",))
    message = error_of(
        splits.train_val_test_split, source, train="train[:80%]", validation="train[70%:]"
    )
    assert message.startswith(
        "train (train[:80%]) and validation (train[70%:]) share 10 examples of train; use disjoint"
    )
    assert "share 100 examples" in error_of(
        splits.train_val_test_split, source, train="train", test="all"
    )


def test_slices_with_common_duplicates_are_rejected_with_the_count():
    source = arrays(np.arange(100) % 2, names=("train",), copies={90: 0, 92: 2})
    message = error_of(
        splits.train_val_test_split, source, train="train[:80%]", validation="train[80%:]"
    )
    assert "share 2 images that occur in train more than once" in message
    assert "share 2 images" in error_of(
        splits.train_val_test_split, source, validation="train[80%:]"
    )
    splits.train_val_test_split(source, train="train[:80%]", validation="train[80%:90%]")
    apart = arrays(np.arange(100) % 2, names=("train", "test"), copies={90: 0})
    splits.train_val_test_split(apart)  # published splits are not checked


def test_nothing_to_train_on_is_rejected():
    source = arrays(np.arange(40) % 2, names=("left", "right"))
    assert "nothing of arrays is left to train on; choose from left, right" in error_of(
        splits.train_val_test_split, source
    )
    assert len(splits.train_val_test_split(source, train="left", validation="none")[0]) > 10
    one = arrays(np.arange(40) % 2)
    assert "nothing of arrays is left" in error_of(
        splits.train_val_test_split, one, validation="all"
    )


def test_labels_follow_their_images_everywhere(tmp_path):
    fill(tmp_path, {"a": 20, "b": 20})
    source = sources.load(tmp_path)
    for part in splits.train_val_test_split(source):
        counted = Counter()
        for item, label in zip(part.items, part.labels, strict=True):
            assert item.split("/")[-2] == source.classes[label]
            counted[item] += 1
        assert set(counted.values()) == {1}
