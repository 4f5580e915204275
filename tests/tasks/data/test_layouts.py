"""Layouts of data sets other than class folders: a tiny one of each, read value by value."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts import _flags
from scripts.__main__ import main as zoo
from tasks.data import decoding, image_io, sources, splits, zip_folders
from tasks.runs import cross_validation
from zoo.errors import UsageError

ROWS = [("a.png", "cat"), ("b.png", "dog"), ("c.png", "cat"), ("d.png", "dog")]


def pixels(number):
    return np.random.default_rng(number).integers(0, 256, (8, 9, 3), "uint8")


def png(number):
    file = io.BytesIO()
    Image.fromarray(pixels(number)).save(file, "PNG")
    return file.getvalue()


def write_images(root, folder=""):
    (root / folder).mkdir(parents=True, exist_ok=True)
    for number, (name, _) in enumerate(ROWS):
        (root / folder / name).write_bytes(png(number))
    return root


def found(source, split="all"):
    """Returns the class names by the number of the image, found by its pixels."""
    part, labels = source.splits[split], {}
    for item, label in zip(part.items, part.labels, strict=True):
        image = image_io.read_image(item)
        [number] = [n for n in range(len(ROWS)) if np.array_equal(pixels(n), image)]
        labels[number] = (
            "|".join(np.array(source.classes)[label.astype(bool)])
            if np.ndim(label)
            else source.classes[label]
        )
    return labels


EXPECTED = dict(enumerate(label for _, label in ROWS))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "\ufefffile;species;place\n{0};cat;x\n{1};dog;y\n{2};cat;x\n{3};dog;y\n"),
        ("t.tsv", "file\tspecies\n{0}\tcat\n{1}\tdog\n{2}\tcat\n{3}\tdog\n"),
        (
            "t.jsonl",
            '{{"file": "{0}", "species": "cat"}}\n{{"file": "{1}", "species": "dog"}}\n\n'
            '{{"file": "{2}", "species": "cat", "note": "a\u2028b\x85c"}}\r\n'
            '{{"file": "{3}", "species": "dog"}}\n',
        ),
    ],
)
def test_tables_with_columns_of_any_name(name, text, tmp_path):
    write_images(tmp_path)
    (tmp_path / name).write_text(text.format(*(row[0] for row in ROWS)), "utf-8")
    source = sources.load(f"{tmp_path}/{name}#path=file,label=species")
    assert source.classes == ("cat", "dog")
    assert found(source) == EXPECTED
    if name == "t.csv":
        assert [*source.columns["place"].values()] == ["x", "y", "x", "y"]


def test_parquet_table_with_lists_is_multi_label(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    write_images(tmp_path)
    labels = [["cat"], ["dog", "wet"], ["cat", "wet"], []]
    table = pyarrow.table({"path": [name for name, _ in ROWS], "labels": labels})
    parquet.write_table(table, tmp_path / "t.parquet")
    source = sources.load(tmp_path / "t.parquet")
    assert source.multi_label
    assert found(source) == {0: "cat", 1: "dog|wet", 2: "cat|wet", 3: ""}
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UsageError, match="Parquet"):
        sources.load(tmp_path / "t.parquet")


@pytest.mark.parametrize("second", ["./a.png", "x/../a.png"])
def test_an_image_with_two_labels_in_a_table_is_refused(second, tmp_path):
    write_images(tmp_path)
    (tmp_path / "x").mkdir()
    rows = "".join(f"{name},{label}\n" for name, label in ROWS)
    (tmp_path / "t.csv").write_text(f"path,label\n{rows}{second},dog\n")
    with pytest.raises(UsageError, match="as 'cat' and as 'dog'; keep one of these rows"):
        sources.load(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text(f"path,label\n{rows}{second},cat\n")
    source = sources.load(tmp_path / "t.csv")
    assert source.notes == ("rows of t.csv that name an image once more: 1",)
    assert len(source.splits["all"]) == 5


def write_parquet(path, numbers, labels, features, **other):
    """Writes a table as `Dataset.to_parquet` of Hugging Face's `datasets` does."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    images = [{"bytes": png(n) if n >= 0 else None, "path": f"{n}.png"} for n in numbers]
    columns = {"img": images, "label": labels, **other}
    table = pyarrow.table({"id": [str(n) for n in numbers], **columns})
    info = {"info": {"features": {"img": {"_type": "Image"}, **features}}}
    path.parent.mkdir(exist_ok=True)
    parquet.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps(info)}), path, row_group_size=2
    )


