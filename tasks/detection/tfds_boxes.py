"""Boxes of the data sets of TensorFlow Datasets."""

from __future__ import annotations

from functools import partial

from tasks.data import tfds_source
from tasks.data.class_folders import join_names
from tasks.data.dataset import object_array
from tasks.detection import box_annotations
from zoo.errors import UsageError
from zoo.lazy import LazyModule, np

tfds = LazyModule("tensorflow_datasets")

COORDINATE_ORDERS = {  # indices of x0, y0, x1, y1 in a box, by the format of its feature
    "REL_YXYX": (1, 0, 3, 2),
    "REL_XYXY": (0, 1, 2, 3),
    "YXYX": (1, 0, 3, 2),
    "XYXY": (0, 1, 2, 3),
}
RELATIVE_PREFIX = "REL_"  # of formats whose coordinates are relative to the image size
IGNORE_FLAGS = ("is_crowd", "is_difficult", "is_group_of")  # COCO, Pascal VOC, Open Images


def load(name, data_dir):
    """Finds a TFDS data set of images with boxes, and downloads it if needed.

    Boxes are taken from its first feature that is a sequence with a `BBoxFeature`; classes from
    the first `ClassLabel` in it, or, where there is none, as in `wider_face`, the name of the
    feature is the only class.

    Args:
        name: `tfds:NAME` or `tfds:NAME/CONFIG`.
        data_dir: the folder of TFDS data sets; `None` for the default of TFDS.

    Returns:
        A `Source`, whose splits are read on first use.

    Raises:
        UsageError: there is no such data set, it has no images with boxes, or it cannot be
            downloaded.
    """
    builder = tfds_source.find_builder(name, data_dir)
    features = dict(builder.info.features)
    group, inside = next(filter(None, map(_box_features, features.items())), ("", {}))
    if not inside or not isinstance(features.get("image"), tfds.features.Image):
        known = join_names(features) or "none"
        raise UsageError(
            f"{name} has no Image 'image' with a sequence of boxes; its features: {known}"
        )
    label = _first_of_type(inside, tfds.features.ClassLabel)
    classes = tuple(inside[label].names) if label else (group,)
    box = _first_of_type(inside, tfds.features.BBoxFeature)
    bbox_format = getattr(inside[box], "bbox_format", "REL_YXYX")  # the only one of older releases
    bbox_format = str(getattr(bbox_format, "value", bbox_format))
    if bbox_format not in COORDINATE_ORDERS:
        raise UsageError(
            f"{name} has boxes of the format {bbox_format}; needed: {join_names(COORDINATE_ORDERS)}"
        )
    names = (box, label, *(key for key in IGNORE_FLAGS if key in inside))
    read = partial(_read_examples, group=group, names=names, bbox_format=bbox_format)
    return tfds_source.make_source(builder, name, classes, read)


def _box_features(feature):
    """Returns the name and the features of a sequence of boxes, or `None` for other features."""
    name, feature = feature
    inside = getattr(feature, "feature", None)  # of the elements of a sequence
    inside = dict(inside) if isinstance(inside, tfds.features.FeaturesDict) else {}
    return (name, inside) if _first_of_type(inside, tfds.features.BBoxFeature) else None


def _first_of_type(features, kind):
    return next((name for name, feature in features.items() if isinstance(feature, kind)), None)


def _read_examples(split, group, names, bbox_format):
    """Returns the images of a split and their `GroundTruth`."""
    box, label, *ignored = names
    wanted = {"image": True, group: {name: True for name in (box, label, *ignored) if name}}
    items, ground_truths = [], []
    size = box_annotations.RELATIVE_SIZE if bbox_format.startswith(RELATIVE_PREFIX) else None
    for example in split.examples(wanted, ("image",)).as_numpy_iterator():
        objects = example[group]
        boxes = np.asarray(objects[box], "float64").reshape(-1, 4)
        boxes = boxes[:, COORDINATE_ORDERS[bbox_format]]
        labels = np.asarray(objects[label], "int64") if label else np.zeros(len(boxes), "int64")
        flags = [np.asarray(objects[name]).astype("int64") > 0 for name in ignored]
        is_ignored = np.logical_or.reduce([np.zeros(len(boxes), bool), *flags])
        kept = labels >= 0
        items.append(bytes(example["image"]))
        ground_truths.append(
            box_annotations.GroundTruth(boxes[kept], labels[kept], is_ignored[kept], size)
        )
    return items, object_array(ground_truths)
