"""Groups of images are never divided between splits."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from tasks.data import dataset, grouping, sources, splits
from zoo.errors import UsageError

PATIENT = r"(p\d+)_"


@pytest.fixture
def folder(tmp_path):
    """A folder of two classes with the images of 30 patients, each in both classes."""
    return write_images(tmp_path / "p1_data", range(30))


def write_images(root, patients, splits=("",), copies=3):
    rng = np.random.default_rng(0)
    for split in splits:
        for name in ("healthy", "ill"):
            (root / split / name).mkdir(parents=True, exist_ok=True)
            for patient in patients:
                for number in range(copies):
                    pixels = rng.integers(0, 256, (8, 8, 3), "uint8")
                    Image.fromarray(pixels).save(root / split / name / f"p{patient}_{number}.png")
    return root


def patients(split):
    return {re.search(PATIENT, item.rpartition("/")[2])[1] for item in split.items}


def test_no_patient_is_in_two_splits(folder):
    source = sources.load(folder)
    parts = splits.train_val_test_split(source, group_by=PATIENT)
    found = [patients(part) for part in parts]
    assert sum(map(len, found)) == len(set.union(*found)) == 30
    assert all(len(part) == 6 * len(own) for part, own in zip(parts, found, strict=True))
    divided = [patients(part) for part in splits.train_val_test_split(source)]
    assert divided[0] & divided[2]  # without groups, which the test would miss otherwise


@pytest.mark.parametrize("seed", range(20))
def test_no_group_is_divided_for_any_groups_and_duplicates(seed):
    rng = np.random.default_rng(seed)
    names = [f"g{x}" for x in rng.integers(0, 12, 60)]
    keys = [bytes([x]) for x in rng.integers(0, 50, 60)]
    merged = grouping.merge_keys(keys, names)
    for one in range(60):
        for two in range(60):
            if names[one] == names[two] or keys[one] == keys[two]:
                assert merged[one] == merged[two]
    connected = {(name, key) for name, key in zip(names, keys, strict=True)}
    assert len(set(merged)) == components(connected)


def components(edges):
    """Counts the connected components of a bipartite graph by flooding it."""
    left, count = set(edges), 0
    while left:
        reached, count = {left.pop()}, count + 1
        while more := {x for x in left if any(x[0] == y[0] or x[1] == y[1] for y in reached)}:
            reached |= more
            left -= more
    return count


def test_another_image_of_a_patient_moves_no_image(folder):
    before = [
        patients(x) for x in splits.train_val_test_split(sources.load(folder), "", "", "", PATIENT)
    ]
    Image.fromarray(np.full((8, 8, 3), 9, "uint8")).save(folder / "ill" / "p3_9.png")
    after = [
        patients(x) for x in splits.train_val_test_split(sources.load(folder), "", "", "", PATIENT)
    ]
    assert before == after


def test_a_few_groups_give_each_split_one(tmp_path):
    source = sources.load(write_images(tmp_path, range(3)))
    found = [patients(part) for part in splits.train_val_test_split(source, group_by=PATIENT)]
    assert sorted(map(len, found)) == [1, 1, 1]
    source = sources.load(write_images(tmp_path / "two", range(2)))
    with pytest.raises(UsageError, match=r"12 examples of all in .* in 2 groups are too few"):
        splits.train_val_test_split(source, group_by=PATIENT)


def test_own_splits_that_share_a_group_are_refused(tmp_path):
    source = sources.load(write_images(tmp_path, range(4), ("train", "test"), copies=1))
    message = r"train \(.*\) and test \(test\) share 4 groups: p0, p1, p2, p3; .*--train-split all"
    with pytest.raises(UsageError, match=message):
        splits.train_val_test_split(source, validation="none", group_by=PATIENT)
    parts = splits.train_val_test_split(source, "all", group_by=PATIENT)
    assert len(set.union(*map(patients, parts))) == sum(len(patients(x)) for x in parts) == 4


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", r"--group-by '\(' is not a regular expression: missing"),
        (r"q\d+", r"--group-by 'q\\\\d\+' finds no group in (healthy|ill)/p"),
    ],
)
def test_wrong_patterns_are_refused(folder, pattern, message):
    with pytest.raises(UsageError, match=message):
        splits.train_val_test_split(sources.load(folder), group_by=pattern)


def test_the_common_folder_of_absolute_and_relative_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    items = [str(tmp_path / "a/x.png"), "b/y.png"]
    part = dataset.Split("all", items, np.array([0, 0]))
    root = grouping.common_folder(dataset.Source("some", ("c",), {"all": part}))
    assert root == str(tmp_path)
    assert grouping.group_names(items, r"^(\w)/", root) == ["a", "b"]


def test_images_that_are_not_files_are_refused():
    with pytest.raises(UsageError, match="the images of fashion_sample are not files"):
        splits.train_val_test_split(sources.load("fashion_sample"), group_by="x")


@pytest.fixture
def table(folder):
    """A table of the images of `folder`, whose column `patient` shuffles the patients."""
    rows = ["path,label,patient"]
    for path in sorted(folder.rglob("*.png")):
        number = int(re.search(PATIENT, path.name)[1][1:])
        rows.append(f"{path.relative_to(folder)},{path.parent.name},n{number * 7 % 30 // 2}")
    (folder / "table.csv").write_text("\n".join(rows), "utf-8")
    return folder / "table.csv"


def column_groups(source, split):
    return {source.columns["patient"][item] for item in split.items}


@pytest.mark.parametrize("name", ["patient", "Patient"])
def test_no_group_of_a_column_is_in_two_splits(table, name):
    table.write_text(table.read_text("utf-8").replace("patient", name, 1), "utf-8")
    source = sources.load(table)
    parts = splits.train_val_test_split(source, group_by=name)
    found = [column_groups(source, part) for part in parts]
    assert sum(map(len, found)) == len(set.union(*found)) == 15


def test_image_without_group_is_refused(table):
    table.write_text(re.sub(r",n\d+\n", ",\n", table.read_text("utf-8"), count=1), "utf-8")
    with pytest.raises(UsageError, match="1 images have none"):
        splits.train_val_test_split(sources.load(table), group_by="patient")


def test_columns_are_named_if_a_pattern_finds_nothing(table):
    with pytest.raises(UsageError, match="columns are patient"):
        splits.train_val_test_split(sources.load(table), group_by="patients")


@pytest.mark.parametrize("group_by", ["patient", ""])
def test_folds_test_each_image_once_and_divide_no_group(table, group_by):
    source = sources.load(table)
    tested = []
    for fold in range(1, 4):
        train, validation, test = splits.train_val_test_split(
            source, test=f"fold[{fold}/3]", group_by=group_by
        )
        assert len(train) + len(validation) + len(test) == 180
        tested += test.items
        if group_by:
            found = [column_groups(source, part) for part in (train, validation, test)]
            assert sum(map(len, found)) == len(set.union(*found)) == 15
    assert sorted(tested) == sorted(source.splits["all"].items)


@pytest.mark.parametrize(
    ("test", "validation", "message"),
    [
        ("fold[4/3]", "", "numbered from 1 to 3"),
        ("fold[1/1]", "", "1 folds"),
        ("fold[1/3]", "all[:10]", "a tenth of the other folds"),
    ],
)
def test_folds_that_do_not_exist_are_refused(table, test, validation, message):
    with pytest.raises(UsageError, match=message):
        splits.train_val_test_split(sources.load(table), "", validation, test)