NAMED = {"label": {"names": ["dog", "cat"], "_type": "ClassLabel"}}


@pytest.mark.parametrize("folder", ["", "data"])
def test_parquet_with_images_of_hugging_face(folder, tmp_path):
    top = tmp_path / "set"
    top.mkdir()
    (top / "README.md").write_text("a data card")
    write_parquet(top / folder / "train-00000-of-00002.parquet", [0, 1, 2], [1, 0, 1], NAMED)
    write_parquet(top / folder / "train-00001-of-00002.parquet", [3], [0], NAMED)
    write_parquet(top / folder / "test-00000-of-00001.parquet", [1, -1, 2], [0, 0, -1], NAMED)
    source = sources.load(top)
    assert source.classes == ("dog", "cat")  # in the order of the metadata
    assert found(source, "train") == EXPECTED
    assert found(source, "test") == {1: "dog"}
    assert [reason for _, reason in source.skipped] == ["no bytes of an image", "no label"]
    assert source.skipped[0][0].endswith("test-00000-of-00001.parquet, row 2")
    decoded = decoding.decode(source.splits["train"], (8, 9, 3), "stretch")
    np.testing.assert_array_equal(decoded.pixels[3], pixels(3))


def test_columns_of_parquet_with_images(tmp_path):
    path, labels = tmp_path / "pets.parquet", [1, 0, 1, 0]
    fine = {"fine": {"names": ["b", "a", "unused"], "_type": "ClassLabel"}}
    write_parquet(path, range(4), labels, {**NAMED, **fine}, fine=labels)
    assert found(sources.load(path)) == EXPECTED
    source = sources.load(f"{path}#path=img,label=fine")
    assert source.classes == ("b", "a")
    assert source.notes == ("classes without images, left out: unused",)
    several = {"label": {"feature": NAMED["label"], "_type": "List"}}
    write_parquet(path, range(4), [[1], [0], [0, 1], []], several)
    source = sources.load(path)
    assert source.multi_label
    assert found(source) == {0: "cat", 1: "dog", 2: "dog|cat", 3: ""}
    write_parquet(path, range(4), ["x", "y", "x", "y"], {})  # text
    assert sources.load(path).classes == ("x", "y")


def test_damaged_parquet_with_images_is_refused_in_one_line(tmp_path):
    path = tmp_path / "pets.parquet"
    write_parquet(path, range(4), [1, 0, 7, 0], NAMED)
    with pytest.raises(UsageError, match="row 3: label 7; there are names of 0 to 1"):
        sources.load(path)
    with pytest.raises(UsageError, match="no column 'kind'; it has id, img, label"):
        sources.load(f"{path}#label=kind")
    write_parquet(path, range(4), [1, 0, 1, 0], NAMED)
    content = bytearray(path.read_bytes())
    content[100:400] = bytes(300)
    path.write_bytes(content)
    with pytest.raises(UsageError, match="damaged"):
        sources.load(path)


@pytest.mark.parametrize("split", ["", "train"])
def test_metadata_of_hugging_face(split, tmp_path):
    write_images(tmp_path, split)
    rows = "".join(f"{name},{label}\n" for name, label in ROWS)
    (tmp_path / split / "metadata.csv").write_text(f"file_name,label\n{rows}")
    assert found(sources.load(tmp_path), split or "all") == EXPECTED


def test_splits_of_metadata_may_lack_a_class(tmp_path):
    for start, split, labels in ((0, "train", "aabbc"), (5, "test", "ab")):
        (tmp_path / split).mkdir()
        for number in range(len(labels)):
            (tmp_path / split / f"{number}.png").write_bytes(png(start + number))
        rows = "".join(f"{number}.png,{label}\n" for number, label in enumerate(labels))
        (tmp_path / split / "metadata.csv").write_text(f"file_name,label\n{rows}")
    source = sources.load(tmp_path)
    assert source.classes == ("a", "b", "c")
    assert {name: [*part.labels] for name, part in source.splits.items()} == {
        "train": [0, 0, 1, 1, 2],
        "test": [0, 1],
    }


