"""Variants of layouts that programs other than ours write, read value by value."""

from __future__ import annotations

import json
import shutil
import unicodedata
import zipfile

import pytest

from tasks.advice import corrections
from tasks.data import coco, sources
from tests.tasks.data.test_layouts import (
    EXPECTED,
    NAMED,
    ROWS,
    found,
    png,
    write_images,
    write_parquet,
    write_shard,
)
from zoo.errors import UsageError

LABELED = [(number, label) for number, (_, label) in enumerate(ROWS)]


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("imagenet-train-000000.tar", "imagenet-test-000000.tar"),
        ("train/000.tar", "Test/000.tar"),
        ("train-0.tar", "test-0.tar"),
    ],
)
def test_the_split_of_a_shard_is_in_its_name_or_folder(train, test, tmp_path):
    for name, rows in ((train, LABELED), (test, LABELED[:2])):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_shard(tmp_path / name, rows)
    (tmp_path / "README.md").write_text("a data card")
    (tmp_path / "dataset_info.json").write_text("{}")
    source = sources.load(tmp_path)
    assert found(source, "train") == EXPECTED
    assert found(source, "test") == dict(LABELED[:2])


def test_shards_beside_class_folders_are_no_data_set_of_their_own(tmp_path):
    for number, label in LABELED:
        (tmp_path / "train" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / label / f"{number}.png").write_bytes(png(number))
    write_shard(tmp_path / "backup.tar", LABELED[:2])
    assert found(sources.load(tmp_path), "train") == EXPECTED


def test_tfrecords_with_the_names_of_tfds(tmp_path):
    tf = pytest.importorskip("tensorflow")
    for split, rows in (("train", LABELED), ("test", LABELED[:2])):
        path = tmp_path / f"pets-{split}.tfrecord-00000-of-00001"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for number, label in rows:
                values = {"image": png(number), "label": label.encode()}
                lists = {key: tf.train.BytesList(value=[value]) for key, value in values.items()}
                features = {key: tf.train.Feature(bytes_list=value) for key, value in lists.items()}
                example = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(example.SerializeToString())
    (tmp_path / "features.json").write_text("{}")
    source = sources.load(tmp_path)
    assert found(source, "train") == EXPECTED
    assert found(source, "test") == dict(LABELED[:2])
    assert found(sources.load(path), "test") == dict(LABELED[:2])


@pytest.mark.parametrize("text", ['{"label": null}', '{"label": ["cat", "dog"]}', '{"label": ""}'])
def test_a_shard_without_one_label_per_image_is_refused(text, tmp_path):
    write_shard(tmp_path / "a.tar", LABELED, lambda name: (".json", text.encode()))
    with pytest.raises(UsageError, match=r"000\.json contains .*; expected one label"):
        sources.load(tmp_path / "a.tar")
    write_shard(tmp_path / "a.tar", LABELED, lambda name: (".cls", b"\n"))
    with pytest.raises(UsageError, match=r"000\.cls contains ''; expected one label"):
        sources.load(tmp_path / "a.tar")


def test_a_compressed_tar_file_is_refused_with_the_way_out(tmp_path):
    write_shard(tmp_path / "a.tar", LABELED)
    for name in ("a.tar.gz", "a.tgz"):
        shutil.copy(tmp_path / "a.tar", tmp_path / name)
        with pytest.raises(UsageError, match="is a compressed tar file; decompress it: gzip -d"):
            sources.load(tmp_path / name)


