"""Images and labels from a table."""

from __future__ import annotations

import os
import re
from itertools import chain

from tasks.data import file_names, table_formats
from tasks.data.class_folders import (
    SPLIT_FOLDERS,
    Listing,
    check_classes,
    find_non_images,
    join_names,
    sort_class_names,
)
from zoo.errors import UsageError

COLUMNS = ("path", "label")  # required; "split" is optional
MULTI_LABEL_COLUMN = "labels"  # in place of "label": the data set is multi-label
LABEL_SEPARATOR = re.compile(r"[|;]")  # between the labels in a cell


def read_csv(path, columns=""):
    """Reads the list of images in a table: a CSV, Parquet or JSON lines file.

    The columns are `path` (relative to the folder of the CSV file), `label` and optionally
    `split`; cells are separated by commas, semicolons or tabs. Rows keep their order; rows whose
    file is missing or not an image are skipped. Other columns, such as `patient`, are kept.

    If a cell holds several labels, as `cat|dog` or `cat;dog`, or the column is named `labels`, the
    data set is multi-label; an empty cell then means no label.

    Args:
        path: The `Path` of the table.
        columns: Other names of the columns, as in `parse_columns`.

    Returns:
        A `Listing`.

    Raises:
        UsageError: The file is not a CSV file, lacks a column, has an empty cell, a single class,
            a class without images, the same label twice in one cell, or one image with different
            labels.
    """
    rows, multi_label = _rows(path, parse_columns(columns))
    paths = [file_names.find_file(path.parent, row["path"]) for row in rows]
    reasons = dict(find_non_images(paths))
    skipped = [(str(file), reason) for file, reason in reasons.items()]
    if len(reasons) == len(set(paths)):
        file, reason = skipped[0]
        raise UsageError(
            f"none of the {len(rows)} rows of {path} names an image; the first, {file}: {reason} "
            f"(paths start from the folder of the CSV, {path.parent})"
        )
    classes = sort_class_names(set(_flatten_labels(rows, multi_label)))
    kept = [(file, row) for file, row in zip(paths, rows, strict=True) if file not in reasons]
    repeated = _count_repeated(path, kept)
    check_classes(path, classes, _flatten_labels([row for _, row in kept], multi_label), skipped)
    splits = {}
    for file, row in kept:
        files, labels = splits.setdefault(_split_name(row.get("split", "all")), ([], []))
        files.append(str(file))
        labels.append(row["label"])
    columns = {
        name: {str(file): row[name] for file, row in kept}
        for name in rows[0]
        if name not in (*COLUMNS, MULTI_LABEL_COLUMN, "split")
    }
    note = f"rows of {path.name} that name an image once more: {repeated:,}"
    notes = (note,) if repeated else ()
    return Listing(classes, splits, tuple(skipped), multi_label, notes, columns)


def read_metadata(tables, columns=""):
    """Reads the `metadata` tables of Hugging Face's ImageFolder, with the column `file_name`.

    Args:
        tables: The path of the table of each split.
        columns: Other names of the columns, as in `parse_columns`.

    Returns:
        A `Listing`, or `None` without a column of labels: then folders are classes.

    Raises:
        UsageError: As for `read_csv`, or one split has several labels per image and another one.
    """
    names = {"path": "file_name", **parse_columns(columns)}
    path = next(iter(tables.values()))
    labels = {names.get(name, name) for name in ("label", MULTI_LABEL_COLUMN)}
    if not columns and not labels & {*table_formats.read(path, names["path"])[0]}:
        return None
    columns = ",".join(f"{name}={column}" for name, column in names.items())
    found = {split: read_csv(path, columns) for split, path in tables.items()}
    multi_label = {listing.multi_label for listing in found.values()}
    if len(multi_label) > 1:
        names = ", ".join(map(str, tables.values()))
        raise UsageError(f"{names}: some have one label per image, and some have several")
    classes = sort_class_names({name for listing in found.values() for name in listing.classes})
    splits, columns = {}, {}
    for split, listing in found.items():
        own = listing.splits
        splits |= own if split == "all" else {split: next(iter(own.values()))}
        for name, cells in listing.columns.items():
            columns[name] = {**columns.get(name, {}), **cells}
    skipped = tuple(pair for listing in found.values() for pair in listing.skipped)
    notes = tuple(line for listing in found.values() for line in listing.notes)
    return Listing(classes, splits, skipped, *multi_label, notes, columns)


