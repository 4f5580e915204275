"""Parquet files that hold images, as Hugging Face's `datasets` writes them.

An image is a struct of `bytes` and `path`; the names of labels are in the metadata of the schema. A
row of a Parquet file cannot be read alone, so that the encoded images are copied into a temporary
file, and only their offsets are kept in memory.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from tasks.data import archives, csv_table, disk_images
from tasks.data.class_folders import (
    SPLIT_FOLDERS,
    Listing,
    check_classes,
    join_names,
    sort_class_names,
)
from zoo.errors import UsageError
from zoo.lazy import LazyModule

parquet = LazyModule("pyarrow.parquet")

SUFFIX = ".parquet"
FOLDERS = (("",), ("data",), SPLIT_FOLDERS)  # where tables are looked for
ROWS_READ = 64  # at once
IMAGES, LABELS = ("image", "img", "jpg", "png"), ("label", "labels", "cls")  # usual names
METADATA_KEY = b"huggingface"
READ_ERRORS = (OSError, ValueError, NotImplementedError, KeyError)  # also those of pyarrow


class CopiedImages(Sequence):
    """Encoded images in a temporary file, as bytes; each is read when it is indexed."""

    def __init__(self):
        self._file, self._offsets, self._end = disk_images.UnnamedFile(), [], 0

    def append(self, data):
        """Adds an image."""
        self._file.write(data, self._end)
        self._offsets.append((self._end, len(data)))
        self._end += len(data)

    def __len__(self):
        return len(self._offsets)

    def __getitem__(self, index):
        offset, size = self._offsets[index]
        data = bytearray(size)
        self._file.read(data, offset)
        return bytes(data)


def find_tables(folder):
    """Returns the Parquet files with images in a folder, its `data` or its `train`; or nothing."""
    for names in FOLDERS:
        found = [x for name in names for x in sorted((folder / name).glob(f"*{SUFFIX}"))]
        found = [x for x in found if not x.name.startswith(".")]
        if found and holds_images(found[0]):
            return found
    return []


def holds_images(path):
    """Returns whether a Parquet file has a column of images; `False` if it cannot be read."""
    try:
        return bool(_image_columns(parquet.read_schema(path)))
    except (ModuleNotFoundError, *READ_ERRORS):
        return False  # reported when it is read as a table of paths


def read(paths, columns=""):
    """Returns the `Listing` of Parquet files with images.

    The split of a file is in its name, such as `train-00000-of-00002.parquet`, or that of its
    folder, as in `archives.split_name`.

    Args:
        paths: The `Path`s of the files.
        columns: The columns of images and labels, as in `path=img,label=fine_label`; by default the
            one of images, and the usual name of labels or the only one with names.

    Raises:
        UsageError: A file is damaged, or has no such columns.
    """
    chosen = csv_table.parse_columns(columns)
    found, skipped, names = {}, [], ()
    for path in paths:
        try:
            table = parquet.ParquetFile(path)
            image, label = _columns(path, table.schema_arrow, chosen)
            names = _class_names(table.schema_arrow, label)
            images, labels = found.setdefault(archives.split_name(path), (CopiedImages(), []))
            for location, data, value in _rows(path, table, image, label):
                if not data or value in (None, -1):
                    skipped.append((location, "no label" if data else "no bytes of an image"))
                    continue
                images.append(data)
                labels.append(_label(location, value, names))
        except READ_ERRORS as error:
            raise UsageError(f"{path} is not a Parquet file, or damaged: {error}") from error
    return _listing(paths[0], {k: rows for k, rows in found.items() if rows[1]}, names, skipped)


def _listing(path, found, names, skipped):
    labels = [label for _, rows in found.values() for label in rows]
    multi_label = any(isinstance(label, tuple) for label in labels)
    if multi_label:
        labels = [name for row in labels for name in row]
    present = {*labels}
    classes = tuple(name for name in names if name in present) or sort_class_names(present)
    check_classes(path, classes, labels, skipped)
    absent = [name for name in names if name not in present]
    notes = (f"classes without images, left out: {join_names(absent)}",) if absent else ()
    return Listing(classes, found, tuple(skipped), multi_label, notes)


def _rows(path, table, image, label):
    """Yields the name, the encoded image and the label of each row."""
    number = 0
    for batch in table.iter_batches(ROWS_READ, columns=[image, label]):
        for row in batch.to_pylist():
            number += 1
            yield f"{path}, row {number}", (row[image] or {}).get("bytes"), row[label]


def _columns(path, schema, chosen):
    """Returns the names of the columns of images and labels."""
    own = {name.lower(): name for name in schema.names}
    if missing := [name for name in chosen.values() if name not in own]:
        raise UsageError(f"{path} has no column {missing[0]!r}; it has {', '.join(schema.names)}")
    named = [name for name in schema.names if _feature_names(_features(schema).get(name))]
    image = chosen.get("path") or _choose(_image_columns(schema), IMAGES)
    label = chosen.get("label") or chosen.get("labels")
    label = label or _choose(named, LABELS) or next((x for x in LABELS if x in own), None)
    if not image or not label:
        raise UsageError(
            f"{path} has the columns {', '.join(schema.names)}; name those of images and labels, "
            f"as in {path.name}#path=image,label=label"
        )
    return own[image.lower()], own[label.lower()]


def _choose(names, usual):
    """Returns the only one of some names, or the first of the usual ones; else `None`."""
    if len(names) == 1:
        return names[0]
    return next((name for name in usual if name in names), None)


def _image_columns(schema):
    return [
        field.name
        for field in schema
        if hasattr(field.type, "get_field_index") and field.type.get_field_index("bytes") >= 0
    ]


def _class_names(schema, column):
    """Returns the names of the labels of a column, or nothing."""
    return tuple(_feature_names(_features(schema).get(column)))


def _features(schema):
    """Returns the features that `datasets` describes in the metadata, a dict."""
    try:
        found = json.loads((schema.metadata or {})[METADATA_KEY])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _feature_names(feature):
    """Returns the names of a class label, or of a list of them."""
    while isinstance(feature, dict) and isinstance(feature.get("feature"), dict):
        feature = feature["feature"]
    names = feature.get("names") if isinstance(feature, dict) else None
    return [str(name) for name in names] if isinstance(names, list) else []


def _label(location, value, names):
    """Returns the class name of a value, a tuple of a list of them."""
    if isinstance(value, list):
        return tuple(_label(location, each, names) for each in value)
    if not names or not isinstance(value, int):
        return str(value).strip()
    if not 0 <= value < len(names):
        raise UsageError(f"{location}: label {value}; there are names of 0 to {len(names) - 1}")
    return names[value]
