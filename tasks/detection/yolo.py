"""Boxes in the YOLO format: a text file per image, a line per box.

A line is `class x y width height`, relative to the image size; x, y is the center of the box.
"""

from __future__ import annotations

import math
from pathlib import Path

from tasks.data import coco, image_io, number_parsing, safe_yaml
from tasks.data.class_folders import SPLIT_FOLDERS, Listing, iter_files, join_names, name_hash
from tasks.detection import box_annotations
from zoo.errors import UsageError
from zoo.paths import read_text

CONFIG_FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
CLASS_FILES = ("classes.txt", "obj.names", "classes.names")
IMAGES, LABELS = "images", "labels"
BOX_LINE_LENGTH, MIN_POLYGON_LINE_LENGTH = 5, 7  # numbers in a line of a box, of a polygon
MAX_COORDINATE = 2  # relative to the image size; larger numbers are pixels
MAX_CLASSES = 10_000  # where there is no list of class names


class Malformed(ValueError):
    """A line that cannot be used; the message is the reason."""


def is_yolo_folder(root):
    """Returns whether a folder has the layout of YOLO."""
    if any((root / name).is_file() for name in CONFIG_FILES):
        return True
    folders = (root, *(root / split for split in SPLIT_FOLDERS))
    return any((folder / LABELS).is_dir() for folder in folders)


def read_folder(root):
    """Lists a folder with `data.yaml`, or that file itself.

    The file holds the `names` of the classes and the folders (or lists) of images of `train`,
    `val` and `test`. Without it classes are the lines of `classes.txt`, or numbers. Labels of
    `images/.../a.jpg` are in `labels/.../a.txt`; an image without such a file has no object. A
    line of more than five numbers is a polygon, of which the bounding box is taken. An image with
    a malformed line is skipped with a warning. The listing has a note if classes are numbers.

    Raises:
        UsageError: the file is malformed, a class has no name, or there is no image.
    """
    path = Path(root)
    config_files = [path] if path.is_file() else [path / name for name in CONFIG_FILES]
    config_file = next((file for file in config_files if file.is_file()), None)
    top = config_file.parent if config_file else path
    config = _read_config(config_file) if config_file else {}
    classes = _classes(config, top, config_file)
    splits, skipped, max_label = {}, [], -1
    for split, images in _splits(config, top).items():
        found = ([], [])
        for image in images:
            try:
                rows = _read_boxes(_label_file(image), classes)
            except Malformed as error:
                skipped.append((str(image), str(error)))
                continue
            max_label = max([max_label, *(label for _, label, _ in rows)])
            found[0].append(str(image))
            found[1].append(box_annotations.ground_truth(rows, box_annotations.RELATIVE_SIZE))
        splits[split] = found
    if not any(found[0] for found in splits.values()):
        first = f"; the first, {': '.join(skipped[0])}" if skipped else ""
        raise UsageError(f"no image with usable labels in {path}{first}")
    if max_label < 0:
        raise UsageError(f"no label file in {path} has a box; there is nothing to train on")
    if classes:
        return Listing(classes, splits, tuple(skipped))
    note = (
        f"{path} has no class names: classes are the numbers 0 to {max_label}; write their names, "
        f"one per line, in this order, to {top / CLASS_FILES[0]}"
    )
    numbers = tuple(map(str, range(max_label + 1)))
    return Listing(numbers, splits, tuple(skipped), notes=(note,))


def _read_config(path):
    text = read_text(path)
    try:
        config = safe_yaml.parse(text)
    except ValueError as error:
        raise UsageError(f"{path} is not a YAML file: {error}") from error
    if not isinstance(config, dict) or not config.get("names"):
        raise UsageError(f"{path} has no class names; needed: names: [cat, dog]")
    return config


def _classes(config, top, config_file):
    """Returns the class names, `()` where there are none."""
    names = config.get("names")
    if isinstance(names, dict):
        names = {number_parsing.normalize_id(number): name for number, name in names.items()}
        if set(names) != set(range(len(names))):
            raise UsageError(
                f"{config_file}: names must be numbered from 0, not {join_names(names)}"
            )
        names = [names[number] for number in range(len(names))]
    if names is None:
        path = next((top / name for name in CLASS_FILES if (top / name).is_file()), None)
        names = _lines(path) if path else []
    is_list = isinstance(names, list) and all(isinstance(n, str | int | float) for n in names)
    if not is_list or len(set(map(str, names))) != len(names):
        raise UsageError(f"{config_file or top}: the class names are not a list of unique names")
    return tuple(map(str, names))


