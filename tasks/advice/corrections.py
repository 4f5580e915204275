"""Corrections of a data set: a CSV file of new labels and images to remove, and its application."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from tasks.data import csv_table, image_formats, image_io, sources, table_formats
from zoo import atomic_files
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")

COLUMNS = ("path", "action", "label")  # the others, such as `given` and `score`, are ignored
RELABEL, REMOVE, KEEP = ACTIONS = ("relabel", "remove", "keep")
SUGGESTED = "label_errors.csv"  # suggestions that `zoo clean` writes, in the same format
TABLE, IMAGES = "cleaned.csv", "images"  # names in the folder that `apply` writes


def item_id(split, index):
    """Returns what identifies an image: its path, or its split and number."""
    item = split.items[index]
    return item if isinstance(item, str) else f"{split.name} {index}"


def write_suggestions(path, errors):
    """Writes label errors as a CSV file of corrections that relabel each, atomically."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*COLUMNS, "given", "score"))
    for error in errors:
        writer.writerow((error.path, RELABEL, error.suggested, error.given, error.score))
    atomic_files.write_text(path, text.getvalue())


def read(path, known, classes):
    """Returns the corrections of a CSV file as a dict from image to `(action, label)`.

    Args:
        path: The file, with the columns `path`, `action` and `label`.
        known: The images of the data set, as from `item_id`.
        classes: The class names.

    Raises:
        UsageError: A column is missing, an image or an action is unknown, or a label is no class.
    """
    columns, rows = table_formats.read(Path(path), "path")
    if missing := [name for name in COLUMNS if name not in columns]:
        raise UsageError(f"{path} has no column {missing[0]}; expected {','.join(COLUMNS)}")
    found = {}
    for line, row in rows:
        image, action, label = (row[name] for name in COLUMNS)
        location = f"{path}, line {line}"
        if image not in known:
            raise UsageError(f"{location}: the data set has no image {image!r:.200}")
        if action not in ACTIONS:
            raise unknown_name_error(f"action in {location}", action, list(ACTIONS))
        if action == RELABEL and label not in classes:
            raise unknown_name_error(f"class in {location}", label, list(classes))
        if found.setdefault(image, (action, label)) != (action, label):
            raise UsageError(f"{location}: an earlier line corrects {image!r:.200} in another way")
    return found


def apply(dataset, path, out, data_dir=None):
    """Writes a table of a data set with corrections; its files are not changed.

    The table, `cleaned.csv`, names the images by absolute paths, and keeps other columns, such as
    `patient`. Images that are not files, as those of built-in data sets, are written to the folder
    `images` beside it.

    Args:
        dataset: A data set, as for `sources.load`.
        path: A CSV file of corrections, as from the page of `zoo clean`.
        out: The folder to write to.
        data_dir: The folder of TFDS data sets.

    Returns:
        The path of the table, and the numbers of images relabeled, removed, and left, as a dict.

    Raises:
        UsageError: The file does not fit the data set, the table exists, or a class has a name
            that a table cannot hold.
    """
    source = sources.load(dataset, data_dir)
    check_single_label(source, dataset)
    _check_class_names(source)
    ids = {
        name: [item_id(split, index) for index in range(len(split))]
        for name, split in source.splits.items()
    }
    changes = read(path, {each for names in ids.values() for each in names}, source.classes)
    table = Path(out) / TABLE
    if table.exists():
        raise UsageError(f"{table} exists; choose another --out")
    counts = dict.fromkeys(("relabelled", "removed", "images"), 0)
    rows = []
    for name, split in source.splits.items():
        for index, image in enumerate(ids[name]):
            action, label = changes.get(image, (KEEP, ""))
            given = source.classes[int(split.labels[index])]
            counts["removed"] += action == REMOVE
            if action == REMOVE:
                continue
            new = label if action == RELABEL else given
            counts["relabelled"] += new != given
            others = [cells.get(image, "") for cells in source.columns.values()]
            rows.append((_file(split, index, Path(out) / IMAGES), new, name, *others))
    counts["images"] = len(rows)
    text = io.StringIO()
    header = ("path", "label", "split", *source.columns)
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    table.parent.mkdir(parents=True, exist_ok=True)
    atomic_files.write_text(table, text.getvalue())
    return table, counts


def check_single_label(source, dataset):
    """Raises `UsageError` if images of a source have several labels."""
    if source.multi_label:
        raise UsageError(f"{dataset} is multi-label; zoo clean needs one label per image")


def _check_class_names(source):
    """Raises `UsageError` for a class name that would be read as another from a table."""
    for name in source.classes:
        if csv_table.LABEL_SEPARATOR.search(name) or name != name.strip():
            raise UsageError(
                f"the class {name!r:.100} of {source.name} cannot be written to {TABLE}: | and ; "
                "separate labels there, and spaces at the ends are ignored; rename the class"
            )


def _file(split, index, folder):
    """Returns the path of an image, which is written if it is not a file."""
    item = split.items[index]
    if isinstance(item, str):
        return str(Path(item).absolute())
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(item, bytes):
        kind = image_formats.image_format(item[: image_formats.SIGNATURE_BYTES])
        path = folder / f"{split.name}-{index}.{(kind or 'bin').lower()}"
        path.write_bytes(item)
        return str(path.absolute())
    if item.dtype != np.uint8 or image_io.num_channels(item) != 3:
        path = folder / f"{split.name}-{index}.npy"
        np.save(path, item)
    else:
        path = folder / f"{split.name}-{index}.png"
        Image.fromarray(item[..., 0] if item.shape[2:] == (1,) else item).save(path)
    return str(path.absolute())
