"""COCO annotation files: JSON with images, categories, and annotations of objects."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

from tasks.data import image_io, number_parsing
from tasks.data.class_folders import SPLIT_FOLDERS, join_names
from tasks.data.json_file import read_json
from zoo.errors import UsageError
from zoo.lazy import LazyModule

file_names = LazyModule("tasks.data.file_names")

SUFFIX = ".json"
MAX_PIXELS = 2**27  # of an image, 134 million; a limit on the masks that a file can request


class CocoObject(NamedTuple):
    """One annotation.

    Attributes:
        number: The id in the file.
        label: The index of the category in the classes.
        box: `(x0, y0, x1, y1)` in pixels of the image size in the file, unclipped; or `None`.
        segmentation: Polygons or run lengths, for `coco_masks.decode_segmentation`; or `None`.
        crowd: Whether it covers a group of objects without separating them (`iscrowd`).
        area: The area in pixels stated in the file, else that of the box.
    """

    number: int
    label: int
    box: tuple[float, float, float, float] | None
    segmentation: object
    crowd: bool
    area: float


class CocoImage(NamedTuple):
    """An image of the file: its `path`, its size as stated in the file, and its annotations."""

    number: int
    path: str
    height: int
    width: int
    objects: tuple[CocoObject, ...]


class CocoAnnotations(NamedTuple):
    """The content of an annotation file.

    Attributes:
        path: The path of the file.
        classes: The names of the categories, sorted by their ids.
        images: The images, in the order of the file.
        skipped: A pair `(path, reason)` for each image, or the file, of which something is missing.
    """

    path: str
    classes: tuple[str, ...]
    images: tuple[CocoImage, ...]
    skipped: tuple[tuple[str, str], ...]


def annotation_files(root):
    """Returns the annotation files of a data set by split, in the order of `SPLIT_FOLDERS`.

    Args:
        root: A file, which becomes the split `all`; or a folder with JSON files named after
            splits, such as `train.json`, `annotations/instances_train2017.json` or
            `train/_annotations.coco.json`.

    Returns:
        A dict of split names to paths, empty if there are no such files.

    Raises:
        UsageError: A split has several files.
    """
    root = Path(root)
    if root.is_file():
        return {"all": root}
    found = defaultdict(list)
    for path in sorted([*root.glob(f"*{SUFFIX}"), *root.glob(f"*/*{SUFFIX}")]):
        if split := _split_of_file(path.relative_to(root)):
            found[split].append(path)
    for split, paths in found.items():
        if len(paths) > 1:
            raise UsageError(
                f"{root} has {len(paths)} annotation files for {split}: "
                f"{join_names(path.name for path in paths)}; name one of them as the data set"
            )
    return {split: found[split][0] for split in SPLIT_FOLDERS if split in found}


def read_annotations(path):
    """Reads an annotation file.

    Images are looked up by their `file_name`, or by its last part if it names a folder of another
    machine: in the folder of the file, in its parent folder, in `images/` in either of them, and
    in folders there that are named after the split (`train2017` for `instances_train2017.json`).
    Missing images, and annotations of images that the file does not list, are skipped and
    reported. Numbers may be text.

    Returns:
        `CocoAnnotations`. Categories are sorted by id and include those without annotations.

    Raises:
        UsageError: The file is not a COCO file, uses a category that it does not list, or none of
            its images exists.
    """
    path = Path(path)
    content = _read_file(path)
    known = {_id(path, "category", row, "id"): row for row in content["categories"]}
    order = sorted(known, key=lambda number: (isinstance(number, str), number))
    classes = tuple(str(_field(path, "category", known[number], "name")) for number in order)
    if duplicates := [name for name, count in Counter(classes).items() if count > 1]:
        raise UsageError(f"{path} has several categories named {join_names(duplicates)}")
    labels = {number: label for label, number in enumerate(order)}
    objects = defaultdict(list)
    for row in content["annotations"]:
        objects[_id(path, "annotation", row, "image_id")].append(_parse_object(path, row, labels))
    images, skipped = _read_images(path, content["images"], objects)
    if unmatched := _unmatched_annotations(content, objects):
        skipped.insert(0, (str(path), unmatched))
    return CocoAnnotations(str(path), classes, tuple(images), tuple(skipped))


def size_matches(image):
    """Returns whether the size of a `CocoImage` is that of its image file, with or without EXIF."""
    try:
        size = image_io.image_size(image.path)
    except image_io.UnreadableImage:
        return False
    return (image.height, image.width) in (size, size[::-1])


def read_splits(files):
    """Returns the `CocoAnnotations` of several files by split, all with the same categories.

    Args:
        files: Paths by split, as `annotation_files` returns them.

    Raises:
        UsageError: A file is not a COCO file, or the files list different categories.
    """
    found = {split: read_annotations(path) for split, path in files.items()}
    first, *others = found.values()
    for other in others:
        if other.classes != first.classes:
            raise UsageError(
                f"the files list different categories: {other.path} has the categories "
                f"{join_names(other.classes)}, {first.path} has {join_names(first.classes)}; "
                "every split needs the same"
            )
    return found


def _split_of_file(path):
    """Returns the split that an annotation file is named after, or `None`."""
    parts = re.split(r"[^a-z]+", path.with_suffix("").as_posix().lower())
    return next((split for split in SPLIT_FOLDERS if split in parts), None)


def _read_file(path):
    content = read_json(path)
    for name in ("images", "categories"):
        rows = content.get(name) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not rows or not all(isinstance(r, dict) for r in rows):
            raise UsageError(
                f"{path} has no list of {name}; a COCO file has images, annotations, categories"
            )
    annotations = content.get("annotations") or []
    if not isinstance(annotations, list):
        raise UsageError(f"{path}: annotations is {annotations!r:.40}, not a list")
    return {**content, "annotations": annotations}


def _unmatched_annotations(content, objects):
    """Returns why annotations have no images, or `""` if all have one."""
    if not content["annotations"]:
        return "it has no annotations"
    known = dict.fromkeys(number_parsing.normalize_id(row["id"]) for row in content["images"])
    unknown = [number for number in objects if number not in known]
    if not unknown:
        return ""
    return (
        f"{sum(len(objects[number]) for number in unknown)} annotations of images that it does not "
        f"list: of the image_id {join_names(map(repr, unknown))}; it lists "
        f"{join_names(map(repr, known))}"
    )


def _field(path, what, row, name):
    """Returns a required field of a row."""
    if not isinstance(row, dict) or row.get(name) is None:
        raise UsageError(f"{path}: {what} {row!r:.60} has no {name}")
    return row[name]


def _id(path, what, row, name):
    """Returns a required id of a row: an integer, or text that is not one."""
    value = _field(path, what, row, name)
    if not isinstance(value, str) and number_parsing.parse_int(value) is None:
        raise UsageError(f"{path}: {what} {row!r:.60} has the {name} {value!r:.20}")
    return number_parsing.normalize_id(value)


def _parse_object(path, row, labels):
    number = row.get("id")
    category = _id(path, "annotation", row, "category_id")
    if category not in labels:
        raise UsageError(
            f"{path}: annotation {number} has the category {category!r:.60}, which the file does "
            f"not list; it lists {join_names(map(repr, labels))}"
        )
    box = row.get("bbox")
    if box is not None:
        sides = [number_parsing.parse_float(side) for side in box] if isinstance(box, list) else []
        if len(sides) != 4 or None in sides:
            raise UsageError(
                f"{path}: annotation {number} has the box {box!r:.60}; expected x, y, width, height"
            )
        x, y, width, height = sides
        box = (x, y, x + width, y + height)
    area = number_parsing.parse_float(row.get("area"))
    if area is None:
        area = max(0.0, width) * max(0.0, height) if box else 0.0
    crowd = bool(number_parsing.normalize_id(row.get("iscrowd")))
    return CocoObject(number, labels[category], box, row.get("segmentation") or None, crowd, area)


def _read_images(path, rows, objects):
    """Returns the images whose files exist, and `(path, reason)` for the others."""
    names = [str(_field(path, "image", row, "file_name")) for row in rows]
    numbers = [_id(path, "image", row, "id") for row in rows]
    if duplicates := [number for number, count in Counter(numbers).items() if count > 1]:
        raise UsageError(f"{path} has several images with the id {join_names(duplicates)}")
    folder = _image_folder(path, names)
    images, skipped = [], []
    for row, file, number in zip(rows, locate_images(folder, names), numbers, strict=True):
        size = _size(path, row)
        if file.is_file():
            images.append(CocoImage(number, str(file), *size, tuple(objects.get(number, ()))))
        else:
            skipped.append((str(file), "no such file"))
    return images, skipped


def _size(path, row):
    """Returns the `(height, width)` of an image stated in the file; 0 means unknown."""
    sides = [
        number_parsing.parse_int(_field(path, "image", row, side)) for side in ("height", "width")
    ]
    if None in sides or min(sides) < 0 or sides[0] * sides[1] > MAX_PIXELS:
        raise UsageError(
            f"{path}: image {row['file_name']!r:.60} has the width {row['width']!r:.20} and the "
            f"height {row['height']!r:.20}; expected pixels, at most {MAX_PIXELS:,} in all"
        )
    return sides


def locate_images(folder, names):
    """Yields a path for each name of an image, whether or not the file exists.

    A name is a path relative to the folder, with `/` or `\\`. If there is no such file, as with
    `C:\\data\\x.jpg`, its last part is looked up, unless two names share it.

    Args:
        folder: The folder to search.
        names: The names of images in an annotation file.
    """
    last = [name.replace("\\", "/").rpartition("/")[2] for name in names]
    shared = Counter(end for _, end in set(zip(names, last, strict=True)))
    for name, end in zip(names, last, strict=True):
        candidates = file_names.forms(name) + (file_names.forms(end) if shared[end] == 1 else [])
        paths = [folder / each for each in dict.fromkeys(candidates)]
        yield next((path for path in paths if path.is_file()), paths[0])


def _image_folder(path, names):
    """Returns the folder of the images: the first candidate that holds one of them."""
    folder_names = [path.stem, path.stem.rpartition("_")[2]]
    tops = (path.parent, path.parent.parent)
    folders = [top / sub for top in tops for sub in ("", "images", *folder_names)]
    folders += [top / "images" / name for top in tops for name in folder_names]
    for folder in folders:
        if folder.is_dir() and any(file.is_file() for file in locate_images(folder, names)):
            return folder
    raise UsageError(
        f"none of the {len(names)} images of {path} exists, such as {names[0]}; "
        f"searched {join_names(dict.fromkeys(map(str, folders[:5])))}"
    )