def _splits(config, top):
    """Returns the images of each split."""
    start = config.get("path")
    start = top / start if isinstance(start, str) and (top / start).is_dir() else top
    named = {split: config[split] for split in SPLIT_FOLDERS if config.get(split)}
    splits = {split: list(_list_images(start, top, paths)) for split, paths in named.items()}
    if any(splits.values()):
        return splits
    for pattern in (f"{IMAGES}/{{}}", f"{{}}/{IMAGES}"):
        folders = {split: top / pattern.format(split) for split in SPLIT_FOLDERS}
        found = {split: folder for split, folder in folders.items() if folder.is_dir()}
        if found:
            return {split: _sorted_images(folder) for split, folder in found.items()}
    return {"all": _sorted_images(top / IMAGES if (top / IMAGES).is_dir() else top)}


def _list_images(start, top, paths):
    """Yields the images of folders, and of files that list images."""
    for path in paths if isinstance(paths, list) else [paths]:
        if not isinstance(path, str):
            raise UsageError(
                f"data.yaml in {top}: {path!r:.40} is neither a folder nor a list of images"
            )
        # Exports of some programs begin with `../`, which is one folder too many.
        candidates = [start / path, top / path, top / path.removeprefix("../")]
        found = next((candidate for candidate in candidates if candidate.exists()), None)
        if found is None:
            raise UsageError(f"{candidates[0]}, named in the data.yaml of {top}, does not exist")
        if found.is_dir():
            yield from _sorted_images(found)
            continue
        yield from coco.locate_images(found.parent, _lines(found))


def _lines(path):
    """Returns the stripped lines of a text file that are not empty."""
    return [line for line in map(str.strip, read_text(path).splitlines()) if line]


def _sorted_images(folder):
    """Returns the images below a folder in a shuffled order that depends on names alone."""
    images = filter(image_io.is_image, iter_files(folder))
    return sorted(images, key=lambda path: name_hash(path.relative_to(folder)))


def _label_file(image):
    """Returns the label file of an image: its last folder `images` becomes `labels`."""
    parts = list(image.parts)
    if IMAGES in parts[:-1]:
        last = max(at for at, part in enumerate(parts[:-1]) if part == IMAGES)
        parts[last] = LABELS
    return Path(*parts).with_suffix(".txt")


def _read_boxes(path, classes):
    """Returns `(box, label, ignored)` of each line."""
    if not path.exists():
        return []
    try:
        lines = read_text(path).splitlines()
    except UsageError as error:
        raise Malformed(str(error)) from error
    rows = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            box, label = _parse_box(line.split(), f"{path}, line {number}")
            if classes and label >= len(classes):
                raise UsageError(
                    f"{path}, line {number}: class {label} has no name; there are {len(classes)} "
                    f"classes, {join_names(classes)}, numbered from 0"
                )
            rows.append((box, label, False))
    return rows


def _parse_box(words, where):
    try:
        label, *numbers = map(float, words)
    except ValueError as error:
        raise Malformed(
            f"{where}: {' '.join(words)!r:.40} has a word that is not a number"
        ) from error
    count = 1 + len(numbers)
    if not (count == BOX_LINE_LENGTH or (count >= MIN_POLYGON_LINE_LENGTH and count % 2)):
        raise Malformed(f"{where}: {count} numbers; needed: class x y width height")
    if not all(map(math.isfinite, (label, *numbers))) or label < 0 or label != int(label):
        raise Malformed(f"{where}: {' '.join(words)!r:.40} is not a class index and finite numbers")
    if max(map(abs, numbers)) > MAX_COORDINATE:
        raise Malformed(
            f"{where}: {' '.join(words)!r:.40} is in pixels; the format is x y width height "
            "relative to the image size, 0 to 1: divide by its width and height"
        )
    if label >= MAX_CLASSES:
        raise Malformed(f"{where}: the class {words[0]:.20} is not below {MAX_CLASSES:,}")
    if count > BOX_LINE_LENGTH:
        xs, ys = numbers[::2], numbers[1::2]
        return (min(xs), min(ys), max(xs), max(ys)), int(label)
    x, y, width, height = numbers
    return (x - width / 2, y - height / 2, x + width / 2, y + height / 2), int(label)
