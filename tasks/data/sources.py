"""What the name of a data set means."""

from __future__ import annotations

import difflib
from importlib import resources

from tasks.data import class_folders, csv_table, shapes, tfds_source
from tasks.data.dataset import Source, Split
from zoo.errors import UsageError
from zoo.lazy import np
from zoo.paths import expand_user, special_file_type


def load(name, data_dir=None):
    """Finds a data set by name.

    Classes stand in the order of their names, as numbers where all are such; those of a
    built-in and of TFDS in the order that their makers chose.

    Args:
        name: a key of `BUILT_IN`; a folder of class folders, or one with `train`, `val` (`valid`,
            `validation`) and `test` folders of such; a CSV file, as `csv_table.read_csv` reads it;
            or
            `tfds:NAME`, `tfds:NAME/CONFIG`, a data set of TFDS with image and label. `./NAME` is a
            folder even where `NAME` is built in.
        data_dir: where TFDS keeps its data sets; the default is its own.

    Returns:
        A `Source`. The splits of TFDS are read when first used, and slices read no more than
        they hold.

    Raises:
        UsageError: there is nothing of that name, or it is not laid out as it should be.
    """
    name = str(name)
    if name in BUILT_IN:
        return BUILT_IN[name]()
    if name.startswith(tfds_source.PREFIX):
        return tfds_source.load(name, data_dir)
    path = expand_user(name)
    with class_folders.reading_errors(name):
        if name and path.is_dir():
            return _to_source(name, class_folders.list_folder(path))
        if path.suffix.lower() == ".csv" and path.is_file():
            return _to_source(name, csv_table.read_csv(path))
    raise _not_found_error(name, path)


def _to_source(name, listing):
    splits = {
        split: Split(split, items, _encode_labels(labels, listing))
        for split, (items, labels) in listing.splits.items()
    }
    return Source(name, listing.classes, splits, listing.skipped, multi_label=listing.multi_label)


def _encode_labels(labels, listing):
    """Returns labels as positions, or where there are several as a row of 0 and 1 each."""
    position = {label: index for index, label in enumerate(listing.classes)}
    if not listing.multi_label:
        return np.array([position[label] for label in labels], "int64")
    rows = np.zeros((len(labels), len(position)), "uint8")
    for row, several in zip(rows, labels, strict=True):
        row[[position[label] for label in several]] = 1
    return rows


def _not_found_error(name, path):
    """Returns the error for a name that stands for nothing."""
    if (kind := special_file_type(path)) and not path.is_dir():
        return UsageError(f"the data set {name!r} is {kind}, not a regular file or a folder")
    if path.is_file():
        return UsageError(
            f"the data set {name!r} is a file, but no CSV file; needed: a folder of class folders, "
            "or a .csv with the columns path,label (unpack an archive first)"
        )
    text = f"no data set named {name!r}"
    if close := difflib.get_close_matches(name, BUILT_IN):
        return UsageError(f"{text}; did you mean {' or '.join(close)}?")
    text += f": not a built-in ({', '.join(BUILT_IN)}), no such folder or file"
    if name and path.name == name and not path.suffix:
        text += f"; for TensorFlow Datasets write {tfds_source.PREFIX}{name}"
    return UsageError(text)


def _fashion_sample():
    with (resources.files("zoo") / "assets" / "fashion_sample.npz").open("rb") as file:
        arrays = dict(np.load(file))
    splits = {
        split: Split(split, arrays[f"{split}_images"], arrays[f"{split}_labels"].astype("int64"))
        for split in ("train", "test")
    }
    return Source(
        "fashion_sample",
        tuple(map(str, arrays["classes"])),
        splits,
        licence="MIT, Copyright (c) 2017 Zalando SE",
        citation="Xiao, Rasul and Vollgraf: Fashion-MNIST, https://arxiv.org/abs/1708.07747",
    )


def _shapes():
    splits = {name: Split(name, shapes.Scenes(name), shapes.labels(name)) for name in shapes.SPLITS}
    return Source("shapes", tuple(shapes.SHAPES), splits)


BUILT_IN = {"fashion_sample": _fashion_sample, "shapes": _shapes}
