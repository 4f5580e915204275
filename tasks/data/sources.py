"""Loading of image classification data sets by name: built-in, folder, CSV file or TFDS."""

from __future__ import annotations

import difflib
from importlib import resources

from tasks.data import class_folders, csv_table, in_memory, shapes, tfds_source
from tasks.data.dataset import Source, Split
from zoo.errors import UsageError
from zoo.lazy import np
from zoo.paths import expand_user, special_file_type


def load(name, data_dir=None):
    """Loads a data set by name.

    Classes are sorted by name, numerically if all are numbers; those of built-in and TFDS data
    sets keep their published order.

    Args:
        name: A key of `BUILT_IN`; a folder of class folders, or one with `train`, `val` (`valid`,
            `validation`) and `test` folders of class folders; a CSV file, as in
            `csv_table.read_csv`; or `tfds:NAME`, `tfds:NAME/CONFIG`, a data set of TensorFlow
            Datasets with the features `image` and `label`; or a name that `in_memory.register`
            returned. `./NAME` is a folder even if `NAME` is built in.
        data_dir: The folder of TFDS data sets; by default that of TFDS.

    Returns:
        A `Source`. TFDS splits are read when first used, and slices of them read only the
        examples of the slice.

    Raises:
        UsageError: There is no such data set, or its layout is not supported.
    """
    name = str(name)
    if name in BUILT_IN:
        return BUILT_IN[name]()
    if name.startswith(tfds_source.PREFIX):
        return tfds_source.load(name, data_dir)
    if name.startswith(in_memory.PREFIX):
        return in_memory.load(name)
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
    return Source(
        name,
        listing.classes,
        splits,
        listing.skipped,
        multi_label=listing.multi_label,
        notes=listing.notes,
        columns=listing.columns,
    )


def _encode_labels(labels, listing):
    """Returns labels as class indices, or multi-label as rows of 0 and 1."""
    position = {label: index for index, label in enumerate(listing.classes)}
    if not listing.multi_label:
        return np.array([position[label] for label in labels], "int64")
    rows = np.zeros((len(labels), len(position)), "uint8")
    for row, names in zip(rows, labels, strict=True):
        row[[position[name] for name in names]] = 1
    return rows


def _not_found_error(name, path):
    """Returns the `UsageError` for a name that is not a data set."""
    if (kind := special_file_type(path)) and not path.is_dir():
        return UsageError(f"the data set {name!r} is {kind}, not a regular file or a folder")
    if path.is_file():
        return UsageError(
            f"the data set {name!r} is a file, but not a CSV file; expected a folder of class "
            "folders, or a .csv with the columns path,label (unpack an archive first)"
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
