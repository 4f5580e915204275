"""Boxes in the Pascal VOC format: an XML file per image.

Its pixel coordinates start at 1 and its right and lower edges are inclusive; they are converted to
coordinates from 0 with exclusive edges.
"""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree.ElementTree import ParseError, TreeBuilder
from xml.parsers import expat

from tasks.data import image_io
from tasks.data.class_folders import SPLIT_FOLDERS, Listing, join_names, name_hash, sort_class_names
from tasks.detection import box_annotations
from zoo.errors import UsageError
from zoo.paths import check_regular, read_text

SUFFIX = ".xml"
ANNOTATIONS, IMAGES = "Annotations", ("JPEGImages", "images", "Images")
IMAGE_SETS = Path("ImageSets", "Main")
BNDBOX_TAGS = ("xmin", "ymin", "xmax", "ymax")
TRAINVAL = "trainval"  # the list that is used where there is none for `train`


class Malformed(ValueError):
    """An annotation that cannot be used; the message is the reason."""


def is_voc_folder(root):
    """Returns whether a folder has the layout of Pascal VOC."""
    return (root / ANNOTATIONS).is_dir() or bool(_split_folders(root))


def read_folder(root):
    """Lists a folder in the layout of Pascal VOC, or in that of annotation tools.

    - `Annotations/*.xml` and `JPEGImages/` (or `images/`); the lists `train.txt`, `val.txt` and
      `test.txt` in `ImageSets/Main/`, where they exist, are the splits.
    - XML files beside their images, in the folder or in `train/`, `val/` and `test/`.

    Malformed files and annotations of missing images are skipped with a warning. Classes are
    sorted by name.

    Raises:
        UsageError: no annotation can be used, or none has an object.
    """
    root, skipped, rows = Path(root), [], {}
    for split, paths in _splits(root).items():
        rows[split] = []
        for path in paths:
            try:
                rows[split].append(_read_annotation(path))
            except Malformed as error:
                skipped.append((str(path), str(error)))
    if not any(rows.values()):
        first = f"; the first, {': '.join(skipped[0])}" if skipped else ""
        raise UsageError(f"no annotation in {root} can be used{first}")
    names = {name for found in rows.values() for _, objects, _ in found for _, name, _ in objects}
    if not names:
        raise UsageError(f"no annotation in {root} has an object; there is nothing to train on")
    classes = sort_class_names(names)
    label_of = {name: label for label, name in enumerate(classes)}
    splits = {}
    for split, found in rows.items():
        ground_truths = [
            box_annotations.ground_truth(
                [(box, label_of[name], difficult) for box, name, difficult in objects], size
            )
            for _, objects, size in found
        ]
        splits[split] = ([str(image) for image, _, _ in found], ground_truths)
    return Listing(classes, splits, tuple(skipped))


def parse_xml(data):
    """Returns the root element of an XML file.

    Nothing is expanded or fetched: a file that declares an entity is refused.

    Raises:
        Malformed: the data are no XML, or declare an entity.
    """
    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler, parser.EntityDeclHandler = builder.data, _refuse_entity
    try:
        parser.Parse(data, True)
        return builder.close()
    except (expat.ExpatError, ParseError, AssertionError, ValueError) as error:
        if isinstance(error, Malformed):
            raise
        raise Malformed(f"not XML: {error}") from error


def _refuse_entity(name, *_):
    raise Malformed(f"it declares the entity {name!r}, which is not safe to read")


def _splits(root):
    """Returns the annotation files of each split."""
    if not (root / ANNOTATIONS).is_dir():
        return {split: _sorted_annotations(top) for split, top in _split_folders(root).items()}
    lists = {path.stem.lower(): path for path in sorted((root / IMAGE_SETS).glob("*.txt"))}
    if TRAINVAL in lists and "train" not in lists:
        lists["train"] = lists[TRAINVAL]
    wanted = [split for split in SPLIT_FOLDERS if split in lists]
    if not wanted:
        return {"all": _sorted_annotations(root / ANNOTATIONS)}
    return {
        split: [root / ANNOTATIONS / f"{line.split()[0]}{SUFFIX}" for line in _lines(lists[split])]
        for split in wanted
    }


def _sorted_annotations(folder):
    """Returns the annotations in a folder in a shuffled order that depends on names alone."""
    return sorted(folder.glob(f"*{SUFFIX}"), key=lambda path: name_hash(Path(path.name)))


def _split_folders(root):
    """Returns folders of images with XML files beside them, by split."""
    folders = {split: root / split for split in SPLIT_FOLDERS if any((root / split).glob("*.xml"))}
    return folders or ({"all": root} if any(root.glob(f"*{SUFFIX}")) else {})


def _lines(path):
    return [line for line in read_text(path).splitlines() if line.strip()]


def _read_annotation(path):
    """Returns the path of an image, `(box, class, difficult)` rows, and its size or `None`."""
    try:
        root = parse_xml(check_regular(path).read_bytes())
    except OSError as error:
        raise Malformed("no such annotation file") from error
    size = tuple(_read_number(root, f"size/{side}", 0) for side in ("width", "height"))
    objects = [_parse_object(element, n) for n, element in enumerate(root.findall("object"), 1)]
    return _find_image(path, root), objects, tuple(map(int, size)) if all(size) else None


def _parse_object(element, number):
    name = (element.findtext("name") or "").strip()
    if not name:
        raise Malformed(f"object {number} has no name")
    edges = [_read_number(element, f"bndbox/{edge}") for edge in BNDBOX_TAGS]
    if None in edges:
        raise Malformed(
            f"object {number}, {name}, has no bndbox with the numbers {join_names(BNDBOX_TAGS)}"
        )
    x0, y0, x1, y1 = edges
    return (x0 - 1, y0 - 1, x1, y1), name, bool(_read_number(element, "difficult", 0))


def _read_number(element, path, default=None):
    """Returns the number at a path below an element, or the default where there is none."""
    try:
        number = float(element.findtext(path) or "")
    except ValueError:
        return default
    return number if math.isfinite(number) else default


def _find_image(path, root):
    """Returns the path of the image of an annotation: in a folder of images, or beside it."""
    top = path.parent.parent if path.parent.name == ANNOTATIONS else path.parent
    folders = [top / name for name in IMAGES if (top / name).is_dir()] + [path.parent]
    file_name = (root.findtext("filename") or "").replace("\\", "/").rpartition("/")[2].strip()
    names = [file_name, *(f"{path.stem}{suffix}" for suffix in image_io.EXTENSIONS)]
    for folder in folders:
        for name in filter(None, names):
            if (folder / name).is_file():
                return folder / name
    raise Malformed(f"its image, {file_name or path.stem}, is missing")