def test_metadata_without_labels_leaves_class_folders(tmp_path):
    for number, (name, label) in enumerate(ROWS):
        (tmp_path / label).mkdir(exist_ok=True)
        (tmp_path / label / name).write_bytes(png(number))
    (tmp_path / "metadata.csv").write_text("file_name,caption\ncat/a.png,a cat\n")
    assert found(sources.load(tmp_path)) == EXPECTED


def test_label_studio(tmp_path):
    write_images(tmp_path, "media")
    tasks = [
        {
            "data": {"image": f"/data/upload/1/0a1b2c3d-{name}"},
            "annotations": [
                {"result": [{"value": {"choices": ["wrong"]}}], "was_cancelled": True},
                {"result": [{"type": "choices", "value": {"choices": [label]}}]},
            ][number % 2 :],
        }
        for number, (name, label) in enumerate(ROWS)
    ]
    for task in tasks[::2]:
        task["annotations"].append(task["annotations"].pop(0))
    tasks[0]["data"]["image"] = "/data/local-files/?d=media/a.png"
    tasks.append({"data": {"image": "/data/upload/1/x.png"}, "annotations": []})
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    assert found(sources.load(tmp_path / "export.json")) == EXPECTED
    (tmp_path / "export.json").write_text('{"images": []}')
    with pytest.raises(UsageError, match="is not a Label Studio export"):
        sources.load(tmp_path / "export.json")