def test_backslashes_in_a_zip_archive_separate_folders(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number, label in LABELED:
            member = zipfile.ZipInfo("x")
            member.filename = f"data\\{label}\\{number}.png"  # as .NET before 4.6.1 writes it
            archive.writestr(member, png(number))
    assert found(sources.load(tmp_path / "a.zip")) == EXPECTED


@pytest.mark.parametrize("name", ["train-00000-of-00001.parquet", "train/0000.parquet"])
def test_columns_of_a_folder_of_parquet_files(name, tmp_path):
    fine = {"fine": {"names": ["b", "a"], "_type": "ClassLabel"}}
    coarse = {"coarse": NAMED["label"]}
    (tmp_path / "set").mkdir()
    labels = [1, 0, 1, 0]
    features = {**fine, **coarse}
    write_parquet(tmp_path / "set" / name, range(4), labels, features, fine=labels, coarse=labels)
    source = sources.load(f"{tmp_path / 'set'}#path=img,label=fine")
    assert source.classes == ("b", "a")
    assert found(sources.load(f"{tmp_path / 'set'}#label=coarse"), "train") == EXPECTED


def test_columns_of_the_metadata_of_hugging_face(tmp_path):
    write_images(tmp_path, "Train")
    rows = "".join(f"{name},{label}\n" for name, label in ROWS)
    (tmp_path / "Train" / "metadata.csv").write_text(f"file_name,species\n{rows}")
    source = sources.load(f"{tmp_path}#label=species,min-per-class=2")
    assert found(source, "train") == EXPECTED
    with pytest.raises(UsageError, match="has no column 'kind'; it has file_name, species"):
        sources.load(f"{tmp_path}#label=kind")


TABLES = {  # text: a part of the message
    "path,label,Label\na.png,cat,1\nb.png,dog,2\n": "has several columns named 'label'",
    "path,label\na.png,cat, big\nb.png,dog\n": "line 2 has more cells than the header (2), such",
}


@pytest.mark.parametrize("text", TABLES)
def test_ambiguous_tables_are_refused(text, tmp_path):
    write_images(tmp_path)
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UsageError) as error:
        sources.load(tmp_path / "t.csv")
    assert TABLES[text] in str(error.value)


