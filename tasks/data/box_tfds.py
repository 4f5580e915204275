"""Boxes of the data sets of TensorFlow Datasets."""

from __future__ import annotations

from functools import partial

from tasks.data import boxes, tfds_source
from tasks.data.dataset import objects
from tasks.data.folders import listed
from zoo.errors import UsageError
from zoo.lazy import LazyModule, np

tfds = LazyModule("tensorflow_datasets")

ORDERS = {  # of the numbers of a box, by the format that its feature states
    "REL_YXYX": (1, 0, 3, 2),
    "REL_XYXY": (0, 1, 2, 3),
    "YXYX": (1, 0, 3, 2),
    "XYXY": (0, 1, 2, 3),
}
SHARES = "REL_"  # how the formats begin whose numbers are parts of the sides
IGNORED = ("is_crowd", "is_difficult", "is_group_of")  # COCO, Pascal VOC, Open Images


def load(name, data_dir):
    """Finds a data set of TFDS with images and boxes, downloading it if need be.

    Boxes are those of its first feature that is a sequence with a `BBoxFeature`; classes are
    the first `ClassLabel` in it, or where there is none, as in `wider_face`, the feature itself.

    Args:
        name: `tfds:NAME` or `tfds:NAME/CONFIG`.
        data_dir: where TFDS keeps its data sets; `None` for its own default.

    Returns:
        A `Source`, whose splits are read when first used.

    Raises:
        UsageError: there is no such data set, it has no images with boxes, or it is not here and
            cannot be fetched.
    """
    builder = tfds_source.found(name, data_dir)
    features = dict(builder.info.features)
    group, inside = next(filter(None, map(_boxes_in, features.items())), ("", {}))
    if not inside or not isinstance(features.get("image"), tfds.features.Image):
        known = listed(features) or "none"
        raise UsageError(
            f"{name} has no Image 'image' with a sequence of boxes; its features: {known}"
        )
    label = _first(inside, tfds.features.ClassLabel)
    classes = tuple(inside[label].names) if label else (group,)
    box = _first(inside, tfds.features.BBoxFeature)
    written = getattr(inside[box], "bbox_format", "REL_YXYX")  # older releases have no other
    written = str(getattr(written, "value", written))
    if written not in ORDERS:
        raise UsageError(f"{name} has boxes of the format {written}; needed: {listed(ORDERS)}")
    names = (box, label, *(key for key in IGNORED if key in inside))
    read = partial(_read, group=group, names=names, written=written)
    return tfds_source.source(builder, name, classes, read)


def _boxes_in(feature):
    """Returns the name and the features of a sequence of boxes, or `None` for anything else."""
    name, feature = feature
    inside = getattr(feature, "feature", None)  # what a sequence is a sequence of
    inside = dict(inside) if isinstance(inside, tfds.features.FeaturesDict) else {}
    return (name, inside) if _first(inside, tfds.features.BBoxFeature) else None


def _first(features, kind):
    return next((name for name, feature in features.items() if isinstance(feature, kind)), None)


def _read(split, group, names, written):
    """Reads images, and what is in them."""
    box, label, *ignored = names
    wanted = {"image": True, group: {name: True for name in (box, label, *ignored) if name}}
    items, truths = [], []
    size = boxes.SHARES if written.startswith(SHARES) else None
    for example in split.examples(wanted, ("image",)).as_numpy_iterator():
        things = example[group]
        edges = np.asarray(things[box], "float64").reshape(-1, 4)[:, ORDERS[written]]
        count = len(edges)
        labels = np.asarray(things[label], "int64") if label else np.zeros(count, "int64")
        passed = [np.asarray(things[name]).astype("int64") > 0 for name in ignored]
        flags = np.logical_or.reduce([np.zeros(count, bool), *passed])
        said = labels >= 0
        items.append(bytes(example["image"]))
        truths.append(boxes.Truth(edges[said], labels[said], flags[said], size))
    return items, objects(truths)
