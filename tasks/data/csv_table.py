"""Images and labels from a CSV file."""

from __future__ import annotations

import csv
import io
import re
from itertools import chain

from tasks.data.class_folders import (
    Listing,
    check_classes,
    find_non_images,
    join_names,
    sort_class_names,
)
from zoo.errors import UsageError
from zoo.paths import read_text

COLUMNS = ("path", "label")  # required; "split" is optional
MULTI_LABEL_COLUMN = "labels"  # in place of "label": the data set is multi-label
DELIMITERS = (",", ";", "\t")
LABEL_SEPARATOR = re.compile(r"[|;]")  # between the labels in a cell


def read_csv(path):
    """Reads the list of images in a CSV file.

    The columns are `path` (relative to the folder of the CSV file), `label` and optionally
    `split`; cells are separated by commas, semicolons or tabs. Rows keep their order; rows whose
    file is missing or not an image are skipped. Other columns, such as `patient`, are kept.

    If a cell holds several labels, as `cat|dog` or `cat;dog`, or the column is named `labels`, the
    data set is multi-label; an empty cell then means no label.

    Args:
        path: The `Path` of the CSV file.

    Returns:
        A `Listing`.

    Raises:
        UsageError: The file is not a CSV file, lacks a column, has an empty cell, a single class,
            a class without images, or the same label twice in one cell.
    """
    rows, multi_label = _rows(path)
    paths = [_resolve_path(path.parent, row["path"]) for row in rows]
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
    check_classes(path, classes, _flatten_labels([row for _, row in kept], multi_label), skipped)
    splits = {}
    for file, row in kept:
        files, labels = splits.setdefault(row.get("split", "all"), ([], []))
        files.append(str(file))
        labels.append(row["label"])
    columns = {
        name: {str(file): row[name] for file, row in kept}
        for name in rows[0]
        if name not in (*COLUMNS, MULTI_LABEL_COLUMN, "split")
    }
    return Listing(classes, splits, tuple(skipped), multi_label, columns=columns)


def _resolve_path(folder, cell):
    """Returns the path in a cell; backslashes separate folders unless a file has that name."""
    path = folder / cell
    if "\\" in cell and not path.is_file():
        return folder / cell.replace("\\", "/")
    return path


def _flatten_labels(rows, multi_label):
    """Returns the labels of all rows as one list."""
    labels = (row["label"] for row in rows)
    return list(chain.from_iterable(labels) if multi_label else labels)


def _rows(path):
    """Returns the rows of a CSV file, and whether it is multi-label.

    A row is a dict of stripped cells; multi-label, its `label` is a tuple. Blank lines are skipped.
    """
    columns, rows = _read(path)
    multi_label = MULTI_LABEL_COLUMN in columns and "label" not in columns
    if missing := [name for name in COLUMNS if name not in (*columns, "label" * multi_label)]:
        raise UsageError(
            f"{path} has no column {' and no '.join(missing)}; its first line is "
            f"{','.join(columns)!r:.200}, expected 'path,label' or 'path,label,split'"
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


def _read(path):
    """Returns the column names, and a pair `(line number, row)` for each row that is not blank."""
    content = read_text(path)
    options = {"skipinitialspace": True, "strict": True, "delimiter": _delimiter(content)}
    try:
        reader = csv.DictReader(io.StringIO(content, newline=""), restval="", **options)
        reader.fieldnames = [(name or "").strip().lower() for name in reader.fieldnames or ()]
        rows = [(reader.line_num, _strip_cells(row)) for row in reader]
    except csv.Error as error:
        raise UsageError(f"{path} is not a CSV file: {error}") from error
    return reader.fieldnames, [(line, row) for line, row in rows if any(row.values())]


def _delimiter(content):
    """Returns the delimiter found in the first line of a table; a comma if in doubt."""
    head = content.lstrip().partition("\n")[0].lower()
    for sign in DELIMITERS:
        if "path" in [name.strip(' "\r') for name in head.split(sign)]:
            return sign
    return DELIMITERS[0]


def _strip_cells(row):
    """Returns a row with stripped cells, without the cells beyond the header."""
    return {name: cell.strip() for name, cell in row.items() if name is not None}


def _split_labels(cell, place):
    """Returns the labels in a cell."""
    labels = tuple(label.strip() for label in LABEL_SEPARATOR.split(cell)) if cell else ()
    if "" in labels:
        raise UsageError(f"{place}: an empty label in {cell!r:.100}; separate labels as in cat|dog")
    if duplicates := sorted({label for label in labels if labels.count(label) > 1}):
        raise UsageError(
            f"{place}: {join_names(duplicates)} occurs more than once in {cell!r:.100}"
        )
    return labels