def test_several_columns_of_a_name_in_parquet_are_refused(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = [[name for name, _ in ROWS], ["x"] * 4, ["y"] * 4]
    table = pyarrow.Table.from_arrays([*map(pyarrow.array, columns)], ["path", "label", "label"])
    parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(UsageError, match=r"^[^ ]* has several columns named 'label'; rename one"):
        sources.load(tmp_path / "t.parquet")


def test_tables_of_excel_with_a_line_for_the_separator(tmp_path):
    write_images(tmp_path)
    rows = "".join(f"{name};{label};\r\n" for name, label in ROWS)
    (tmp_path / "t.csv").write_text(f"\ufeffsep=;\r\npath;label\r\n{rows}", "utf-8", newline="")
    assert found(sources.load(tmp_path / "t.csv")) == EXPECTED
    (tmp_path / "t.csv").write_text("sep=;\npath;label\na.png;cat\nb.png;\n")
    with pytest.raises(UsageError, match="no label: line 4"):
        sources.load(tmp_path / "t.csv")


def test_a_label_that_is_no_number_is_missing(tmp_path):
    write_images(tmp_path)
    lines = ['{"path": "a.png", "label": 1.0}', '{"path": "b.png", "label": NaN}']
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    with pytest.raises(UsageError, match="a row has no label: line 2"):
        sources.load(tmp_path / "t.jsonl")


def test_labels_of_a_repeated_image_may_have_another_order(tmp_path):
    write_images(tmp_path)
    (tmp_path / "t.csv").write_text("path,label\na.png,x|y\na.png,y|x\nb.png,y\n")
    source = sources.load(tmp_path / "t.csv")
    assert source.notes == ("rows of t.csv that name an image once more: 1",)


@pytest.mark.parametrize(("stored", "listed"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_accents_may_be_composed_in_another_way(stored, listed, tmp_path):
    names = [f"é{number}.png" for number, _ in LABELED]
    for number, name in enumerate(names):
        (tmp_path / unicodedata.normalize(stored, name)).write_bytes(png(number))
    rows = [f"{unicodedata.normalize(listed, n)},{ROWS[i][1]}\n" for i, n in enumerate(names)]
    (tmp_path / "t.csv").write_text("path,label\n" + "".join(rows), "utf-8")
    assert found(sources.load(tmp_path / "t.csv")) == EXPECTED


def studio(number):
    choices = [{"value": {"choices": [ROWS[number][1]]}}] if number < 3 else []
    return {"data": {"image": ROWS[number][0]}, "annotations": [{"result": choices}]}


def tag(number):
    inside = f'<tag label="{ROWS[number][1]}"/>' if number < 3 else ""
    return f'<image name="{ROWS[number][0]}">{inside}</image>'


EXPORTS = {
    "a.json": json.dumps([*map(studio, range(4))]),
    "annotations.xml": f"<annotations>{''.join(map(tag, range(4)))}</annotations>",
}


@pytest.mark.parametrize("name", EXPORTS)
def test_images_without_a_label_in_an_export_are_counted(name, tmp_path):
    write_images(tmp_path)
    (tmp_path / name).write_text(EXPORTS[name])
    source = sources.load(tmp_path / name)
    assert found(source) == {0: "cat", 1: "dog", 2: "cat"}
    assert source.notes == ("images without a label, left out: 1",)


def test_a_class_of_roboflow_without_images_is_left_out(tmp_path):
    write_images(tmp_path, "train")
    rows = "".join(f"{n}, {int(x == 'cat')}, {int(x == 'dog')}, 0\n" for n, x in ROWS)
    (tmp_path / "train" / "_classes.csv").write_text(f"filename, cat, dog, Unlabeled\n{rows}")
    source = sources.load(tmp_path)
    assert found(source, "train") == EXPECTED
    assert source.notes == ("classes without images, left out: Unlabeled",)


def test_corrections_keep_the_columns_of_a_table(tmp_path):
    write_images(tmp_path)
    rows = "".join(f"{name},{label},p{i % 2}\n" for i, (name, label) in enumerate(ROWS))
    (tmp_path / "t.csv").write_text(f"path,label,Patient\n{rows}")
    table = tmp_path / "corrections.csv"
    table.write_text(f"path,action,label\n{tmp_path / 'a.png'},relabel,dog\n")
    made, _ = corrections.apply(tmp_path / "t.csv", table, tmp_path / "out")
    source = sources.load(made)
    assert found(source) == {**EXPECTED, 0: "dog"}
    patients = sources.load(tmp_path / "t.csv").columns["patient"]
    assert source.columns["patient"] == patients
    with table.open("a") as file:
        file.write(f"{tmp_path / 'a.png'},remove,\n")
    with pytest.raises(UsageError, match=r"line 3: an earlier line corrects .* in another way"):
        corrections.apply(tmp_path / "t.csv", table, tmp_path / "out2")


def test_accents_in_exports_may_be_composed_in_another_way(tmp_path):
    names = [f"é{number}.png" for number, _ in LABELED]
    for number, name in enumerate(names):
        (tmp_path / unicodedata.normalize("NFD", name)).write_bytes(png(number))
    rows = [{"data": {"image": f"/data/upload/1/0a1b2c3d-{name}"}} for name in names]
    for row, (_, label) in zip(rows, ROWS, strict=True):
        row["annotations"] = [{"result": [{"value": {"choices": [label]}}]}]
    (tmp_path / "a.json").write_text(json.dumps(rows), "utf-8")
    assert found(sources.load(tmp_path / "a.json")) == EXPECTED
    for path in coco.locate_images(tmp_path, [f"C:\\data\\{name}" for name in names]):
        assert path.is_file()


def test_a_folder_of_images_and_masks_is_for_segmentation(tmp_path):
    for folder in ("images", "masks"):
        write_images(tmp_path, folder)
    with pytest.raises(UsageError, match="has images and masks: zoo train segmentation --dataset"):
        sources.load(tmp_path)
