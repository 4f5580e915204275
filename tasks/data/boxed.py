"""Data sets of images with boxes, and their splits decoded.

A box is `x0, y0, x1, y1` in pixels from the upper left corner; x1 and y1 are exclusive. What is
wrong with a box is mended and counted, and no error:

- one that reaches beyond its image is cut to it;
- one that has no area in its image, or is none at all, is left out;
- an image without objects is kept, as one in which there is nothing to find;
- a class that nobody has is kept, and said.

An image that cannot be read, or whose size is not that for which its boxes were drawn, is left
out and named, as one that cannot be read is everywhere.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

from tasks.data import (
    box_frames,
    box_shapes,
    box_tfds,
    coco,
    decoding,
    folders,
    looks,
    readers,
    segments,
    splits,
    tfds_source,
    turned,
    voc,
    yolo,
)
from tasks.data import boxes as found
from tasks.data.dataset import Source, Split, objects
from tasks.data.labelled import Data
from zoo.errors import UsageError, unknown
from zoo.lazy import np
from zoo.paths import expanded

BUILT_IN = ("shapes",)
REASONS = 3  # the most in a message
EMPTY = "without an object"
LAYOUTS = (
    "a COCO file (.json), or a folder with train.json or annotations/instances_train.json; "
    "a Pascal VOC folder of XML files; a YOLO folder with images/ and labels/, or its data.yaml; "
    f"{tfds_source.PREFIX}NAME"
)


def load(name, data_dir=None):
    """Finds a data set of images with boxes by name.

    Args:
        name: `shapes`; a file or folder of COCO's (`coco.files`), a folder of Pascal VOC
            (`voc.folder`), a folder or `data.yaml` of YOLO (`yolo.folder`); or `tfds:NAME`, a data
            set of TFDS with a feature of boxes.
        data_dir: where TFDS keeps its data sets; the default is its own.

    Returns:
        A `Source`; the labels of its splits are `boxes.Truth`, one for each image.

    Raises:
        UsageError: there is nothing of that name, or it is not laid out as it should be.
    """
    name = str(name)
    if name in BUILT_IN:
        return box_shapes.load()
    if name.startswith(tfds_source.PREFIX):
        return box_tfds.load(name, data_dir)
    path = expanded(name)
    if not name or not path.exists():
        raise _nothing(name)
    with folders.reading(name):
        return _listed(name, _listing(name, path))


@dataclasses.dataclass(frozen=True, eq=False)
class Boxed(decoding.Examples):
    """One split, ready to be batched.

    Attributes:
        labels: int32 `(count, most)`, positions in the classes; -1 where there is no object.
        boxes: float32 `(count, most, 4)`, in pixels of the images as they are in `pixels`; 0 where
            there is no object.
        ignored: bool `(count, most)`, true of what is neither to be found nor to be missed.
        notes: what was mended or is strange about the boxes, a line each.
        proposals: float32 `(count, some, 4)` boxes that may hold something, padded with 0, where
            a model takes them; or `None`.
    """

    boxes: object = None
    ignored: object = None
    notes: tuple[str, ...] = ()
    proposals: object = None


def plan(source, names, shape, resize, bits=0):
    """Returns the `labelled.Data` of a source, whose three parts are `Boxed`.

    Args:
        source: what `load` returned.
        names: slices to learn from, to choose by and to judge on, as `splits.plan` takes them.
        shape: `(height, width, channels)` that every image becomes.
        resize: how: `stretch`, `crop` or `pad`.
        bits: as `looks.settled` takes them.

    Raises:
        UsageError: a slice is wrong, no image of one can be read, or one has no object at all.
    """
    parts, facts = looks.settled(splits.plan(source, *names), bits)
    parts = [part and decode(part, shape, resize) for part in parts]
    for part in filter(None, parts):
        if not seen(part).any():
            raise UsageError(
                f"no image of {part.name} in {source.name} has an object{_why(part, source)}"
            )
    return Data(source, *parts, shape, seen=facts)


def decode(split, shape, resize, **room):
    """Decodes every image of a split, once, and brings its boxes with it.

    Args:
        split: of a source that `load` returned.
        shape, resize: as `decoding.decode` has them.
        room: bytes of `memory` and `disk`, likewise.

    Returns:
        `Boxed`.

    Raises:
        UsageError: no image is left.
    """
    measured = box_frames.Measured(split.items, split.labels)
    rows = Split(split.name, measured, np.arange(len(split)), split.bits)
    examples = decoding.decode(rows, shape, resize, **room)
    truths, firsts, counts = [], {}, Counter()
    for row in examples.labels:
        truth, faults = found.placed(measured.truth(row), measured.sizes[row], shape, resize)
        truths.append(truth)
        counts.update(faults)
        for fault in +faults:
            firsts.setdefault(fault, readers.name(split.items[row]))
    boxes, labels, ignored = found.padded(truths)
    lines = [
        text.format(split.name, counts[fault], firsts[fault])
        for fault, text in _FAULTS.items()
        if counts[fault]
    ]
    if measured.unsure:
        names = [readers.name(split.items[row]) for row in sorted(measured.unsure)]
        lines.append(turned.unsure(split.name, names, "boxes"))
    if empty := int((labels < 0).all(1).sum()):
        lines.append(f"images of {split.name} {EMPTY}: {empty} of {len(labels)}")
    rest = (examples.dropped, boxes, ignored, tuple(lines))
    own = {"items": split.items, "places": examples.places}
    return Boxed(split.name, examples.pixels, labels, *rest, **own)


def relabelled(examples, classes, known):
    """Returns examples whose labels are positions in `known`, found by the names of classes.

    Args:
        examples: `Boxed`.
        classes: the names that its labels stand for.
        known: the names that a model was taught, in its order.

    Raises:
        UsageError: an object has a class that is not known.
    """
    labels = examples.labels
    present = np.unique(labels[labels >= 0])
    strange = [classes[label] for label in present if classes[label] not in known]
    if strange:
        raise UsageError(
            f"{examples.name} has classes that the model was not taught: {', '.join(strange)}; "
            f"it knows {', '.join(known)}"
        )
    places = [known.index(name) if name in known else -1 for name in classes]
    return dataclasses.replace(examples, labels=np.array([*places, -1], "int32")[labels])


def seen(examples):
    """Returns which places hold an object that is to be found, bool `(count, most)`."""
    return (examples.labels >= 0) & ~examples.ignored


def notes(data):
    """Returns what is strange about the boxes of `labelled.Data`, a line each."""
    lines = [line for part in data.parts for line in part.notes]
    classes = data.source.classes
    for part in data.parts:
        present = set(part.labels[seen(part)].tolist())
        absent = [name for label, name in enumerate(classes) if label not in present]
        if absent:
            noun = "class" if len(absent) == 1 else "classes"
            lines.append(f"{part.name} has no object of the {noun} {folders.listed(absent)}")
    return lines


_FAULTS = {
    "cut": "boxes of {} that reach beyond their images, and were cut: {}, the first in {}",
    "empty": "boxes of {} without area in their images, and left out: {}, the first in {}",
}


def _listing(name, path):
    """Returns the `folders.Listing` of a file or folder, whatever its layout."""
    if path.suffix.lower() == coco.SUFFIX or (path.is_dir() and coco.files(path)):
        return _coco(coco.together(coco.files(path)))
    if path.suffix.lower() in (".yaml", ".yml") or (path.is_dir() and yolo.is_one(path)):
        return yolo.folder(path)
    if path.is_dir() and voc.is_one(path):
        return voc.folder(path)
    raise UsageError(f"{name!r} has no boxes that can be read; needed: {LAYOUTS}")


def _why(part, source):
    """Returns why no image of a part has an object, as far as that was noticed."""
    reasons = [line for line in part.notes if EMPTY not in line]
    if some := int((part.labels >= 0).sum()):
        reasons.insert(0, f"{part.name} has only objects to be ignored: {some}")
    reasons += [f"{path}: {reason}" for path, reason in (*source.skipped, *part.dropped)]
    if not reasons:
        return "; name another or a larger slice"
    return f": {'; '.join(reasons[:REASONS])}"


def _coco(read):
    parts = {
        split: (
            [picture.path for picture in annotations.pictures],
            [_coco_truth(picture) for picture in annotations.pictures],
        )
        for split, annotations in read.items()
    }
    skipped = [line for annotations in read.values() for line in annotations.skipped]
    classes = next(iter(read.values())).classes
    return folders.Listing(classes, parts, tuple(skipped))


def _coco_truth(picture):
    rows = [(_coco_box(thing, picture), thing.label, thing.crowd) for thing in picture.things]
    size = (picture.width, picture.height)
    return found.truth(rows, size if all(size) else None)


def _coco_box(thing, picture):
    """Returns the box of an annotation; of one without, that round what it covers."""
    if thing.box:
        return thing.box
    covered = np.zeros((0, 0), bool)
    if thing.segmentation and coco.is_size(picture):
        covered = segments.mask(thing.segmentation, picture.height, picture.width)
    if not covered.any():
        return (0, 0, 0, 0)
    rows, columns = np.nonzero(covered)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def _listed(name, listing):
    """Returns the source of what was listed, less what is no image."""
    every = {path for paths, _ in listing.splits.values() for path in paths}
    reasons = dict(folders.foreign(sorted(every)))
    skipped = [*listing.skipped, *reasons.items()]
    parts = {}
    for split, (paths, truths) in listing.splits.items():
        rows = [row for row in zip(paths, truths, strict=True) if row[0] not in reasons]
        items, labels = [path for path, _ in rows], objects([truth for _, truth in rows])
        if rows:
            parts[split] = Split(split, items, labels)
    if not parts:
        first = f"; skipped {len(skipped)}, the first {': '.join(skipped[0])}" if skipped else ""
        raise UsageError(f"the data set {name!r} has no image that can be read{first}")
    return Source(name, listing.classes, parts, tuple(skipped))


def _nothing(name):
    """Returns the error for a name that stands for nothing."""
    if Path(name).name == name and not Path(name).suffix:
        return unknown("data set with boxes", name, [*BUILT_IN, f"{tfds_source.PREFIX}{name}"])
    return UsageError(f"no data set with boxes named {name!r}: no such file or folder")