def test_cvat(tmp_path):
    write_images(tmp_path, "images/part")
    images = "".join(
        f'<image name="part/{name}" subset="Train"><tag label="{label}"/></image>'
        for name, label in ROWS
    )
    (tmp_path / "annotations.xml").write_text(f"<annotations>{images}</annotations>")
    assert found(sources.load(tmp_path / "annotations.xml"), "train") == EXPECTED
    (tmp_path / "annotations.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>')
    with pytest.raises(UsageError, match="document type"):
        sources.load(tmp_path / "annotations.xml")


def test_labelme(tmp_path):
    write_images(tmp_path)
    for name, label in ROWS:
        flags = {"cat": label == "cat", "dog": label == "dog"}
        text = json.dumps({"imagePath": name, "flags": flags, "shapes": []})
        (tmp_path / name).with_suffix(".json").write_text(text)
    assert found(sources.load(tmp_path)) == EXPECTED


def test_roboflow(tmp_path):
    for split in ("train", "valid"):
        write_images(tmp_path, split)
        rows = "".join(f"{n}, {int(x == 'cat')}, {int(x == 'dog')}, 0\n" for n, x in ROWS[:3])
        text = f"filename, Cat, Dog, Wet\n{rows}d.png, 0, 1, 1\n"
        (tmp_path / split / "_classes.csv").write_text(text)
    source = sources.load(tmp_path)
    assert source.classes == ("Cat", "Dog", "Wet")
    assert found(source, "valid") == {0: "Cat", 1: "Dog", 2: "Cat", 3: "Dog|Wet"}
    (tmp_path / "valid" / "_classes.csv").write_text("filename,Cat,Dog,Wet\na.png,1,2,0\n")
    with pytest.raises(UsageError, match="line 2"):
        sources.load(tmp_path)


def add(archive, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def write_shard(path, rows, label=lambda name: (".cls", name.encode())):
    with tarfile.open(path, "w") as archive:
        for number, name in rows:
            add(archive, f"./{number:03}.png", png(number))
            extension, data = label(name)
            add(archive, f"./{number:03}{extension}", data)


def test_webdataset_shards(tmp_path):
    rows = [(number, label) for number, (_, label) in enumerate(ROWS)]
    write_shard(tmp_path / "train-0.tar", rows[:2])
    as_json = lambda name: (".json", json.dumps({"label": name}).encode())  # noqa: E731
    write_shard(tmp_path / "train-1.tar", rows[2:], as_json)
    write_shard(tmp_path / "val-0.tar", rows)
    source = sources.load(tmp_path)
    assert found(source, "train") == found(source, "val") == EXPECTED
    assert found(sources.load(tmp_path / "val-0.tar"), "val") == EXPECTED


def test_damaged_shards_are_named(tmp_path):
    path = tmp_path / "train-0.tar"
    write_shard(path, [(0, "cat"), (1, "dog")], lambda name: (".nothing", b""))
    with pytest.raises(UsageError, match="000 has no label"):
        sources.load(path)
    write_shard(path, [(0, "cat"), (1, "dog")])
    path.write_bytes(path.read_bytes()[:1100])
    with pytest.raises(UsageError, match=r"train-0.tar"):
        sources.load(path)


def record(data):
    return struct.pack("<QI", len(data), 0) + data + bytes(4)


@pytest.mark.parametrize("text", [True, False])
def test_tfrecords(text, tmp_path):
    tf = pytest.importorskip("tensorflow")
    path = tmp_path / "train-0.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number, (_, label) in enumerate(ROWS):
            feature = tf.train.Feature
            value = (
                feature(bytes_list=tf.train.BytesList(value=[label.encode()]))
                if text
                else feature(int64_list=tf.train.Int64List(value=[int(label == "dog")]))
            )
            image = feature(bytes_list=tf.train.BytesList(value=[png(number)]))
            features = {"image/encoded": image, "label": value}
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())
    expected = EXPECTED if text else {n: str(int(x == "dog")) for n, x in EXPECTED.items()}
    assert found(sources.load(path), "train") == expected
    whole = path.read_bytes()
    for damaged, message in (
        (whole[:-9], "record 4: truncated"),
        (record(b"\xff\xff no example"), "is not a tf.train.Example"),
        (record(tf.train.Example().SerializeToString()), "no features"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(UsageError, match=message):
            sources.load(path)


@pytest.mark.parametrize("prefix", ["", "data/", "data/train/"])
def test_zip_of_class_folders(prefix, tmp_path):
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, (name, label) in enumerate(ROWS):
            archive.writestr(f"{prefix}{label}/{name}", png(number))
        archive.writestr("__MACOSX/cat/._a.png", b"")
    assert found(sources.load(path), "train" if "train" in prefix else "all") == EXPECTED
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UsageError, match="zip"):
        sources.load(path)


@pytest.mark.parametrize("prefix", ["", "data/", "data/train/"])
def test_folders_in_class_folders_of_a_zip_archive_belong_to_the_class(prefix, tmp_path):
    path, stray = tmp_path / "photos.zip", "data/stray.png" if prefix else "stray.png"
    with zipfile.ZipFile(path, "w") as archive:
        for number, (name, label) in enumerate(ROWS):
            archive.writestr(f"{prefix}{label}/{'deep/er/' * (number > 1)}{name}", png(number))
        archive.writestr(stray, png(0))
        archive.writestr(f"{prefix}cat/notes.txt", "")
    source = sources.load(path)
    assert found(source, *source.splits) == EXPECTED
    assert dict(source.skipped) == {
        f"{path}/{prefix}cat/notes.txt": "not an image by its suffix",
        f"{path}/{stray}": "not in a class folder",
    }


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("", "has no labeled images"),
        ("cat/", "has one class, 'cat'"),
        ("data/cat/", "has one class, 'cat'"),
        ("data/train/cat/", "has one class, 'cat'"),
    ],
)
def test_a_zip_archive_of_one_class_is_refused(folder, message, tmp_path):
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{folder}a.png", png(0))
        archive.writestr(f"{folder}b.png", png(1))
    with pytest.raises(UsageError, match=message):
        sources.load(path)


class UnflaggedName(zipfile.ZipInfo):
    """A member whose name is encoded without the flag of UTF-8, as by `zip` on Linux."""

    encoding = "utf-8"

    def _encodeFilenameFlags(self):  # noqa: N802
        return self.filename.encode(self.encoding), self.flag_bits


