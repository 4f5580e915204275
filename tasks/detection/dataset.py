"""Data sets of images with boxes, and their decoded splits.

A box is `x0, y0, x1, y1` in pixels from the upper left corner; x1 and y1 are exclusive. Faults of
boxes are repaired and counted, and are no error:

- a box that reaches beyond its image is clipped;
- a box without area inside its image, or with NaN, is left out;
- an image without objects is kept, as a negative example;
- a class without objects is kept, with a warning.

An image that cannot be read, or whose size differs from the one that its boxes refer to, is left
out with a warning.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

from tasks.data import (
    class_folders,
    coco,
    coco_masks,
    data_splits,
    decoding,
    exif,
    image_io,
    tfds_source,
)
from tasks.data.dataset import Source, Split, object_array
from tasks.detection import box_annotations, image_sizes, shapes, tfds_boxes, voc, yolo
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import np
from zoo.paths import expand_user

BUILT_IN = ("shapes",)
MAX_REASONS = 3  # in a message
NO_OBJECT = "without an object"
SUPPORTED_LAYOUTS = (
    "a COCO file (.json), or a folder with train.json or annotations/instances_train.json; "
    "a Pascal VOC folder of XML files; a YOLO folder with images/ and labels/, or its data.yaml; "
    f"{tfds_source.PREFIX}NAME"
)


def load(name, data_dir=None):
    """Finds a data set of images with boxes by name.

    Args:
        name: `shapes`; a COCO file or folder (`coco.annotation_files`), a Pascal VOC folder
            (`voc.read_folder`), a YOLO folder or `data.yaml` (`yolo.read_folder`); or `tfds:NAME`,
            a TFDS data set with a feature of boxes.
        data_dir: the folder of TFDS data sets; the default is that of TFDS.

    Returns:
        A `Source`; the labels of its splits are `box_annotations.GroundTruth`, one per image.

    Raises:
        UsageError: there is no such data set, or its layout is not supported.
    """
    name = str(name)
    if name in BUILT_IN:
        return shapes.load()
    if name.startswith(tfds_source.PREFIX):
        return tfds_boxes.load(name, data_dir)
    path = expand_user(name)
    if not name or not path.exists():
        raise _not_found_error(name)
    with class_folders.reading_errors(name):
        return _to_source(name, _read_listing(name, path))


@dataclasses.dataclass(frozen=True, eq=False)
class DetectionExamples(decoding.Examples):
    """One split, ready to be batched.

    Attributes:
        labels: int32 `(count, max_objects)`, class indices, padded with -1.
        boxes: float32 `(count, max_objects, 4)` in pixels of `pixels`, padded with 0.
        ignored: bool `(count, max_objects)`, true for objects that the evaluation ignores.
        notes: warnings about the boxes, a line each.
        proposals: float32 `(count, max_proposals, 4)` region proposals, padded with 0, where a
            model takes them; or `None`.
    """

    boxes: object = None
    ignored: object = None
    notes: tuple[str, ...] = ()
    proposals: object = None


def prepare(source, names, shape, resize, bits=0):
    """Returns the `data_splits.DataSplits` of a source, whose parts are `DetectionExamples`.

    Args:
        source: what `load` returned.
        names, shape, resize, bits: as in `data_splits.load`.

    Raises:
        UsageError: a slice is wrong, has no readable image, or has no object.
    """
    data = data_splits.load(source, names, shape, resize, bits, decode)
    for part in data.parts:
        if not valid_objects(part).any():
            raise UsageError(
                f"no image of {part.name} in {source.name} has an "
                f"object{_explain_no_objects(part, source)}"
            )
    return data


def decode(split, shape, resize, **limits):
    """Decodes every image of a split once, and resizes its boxes with it.

    Args:
        split: of a source that `load` returned.
        shape, resize: as in `decoding.decode`.
        limits: bytes of `memory` and `disk`, as there.

    Returns:
        `DetectionExamples`.

    Raises:
        UsageError: no image is left.
    """
    measured = image_sizes.MeasuredImages(split.items, split.labels)
    rows = Split(split.name, measured, np.arange(len(split)), split.bits)
    examples = decoding.decode(rows, shape, resize, **limits)
    ground_truths, first_items, counts = [], {}, Counter()
    for row in examples.labels:
        ground_truth, faults = box_annotations.resize_ground_truth(
            measured.ground_truth(row), measured.sizes[row], shape, resize
        )
        ground_truths.append(ground_truth)
        counts.update(faults)
        for fault in +faults:
            first_items.setdefault(fault, image_io.item_name(split.items[row]))
    boxes, labels, ignored = box_annotations.pad_ground_truth(ground_truths)
    lines = [
        text.format(split.name, counts[fault], first_items[fault])
        for fault, text in _FAULT_MESSAGES.items()
        if counts[fault]
    ]
    if measured.ambiguous:
        names = [image_io.item_name(split.items[row]) for row in sorted(measured.ambiguous)]
        lines.append(exif.ambiguity_warning(split.name, names, "boxes"))
    if empty := int((labels < 0).all(1).sum()):
        lines.append(f"images of {split.name} {NO_OBJECT}: {empty} of {len(labels)}")
    return DetectionExamples(
        split.name,
        examples.pixels,
        labels,
        examples.dropped,
        boxes,
        ignored,
        tuple(lines),
        items=split.items,
        item_indices=examples.item_indices,
    )


def remap_labels(examples, classes, model_classes):
    """Returns examples whose labels are indices of `model_classes`, matched by class name.

    Args:
        examples: `DetectionExamples`.
        classes: the class names that its labels refer to.
        model_classes: the class names of a model, in its order.

    Raises:
        UsageError: an object has a class that the model does not have.
    """
    labels = examples.labels
    present = np.unique(labels[labels >= 0])
    unknown_classes = [classes[label] for label in present if classes[label] not in model_classes]
    if unknown_classes:
        raise UsageError(
            f"{examples.name} has classes that the model was not trained on: "
            f"{', '.join(unknown_classes)}; its classes are {', '.join(model_classes)}"
        )
    indices = [model_classes.index(name) if name in model_classes else -1 for name in classes]
    return dataclasses.replace(examples, labels=np.array([*indices, -1], "int32")[labels])


def valid_objects(examples):
    """Returns which rows hold an object that counts, bool `(count, max_objects)`."""
    return (examples.labels >= 0) & ~examples.ignored


def notes(data):
    """Returns warnings about the boxes of `data_splits.DataSplits`, a line each."""
    lines = [line for part in data.parts for line in part.notes]
    classes = data.source.classes
    for part in data.parts:
        present = set(part.labels[valid_objects(part)].tolist())
        absent = [name for label, name in enumerate(classes) if label not in present]
        if absent:
            noun = "class" if len(absent) == 1 else "classes"
            lines.append(
                f"{part.name} has no object of the {noun} {class_folders.join_names(absent)}"
            )
    return lines


_FAULT_MESSAGES = {
    "cut": "boxes of {} that reach beyond their images and were clipped: {}, the first in {}",
    "empty": "boxes of {} without area in their images that were left out: {}, the first in {}",
}


def _read_listing(name, path):
    """Returns the `class_folders.Listing` of a file or folder of any supported layout."""
    if path.suffix.lower() == coco.SUFFIX or (path.is_dir() and coco.annotation_files(path)):
        return _coco_listing(coco.read_splits(coco.annotation_files(path)))
    if path.suffix.lower() in (".yaml", ".yml") or (path.is_dir() and yolo.is_yolo_folder(path)):
        return yolo.read_folder(path)
    if path.is_dir() and voc.is_voc_folder(path):
        return voc.read_folder(path)
    raise UsageError(f"{name!r} has no boxes in a supported layout; needed: {SUPPORTED_LAYOUTS}")


def _explain_no_objects(part, source):
    """Returns the reasons, as far as known, why no image of a part has an object."""
    reasons = [line for line in part.notes if NO_OBJECT not in line]
    if count := int((part.labels >= 0).sum()):
        reasons.insert(0, f"{part.name} has only ignored objects (crowd or difficult): {count}")
    reasons += [f"{path}: {reason}" for path, reason in (*source.skipped, *part.dropped)]
    if not reasons:
        return "; choose another slice or a larger one"
    return f": {'; '.join(reasons[:MAX_REASONS])}"


def _coco_listing(read):
    parts = {
        split: (
            [image.path for image in annotations.images],
            [_coco_objects(image) for image in annotations.images],
        )
        for split, annotations in read.items()
    }
    skipped = [line for annotations in read.values() for line in annotations.skipped]
    classes = next(iter(read.values())).classes
    return class_folders.Listing(classes, parts, tuple(skipped))


def _coco_objects(image):
    rows = [
        (_coco_box(annotation, image), annotation.label, annotation.crowd)
        for annotation in image.objects
    ]
    size = (image.width, image.height)
    return box_annotations.ground_truth(rows, size if all(size) else None)


def _coco_box(annotation, image):
    """Returns the box of an annotation, or the bounding box of its mask if it has none."""
    if annotation.box:
        return annotation.box
    mask = np.zeros((0, 0), bool)
    if annotation.segmentation and coco.size_matches(image):
        mask = coco_masks.decode_segmentation(annotation.segmentation, image.height, image.width)
    if not mask.any():
        return (0, 0, 0, 0)
    rows, columns = np.nonzero(mask)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def _to_source(name, listing):
    """Returns the source of a listing, without the files that are no images."""
    every = {path for paths, _ in listing.splits.values() for path in paths}
    reasons = dict(class_folders.find_non_images(sorted(every)))
    skipped = [*listing.skipped, *reasons.items()]
    parts = {}
    for split, (paths, ground_truths) in listing.splits.items():
        rows = [row for row in zip(paths, ground_truths, strict=True) if row[0] not in reasons]
        if rows:
            items, labels = zip(*rows, strict=True)
            parts[split] = Split(split, list(items), object_array(list(labels)))
    if not parts:
        first = f"; skipped {len(skipped)}, the first {': '.join(skipped[0])}" if skipped else ""
        raise UsageError(f"the data set {name!r} has no image that can be read{first}")
    return Source(name, listing.classes, parts, tuple(skipped), notes=listing.notes)


def _not_found_error(name):
    """Returns the error for a name that is neither a file nor a data set."""
    if Path(name).name == name and not Path(name).suffix:
        return unknown_name_error(
            "data set with boxes", name, [*BUILT_IN, f"{tfds_source.PREFIX}{name}"]
        )
    return UsageError(f"no data set with boxes named {name!r}: no such file or folder")
