"""Labels of images in the exports of annotation tools: Label Studio, CVAT, LabelMe, Roboflow.

Only the labels of whole images are read; boxes and masks are for detection and segmentation.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

from tasks.data import file_names
from tasks.data.class_folders import (
    SPLIT_FOLDERS,
    Listing,
    check_classes,
    find_non_images,
    iter_files,
    join_names,
    sort_class_names,
)
from zoo.errors import UsageError
from zoo.paths import read_text

ROBOFLOW = "_classes.csv"
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # of Hugging Face's ImageFolder


def read_label_studio(path):
    """Returns the `Listing` of a JSON export of Label Studio with choices for each image.

    Images are looked up below the folder of the file by the end of their path.

    Raises:
        UsageError: The file is no such export, or no image is found.
    """
    try:
        tasks = json.loads(read_text(path))
        rows = [(_studio_image(task), _studio_choices(task)) for task in tasks]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"{path} is not a Label Studio export; expected a list of tasks with annotations, in "
            "the format JSON, not JSON-MIN; COCO files are for zoo train detection or segmentation"
        ) from error
    files = _files_by_name(path.parent)
    return _listing(path, {"all": [(_find(files, name), names) for name, names in rows]})


def _studio_image(task):
    """Returns the path of the image of a task: that of `?d=`, or of its address."""
    address = task["data"].get("image") or next(iter(task["data"].values()), "")
    parts = urlsplit(address)
    return unquote(parse_qs(parts.query).get("d", [parts.path])[0])


def _studio_choices(task):
    """Returns the choices of the last annotation that was not canceled."""
    kept = [each for each in task["annotations"] if not each.get("was_cancelled")]
    results = kept[-1]["result"] if kept else []
    names = [name for one in results for name in one.get("value", {}).get("choices", ())]
    if not all(isinstance(name, str | int | float) for name in names):
        raise TypeError("a choice is not text")
    return list(map(str, names))


def read_cvat(path):
    """Returns the `Listing` of an XML file "CVAT for images" with tags.

    Raises:
        UsageError: The file is no such export, or no image is found.
    """
    text = read_text(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:  # entities may expand without end
        raise UsageError(f"{path} declares a document type, which exports of CVAT do not")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise UsageError(f"{path} is not XML, or damaged: {error}") from error
    files, splits = _files_by_name(path.parent), {}
    for image in root.iter("image"):
        names = [tag.get("label", "") for tag in image.iter("tag")]
        row = (_find(files, image.get("name", "")), names)
        splits.setdefault(_split(image.get("subset", "")), []).append(row)
    if not any(names for rows in splits.values() for _, names in rows):
        raise UsageError(f"{path} has no image with a tag; export as 'CVAT for images'")
    return _listing(path, splits)


def read_labelme(root):
    """Returns the `Listing` of a folder of LabelMe files with flags; `None` if there are none."""
    rows = []
    for path in sorted(iter_files(root)):
        if path.suffix.lower() != ".json":
            continue
        try:
            found = json.loads(read_text(path))
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path} is not JSON: {error}") from error
        if isinstance(found, dict) and "imagePath" in found:
            image = file_names.find_file(path.parent, str(found["imagePath"]))
            flags = found.get("flags") or {}
            if not isinstance(flags, dict):
                raise UsageError(f"{path}: flags is {flags!r:.40}, expected an object of names")
            rows.append((image, [name for name, value in flags.items() if value]))
    if not rows:
        return None
    if not any(names for _, names in rows):
        raise UsageError(f"the LabelMe files in {root} have no flags, the labels of whole images")
    return _listing(root, {"all": rows})


def read_roboflow(tables):
    """Returns the `Listing` of Roboflow's `_classes.csv` files, with a column of 0 or 1 per class.

    Args:
        tables: The path of the table of each split.
    """
    splits, classes = {}, []
    for split, path in tables.items():
        try:
            header, *rows = [[cell.strip() for cell in row] for row in csv.reader(_lines(path))]
        except (csv.Error, ValueError) as error:  # ValueError: there is no line
            raise UsageError(f"{path} is not a CSV file, or empty: {error}") from error
        names = header[1:]
        is_valid = header[:1] == ["filename"] and names and len(set(names)) == len(names)
        if not is_valid or (classes and names != classes):
            raise UsageError(
                f"{path} begins with {','.join(header)!r:.200}; expected filename, and the names "
                "of the classes, which are the same in all splits"
            )
        classes = names
        for number, row in enumerate(rows, start=2):
            if len(row) != len(header) or {*row[1:]} - {"0", "1"}:
                raise UsageError(f"{path}, line {number}: a cell of a class is neither 0 nor 1")
        splits[split] = [
            (
                file_names.find_file(path.parent, row[0]),
                [name for name, cell in zip(classes, row[1:], strict=True) if cell == "1"],
            )
            for row in rows
        ]
    return _listing(next(iter(tables.values())), splits, multi_label=True, classes=classes)


def _lines(path):
    return [line for line in read_text(path).splitlines() if line.strip()]


def find_tables(root, names):
    """Returns the tables `root/NAME`, as split `all`, or `root/SPLIT/NAME`, by split."""
    found = {}
    tops = {x.name.lower(): x for x in sorted(root.iterdir()) if x.is_dir()}
    tops = {"all": root, **{split: tops[split] for split in SPLIT_FOLDERS if split in tops}}
    for split, folder in tops.items():
        for name in names:
            if (folder / name).is_file():
                found.setdefault(split, folder / name)
    return found


def _listing(location, splits, *, multi_label=False, classes=()):
    """Returns the `Listing` of `(path, class names)` by split; several names make a multi-label.

    Without `classes`, images without a class are left out, since they may not be labeled yet.
    """
    count = sum(not names for split in splits.values() for _, names in split)
    notes = (f"images without a label, left out: {count:,}",) if count and not classes else ()
    if notes:
        splits = {name: [row for row in rows if row[1]] for name, rows in splits.items()}
    rows = [row for split in splits.values() for row in split]
    multi_label = multi_label or any(len(names) > 1 for _, names in rows)
    reasons = dict(find_non_images([path for path, _ in rows]))
    classes = tuple(classes) or sort_class_names({name for _, names in rows for name in names})
    found, kept = {}, []
    for split, some in splits.items():
        good = [(path, names) for path, names in some if path not in reasons]
        kept += [name for _, names in good for name in names]
        labels = [tuple(names) if multi_label else names[0] for _, names in good]
        found[split] = ([str(path) for path, _ in good], labels)
    skipped = tuple((str(path), reason) for path, reason in reasons.items())
    if multi_label and (absent := [name for name in classes if name not in {*kept}]):
        classes = tuple(name for name in classes if name not in absent)
        notes += (f"classes without images, left out: {join_names(absent)}",)
    check_classes(location, classes, kept, skipped)
    splits = {split: part for split, part in found.items() if part[0]}
    return Listing(classes, splits, skipped, multi_label, notes)


def _files_by_name(root):
    files = {}
    for path in sorted(iter_files(root)):
        for name in file_names.forms(path.name):
            files.setdefault(name, []).append(path)
    return files


def _find(files, name):
    """Returns the file whose path shares the longest end with a name; Label Studio adds a prefix.

    Uploads are stored as `8a1b2c3d-NAME`, with eight hexadecimal digits.
    """
    parts = Path(name.replace("\\", "/")).parts or ("",)
    prefix, _, rest = parts[-1].partition("-")
    plain = rest if len(prefix) == 8 and set(prefix) <= set("0123456789abcdef") else ""
    found = files.get(parts[-1]) or files.get(plain) or [Path(name)]

    def common(path):
        pairs = zip(reversed(path.parts), reversed(parts), strict=False)
        return next((n for n, (one, two) in enumerate(pairs) if one != two), len(parts))

    return max(found, key=common)


def _split(name):
    """Returns the name of a split for that of a subset."""
    return name.lower() if name.lower() in SPLIT_FOLDERS else "all"