@pytest.mark.parametrize("member", [UnflaggedName, zipfile.ZipInfo])
def test_class_names_of_a_zip_archive_in_utf8(member, tmp_path):
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number, name in enumerate(("猫/a é.png", "Käfer/b.png")):
            archive.writestr(member(name), png(number))
    assert found(sources.load(path)) == {0: "猫", 1: "Käfer"}


def test_a_name_in_a_zip_archive_that_is_no_utf8_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(UnflaggedName, "encoding", "cp437")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for number, name in enumerate(("Käfer/a.png", "b/b.png")):
            archive.writestr(UnflaggedName(name), png(number))
    source = sources.load(tmp_path / "photos.zip")
    assert source.classes == ("Käfer", "b")
    assert len(source.notes) == 1
    assert "photos.zip that are not in UTF-8 are read in code page 437" in source.notes[0]


@pytest.mark.parametrize("encoding", ["gbk", "cp932"])
def test_names_in_a_zip_archive_in_a_stated_encoding(encoding, tmp_path, monkeypatch):
    path = tmp_path / "photos.zip"
    monkeypatch.setattr(UnflaggedName, "encoding", encoding)
    with zipfile.ZipFile(path, "w") as archive:
        for number, name in enumerate(("桜/a.png", "犬/b.png")):
            archive.writestr(UnflaggedName(name), png(number))
        archive.writestr("猫/c.png", png(2))  # with the flag of UTF-8
    source = sources.load(f"{path}#encoding={encoding}")
    assert (found(source), source.notes) == ({0: "桜", 1: "犬", 2: "猫"}, ())
    for wrong, message in (("ascii", "is not in ascii"), ("x", "Python has no encoding")):
        with pytest.raises(UsageError, match=message):
            sources.load(f"{path}#encoding={wrong}")
    (tmp_path / "a").mkdir()
    with pytest.raises(UsageError, match="'gbk' is not an option of this data set"):
        sources.load(f"{tmp_path}/a#encoding=gbk")


EXPORTS = {  # content of a file: part of the message
    "studio.json": {
        '[{"data": {}, "annotations": 5}]': "is not a Label Studio export",
        '[{"data": {"x": 5}, "annotations": []}]': "is not a Label Studio export",
        '[{"data": {"x": "a.png"}, "annotations": [{"result": [{"value": {"choices": [{}]}}]}]}]': (
            "is not a Label Studio export"
        ),
        "[" * 100_000: "is not a Label Studio export",
    },
    "labelme/a.json": {
        '{"imagePath": "a.png", "flags": [1]}': r"a.json: flags is \[1\], expected an object",
        '{"imagePath": ': "a.json is not JSON",
    },
    "annotations.xml": {
        "<annotations><image": "is not XML, or damaged: unclosed token",
        "<annotations></annotations>": "has no image with a tag",
        '<annotations><image name="a.png"><box/></image></annotations>': "has no image with a tag",
    },
    "table.jsonl": {
        '{"path": "a.png", "label": "cat"}\n{"path": ': "line 2 is not JSON",
        '["a.png", "cat"]\n': "line 1 is not a JSON object",
        '{"path": "a.png", "kind": "cat"}\n': "has no column label",
        '{"path": "a.png", "label": {"x": ' + "[" * 100_000: "line 1 is not JSON",
    },
    "folder/metadata.jsonl": {
        '{"file_name": "a.png", "label": "cat"}\n{"file': "line 2 is not JSON",
        '{"file_name": "no.png", "label": "cat"}\n': "no such file",
    },
    "roboflow/_classes.csv": {
        "": "is not a CSV file, or empty",
        'filename,cat,dog\n"a.png,1,0\n' + 200_000 * "x": "is not a CSV file, or empty: field larg",
        "filename\na.png\n": "begins with 'filename'; expected filename, and the names",
        "filename,cat,cat\na.png,1,0\n": "begins with 'filename,cat,cat'; expected",
    },
}


