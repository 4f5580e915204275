"""Boxes as YOLO writes them: a text file for each image, a line for each box.

A line is `class x y width height`, parts of the sides of the image; x, y is the middle of the box.
"""

from __future__ import annotations

import math
from pathlib import Path

from tasks.data import boxes, coco, numerals, readers, yamls
from tasks.data.folders import SPLIT_FOLDERS, Listing, files, listed, name_hash
from zoo.errors import UsageError
from zoo.paths import read_text

ABOUT = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
NAMES = ("classes.txt", "obj.names", "classes.names")
IMAGES, LABELS = "images", "labels"
SHORTEST, POLYGON = 5, 7  # numbers in a line: of a box; of the shortest polygon
FARTHEST = 2  # sides of the image; a number beyond is in pixels
MOST_CLASSES = 10_000  # where no list names them


class Malformed(ValueError):
    """A line that cannot be used; the message says why."""


def is_one(root):
    """Tells whether a folder is laid out as one of YOLO."""
    tops = (root, *(root / split for split in SPLIT_FOLDERS))
    return any((top / LABELS).is_dir() for top in tops) or any((root / n).is_file() for n in ABOUT)


def folder(root):
    """Lists a folder with `data.yaml`, or that file itself.

    The file says the `names` of the classes and the folders (or lists) of images of `train`, `val`
    and `test`. Without it classes are lines of `classes.txt`, or numbers.
    Labels of `images/.../a.jpg` are in `labels/.../a.txt`; an image without such a file has no
    object. A line of more numbers is a polygon, of which the box is taken. A file with a
    malformed line is passed over with its image, and named.

    Raises:
        UsageError: the file is none, a class has no name, or there is no image.
    """
    path = Path(root)
    files_about = [path] if path.is_file() else [path / name for name in ABOUT]
    about = next((file for file in files_about if file.is_file()), None)
    top = about.parent if about else path
    content = _content(about) if about else {}
    classes = _classes(content, top, about)
    splits, skipped, largest = {}, [], -1
    for split, images in _splits(content, top).items():
        found = ([], [])
        for image in images:
            try:
                rows = _rows(_label_file(image), classes)
            except Malformed as error:
                skipped.append((str(image), str(error)))
                continue
            largest = max([largest, *(label for _, label, _ in rows)])
            found[0].append(str(image))
            found[1].append(boxes.truth(rows, boxes.SHARES))
        splits[split] = found
    if not any(found[0] for found in splits.values()):
        first = f"; the first, {': '.join(skipped[0])}" if skipped else ""
        raise UsageError(f"no image with usable labels in {path}{first}")
    if largest < 0:
        raise UsageError(f"no label file in {path} has a box; there is nothing to learn")
    return Listing(classes or tuple(map(str, range(largest + 1))), splits, tuple(skipped))


def _content(path):
    text = read_text(path)
    try:
        content = yamls.parse(text)
    except ValueError as error:
        raise UsageError(f"{path} is no YAML file: {error}") from error
    if not isinstance(content, dict) or not content.get("names"):
        raise UsageError(f"{path} has no names of classes; needed: names: [cat, dog]")
    return content


def _classes(content, top, about):
    """Returns the names of the classes, or nothing where nobody says."""
    names = content.get("names")
    if isinstance(names, dict):
        names = {numerals.key(number): name for number, name in names.items()}
        if set(names) != set(range(len(names))):
            raise UsageError(f"{about}: names are numbered from 0 on, not {listed(names)}")
        names = [names[number] for number in range(len(names))]
    if names is None:
        path = next((top / name for name in NAMES if (top / name).is_file()), None)
        names = _lines(path) if path else []
    plain = isinstance(names, list) and all(isinstance(name, str | int | float) for name in names)
    if not plain or len(set(map(str, names))) != len(names):
        raise UsageError(f"{about or top}: the names of the classes are no list of different ones")
    return tuple(map(str, names))


def _splits(content, top):
    """Returns the images of each split."""
    start = content.get("path")
    start = top / start if isinstance(start, str) and (top / start).is_dir() else top
    named = {split: content[split] for split in SPLIT_FOLDERS if content.get(split)}
    splits = {split: list(_images(start, top, places)) for split, places in named.items()}
    if any(splits.values()):
        return splits
    for pattern in (f"{IMAGES}/{{}}", f"{{}}/{IMAGES}"):
        tops = {split: top / pattern.format(split) for split in SPLIT_FOLDERS}
        tops = {split: place for split, place in tops.items() if place.is_dir()}
        if tops:
            return {split: _inside(place) for split, place in tops.items()}
    return {"all": _inside(top / IMAGES if (top / IMAGES).is_dir() else top)}


def _images(start, top, places):
    """Yields the images of folders, and of files that list them."""
    for place in places if isinstance(places, list) else [places]:
        if not isinstance(place, str):
            raise UsageError(f"data.yaml in {top}: {place!r:.40} is no folder or file of images")
        # Exports of some programs begin with `../`, which is one folder too many.
        tries = [start / place, top / place, top / place.removeprefix("../")]
        found = next((path for path in tries if path.exists()), None)
        if found is None:
            raise UsageError(f"{tries[0]}, named in {top}, is not there")
        if found.is_dir():
            yield from _inside(found)
            continue
        yield from coco.located(found.parent, _lines(found))


def _lines(path):
    """Returns the lines of a text file, without blanks at their ends and without empty ones."""
    return [line for line in map(str.strip, read_text(path).splitlines()) if line]


def _inside(folder):
    """Returns the images below a folder in an order of which any slice is a fair one."""
    images = filter(readers.is_image, files(folder))
    return sorted(images, key=lambda path: name_hash(path.relative_to(folder)))


def _label_file(image):
    """Returns where the labels of an image are: the last folder `images` becomes `labels`."""
    parts = list(image.parts)
    if IMAGES in parts[:-1]:
        last = max(at for at, part in enumerate(parts[:-1]) if part == IMAGES)
        parts[last] = LABELS
    return Path(*parts).with_suffix(".txt")


def _rows(path, classes):
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
            box, label = _box(line.split(), f"{path}, line {number}")
            if classes and label >= len(classes):
                raise UsageError(
                    f"{path}, line {number}: class {label} has no name; there are {len(classes)}, "
                    f"{listed(classes)}, numbered from 0 on"
                )
            rows.append((box, label, False))
    return rows


def _box(words, place):
    try:
        label, *numbers = map(float, words)
    except ValueError as error:
        raise Malformed(f"{place}: {' '.join(words)!r:.40} is not all numbers") from error
    count = 1 + len(numbers)
    if not (count == SHORTEST or (count >= POLYGON and count % 2)):
        raise Malformed(f"{place}: {count} numbers; needed: class x y width height")
    if not all(map(math.isfinite, (label, *numbers))) or label < 0 or label != int(label):
        raise Malformed(f"{place}: {' '.join(words)!r:.40} is no class and finite numbers")
    if max(map(abs, numbers)) > FARTHEST:
        raise Malformed(
            f"{place}: {' '.join(words)!r:.40} is in pixels; a box of YOLO is x y width height in "
            "parts of the sides of the image, 0 to 1: divide by its width and height"
        )
    if label >= MOST_CLASSES:
        raise Malformed(f"{place}: the class {words[0]:.20} is beyond {MOST_CLASSES:,}")
    if count > SHORTEST:
        across, down = numbers[::2], numbers[1::2]
        return (min(across), min(down), max(across), max(down)), int(label)
    x, y, width, height = numbers
    return (x - width / 2, y - height / 2, x + width / 2, y + height / 2), int(label)