def _count_repeated(path, kept):
    """Returns how many rows name an image that an earlier row names.

    Raises:
        UsageError: An image has one label in one row, and another one in another.
    """
    labels = {}
    for file, row in kept:
        label = row["label"] if isinstance(row["label"], str) else "|".join(sorted(row["label"]))
        earlier = labels.setdefault(os.path.normpath(file), label)
        if earlier != label:
            raise UsageError(
                f"{path} lists {row['path']} as {earlier!r:.100} and as {label!r:.100}; keep one "
                "of these rows, or write several labels of an image in one row, as in cat|dog"
            )
    return len(kept) - len(labels)


def _split_name(cell):
    """Returns the split in a cell: `Train` is `train`."""
    return cell.lower() if cell.lower() in SPLIT_FOLDERS else cell


def _flatten_labels(rows, multi_label):
    """Returns the labels of all rows as one list."""
    labels = (row["label"] for row in rows)
    return list(chain.from_iterable(labels) if multi_label else labels)


def _rows(path, names):
    """Returns the rows of a CSV file, and whether it is multi-label.

    A row is a dict of stripped cells; multi-label, its `label` is a tuple. Blank lines are skipped.
    """
    columns, rows = _read(path, names)
    multi_label = MULTI_LABEL_COLUMN in columns and "label" not in columns
    if missing := [name for name in COLUMNS if name not in (*columns, "label" * multi_label)]:
        raise UsageError(
            f"{path} has no column {' and no '.join(missing)}; its first line is "
            f"{','.join(columns)!r:.200}, expected 'path,label' or 'path,label,split', or "
            f"{path}#path=COLUMN,label=COLUMN"
        )
    if not rows:
        raise UsageError(f"{path} has no rows below its header")
    if multi_label:
        rows = [(line, {**row, "label": row[MULTI_LABEL_COLUMN]}) for line, row in rows]
    multi_label = multi_label or any(LABEL_SEPARATOR.search(row["label"]) for _, row in rows)
    for name in ("path", *(() if multi_label else ("label",)), "split"):
        if lines := [line for line, row in rows if row.get(name) == ""]:
            count = f"{len(lines)} rows have" if len(lines) > 1 else "a row has"
            raise UsageError(
                f"{path}: {count} no {name}: line {join_names(lines)}; fill in or delete"
                + (f", or name the column {MULTI_LABEL_COLUMN!r}" if name == "label" else "")
            )
    if multi_label:
        for line, row in rows:
            row["label"] = _split_labels(row["label"], f"{path}, line {line}")
    return [row for _, row in rows], multi_label


def parse_columns(text):
    """Returns the column of the table for each column of `COLUMNS` and others, as a dict.

    Args:
        text: Pairs such as `path=file,label=species`.

    Raises:
        UsageError: The text has another form.
    """
    pairs = [pair.split("=") for pair in text.lower().split(",")] if text else []
    names = {pair[0].strip(): pair[-1].strip() for pair in pairs}
    known = (*COLUMNS, MULTI_LABEL_COLUMN, "split")
    if any(len(pair) != 2 or not pair[1].strip() for pair in pairs) or names.keys() - {*known}:
        raise UsageError(
            f"columns are named as path=file,label=species, of {', '.join(known)}; got {text!r}"
        )
    return names


def _read(path, names):
    """Returns the column names and the rows of a table, with columns renamed by `names`."""
    columns, rows = table_formats.read(path, names.get("path", "path"))
    if missing := [other for other in names.values() if other not in columns]:
        raise UsageError(f"{path} has no column {missing[0]!r}; it has {', '.join(columns)}")
    new = {other: name for name, other in names.items()}
    kept = [name for name in columns if name in new or name not in names]
    renamed = [(line, {new.get(name, name): row[name] for name in kept}) for line, row in rows]
    return [new.get(name, name) for name in kept], renamed


def _split_labels(cell, location):
    """Returns the labels in a cell."""
    labels = tuple(label.strip() for label in LABEL_SEPARATOR.split(cell)) if cell else ()
    if "" in labels:
        raise UsageError(
            f"{location}: an empty label in {cell!r:.100}; separate labels as in cat|dog"
        )
    if duplicates := sorted({label for label in labels if labels.count(label) > 1}):
        raise UsageError(
            f"{location}: {join_names(duplicates)} occurs more than once in {cell!r:.100}"
        )
    return labels