@pytest.mark.parametrize(
    ("name", "text"), [(name, text) for name, texts in EXPORTS.items() for text in texts]
)
def test_damaged_exports_are_refused_in_one_line(name, text, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    write_images(path.parent)
    path.write_text(text)
    with pytest.raises(UsageError, match=EXPORTS[name][text]) as error:
        sources.load(path if path.parent == tmp_path else path.parent)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1_000


def test_choices_of_label_studio_may_be_numbers(tmp_path):
    write_images(tmp_path)
    rows = [
        {
            "data": {"image": name},
            "annotations": [{"result": [{"value": {"choices": [number % 2]}}]}],
        }
        for number, (name, _) in enumerate(ROWS)
    ]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    assert found(sources.load(tmp_path / "a.json")) == {0: "0", 1: "1", 2: "0", 3: "1"}


@pytest.fixture
def zipped(tmp_path):
    """Returns the path of a compressed zip archive of images."""
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, (name, label) in enumerate(ROWS):
            archive.writestr(f"{label}/{name}", png(number))
    return path


def set_header_field(path, offset, value):
    """Sets a field in the local and the central header of an archive's first member."""
    content = bytearray(path.read_bytes())
    for mark, shift in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
        struct.pack_into("<H", content, content.index(mark) + offset + shift, value)
    path.write_bytes(content)


@pytest.mark.parametrize("damage", ["data", "compression"])
def test_a_damaged_member_of_a_zip_archive_is_left_out(damage, zipped):
    if damage == "compression":
        set_header_field(zipped, 8, 99)
    else:
        content = bytearray(zipped.read_bytes())
        start = content.index(b"cat/a.png") + len(b"cat/a.png")
        content[start : start + 8] = b"\xff" * 8
        zipped.write_bytes(content)
    examples = decoding.decode(sources.load(zipped).splits["all"], (8, 9, 3), "stretch")
    assert len(examples) == 3
    assert len(examples.dropped) == 1


def test_an_encrypted_zip_archive_is_refused(zipped):
    set_header_field(zipped, 6, 1)
    with pytest.raises(UsageError, match=r"cat/a\.png is encrypted; unpack it into a folder"):
        sources.load(zipped)


def test_a_decompression_bomb_in_a_zip_archive_is_refused(zipped, monkeypatch):
    with zipfile.ZipFile(zipped, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/bomb.bmp", bytes(200_000))
    assert len(sources.load(zipped).splits["all"]) == 5  # a plain image may be small
    monkeypatch.setattr(zip_folders, "MAX_EXPANDED_BYTES", 100_000)
    with pytest.raises(UsageError, match=r"cat/bomb\.bmp claims 200,000 bytes and stores \d\d\d;"):
        sources.load(zipped)


def test_a_deeply_nested_label_of_a_shard_is_refused(tmp_path):
    path = tmp_path / "all.tar"
    write_shard(path, [(0, "cat"), (1, "dog")], lambda name: (".json", b"[" * 60_000))
    with pytest.raises(UsageError, match=r"000\.json contains no label"):
        sources.load(path)


def write_classes(root, counts):
    for label, count in counts.items():
        for number in range(count):
            path = root / label / f"{label}{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png([ord(label[-1]), number]))


def test_small_classes_are_kept_or_left_out_by_name(tmp_path):
    write_classes(tmp_path, {"a": 12, "b": 1, "c": 2, "d": 12})
    train, validation, test = splits.train_val_test_split(sources.load(tmp_path))
    counts = [np.bincount(part.labels, minlength=4).tolist() for part in (train, validation, test)]
    assert [row[1] for row in counts] == [1, 0, 0]
    assert [row[2] for row in counts] == [1, 1, 0]
    source = sources.load(f"{tmp_path}#min-per-class=3")
    assert source.classes == ("a", "d")
    assert source.notes == ("classes of fewer than 3 images, left out: b (1), c (2)",)
    part = source.splits["all"]
    assert [source.classes[label] for label in part.labels] == [
        Path(item).parent.name for item in part.items
    ]
    assert sources.load(f"{tmp_path}#min-per-class=1").classes == ("a", "b", "c", "d")
    with pytest.raises(UsageError, match="has 0 classes of 13 images or more; the largest has 12"):
        sources.load(f"{tmp_path}#min-per-class=13")
    with pytest.raises(UsageError, match="--min-per-class takes a number from 1, not 'x'"):
        sources.load(f"{tmp_path}#min-per-class=x")
    several = write_images(tmp_path / "several")
    (several / "t.csv").write_text("path,labels\na.png,x|y\nb.png,y\n")
    with pytest.raises(UsageError, match="may have several classes"):
        sources.load(f"{several / 't.csv'}#min-per-class=2")


LABELS = ["n02", "n01", "n02"]  # of the validation images v0, v1, v2


@pytest.mark.parametrize(
    ("folder", "path", "lines"),
    [
        ("val/images", "val/val_annotations.txt", "v{0}.JPEG\t{1}\t0\t32\t44\t62"),
        ("val", "LOC_val_solution.csv", "v{0},{1} 85 1 499 272 {1} 3 4 5 6"),
        ("val", "val.txt", "v{0}.JPEG {2}"),
        ("val", "val/val.txt", "val/v{0}.JPEG {1}"),
        ("validation", "imagenet_2012_validation_synset_labels.txt", "{1}"),
    ],
)
def test_validation_images_of_imagenet_in_one_folder_with_a_list(folder, path, lines, tmp_path):
    write_classes(tmp_path / "train", {"n01": 3, "n02": 2})
    (tmp_path / folder).mkdir(parents=True)
    for number in range(len(LABELS)):
        (tmp_path / folder / f"v{number}.JPEG").write_bytes(png(number))
    rows = [lines.format(number, label, int(label[-1]) - 1) for number, label in enumerate(LABELS)]
    header = ["ImageId,PredictionString"] * path.endswith(".csv")
    (tmp_path / path).write_text("\n".join([*header, *rows]) + "\n")
    source = sources.load(tmp_path)
    assert source.classes == ("n01", "n02")
    assert sorted(source.splits["train"].labels.tolist()) == [0, 0, 0, 1, 1]
    assert found(source, "val") == dict(enumerate(LABELS))
    _, validation, _ = splits.train_val_test_split(source)
    assert len(validation) == len(LABELS)
    (tmp_path / folder / "v9.JPEG").write_bytes(png(9))
    if lines != "{1}":
        assert dict(sources.load(tmp_path).skipped)[str(tmp_path / folder / "v9.JPEG")]
    for wrong, message in (
        ("v7.JPEG n01", "which is not an image of"),
        ("v0.JPEG n77\nv1.JPEG n01", "classes without a folder in train/: n77"),
        ("v0.JPEG 5\nv1.JPEG 0", "class 5 of 2 from 0"),
        ("1\n2", "2 lines for 4 images"),
        ("1\n2\n1\n2", "numbers such as 1 in place of classes"),
    ):
        (tmp_path / path).write_text(wrong)
        with pytest.raises(UsageError, match=message):
            sources.load(tmp_path)


def test_columns_and_other_options_of_the_command_line(tmp_path, monkeypatch):
    taken = []
    monkeypatch.setattr(cross_validation, "train", lambda task, *_, **__: taken.append(task))
    monkeypatch.setattr(_flags, "print_result", lambda *_: None)
    words = ["finetune", "lenet5", "birds.csv", "--columns", "path=file,label=species"]
    assert zoo(words) == 0
    assert zoo([*words, "--pages", "first", "--min-per-class", "3"]) == 0
    (tmp_path / "birds.csv").write_text("file;species\na.png;cat\nb.png;dog\n")
    write_images(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert [task.dataset for task in taken] == [
        "birds.csv#path=file,label=species",
        "birds.csv#path=file,label=species,pages=first,min-per-class=3",
    ]
    assert taken[0].source.classes == ("cat", "dog")


def test_columns_that_do_not_exist_are_refused(tmp_path):
    write_images(tmp_path)
    (tmp_path / "t.csv").write_text("file,species\na.png,cat\n")
    for words, message in (
        ("path=file,label=kind", "no column 'kind'; it has file, species"),
        ("image=file", "path=file,label=species"),
        ("path", "path=file,label=species"),
    ):
        with pytest.raises(UsageError, match=message):
            sources.load(f"{tmp_path}/t.csv#{words}")
