"""Sources of images with masks: the `shapes` scenes, folders, COCO annotations and TFDS."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.data import coco, shapes, tfds_source
from tasks.data import coco_masks as data_coco_masks
from tasks.data.class_folders import join_names
from tasks.data.dataset import Source, Split, object_array
from tasks.data.geometry import IGNORE_LABEL
from tasks.segmentation import class_map, infer_class_map
from zoo.errors import UsageError
from zoo.lazy import LazyModule, np

tfds = LazyModule("tensorflow_datasets")

# Of the background class: the first that no category has.
BACKGROUND_NAMES = ("ground", "background")
MAX_REASONS = 3  # in a message
SCENE_CACHE_SIZE = 64  # so that the image and the mask of a scene are drawn once
# The class of each mask value, for TFDS data sets without class names.
TFDS_CLASS_NAMES = {
    "oxford_iiit_pet": {1: "pet", 2: "background", 3: "border"},
}
# Of TFDS features that contain masks.
MASK_FEATURES = ("segmentation_mask", "segmentation_label", "mask", "label")


def load_shapes():
    """Returns the `Source` of the built-in synthetic scenes `shapes`."""
    splits = {
        name: Split(
            name, _SceneImages(name), object_array([_SceneMask(name, i) for i in range(count)])
        )
        for name, count in shapes.SPLITS.items()
    }
    return Source("shapes", (BACKGROUND_NAMES[0], *shapes.SHAPES), splits)


def load_folder(name, listing):
    """Returns the `Source` of a `folders.Listing`."""
    splits = {
        split: Split(split, images, object_array(masks))
        for split, (images, masks) in listing.splits.items()
    }
    return Source(name, listing.classes, splits, listing.skipped, notes=listing.notes)


def load_coco(name, files):
    """Returns the `Source` of COCO annotation files.

    The first class is the background, the others are the categories. Where objects overlap, the
    smallest one is in front. Pixels that only a crowd covers, or the box of an object without a
    mask, are `IGNORE_LABEL`.

    Args:
        name: The name of the data set, as passed by the user.
        files: The annotation files by split.

    Raises:
        UsageError: A file is not in COCO format, splits have different categories, or no object
            has a mask.
    """
    annotations = coco.read_splits(files)
    first = next(iter(annotations.values()))
    images = [image for one in annotations.values() for image in one.images]
    objects = [each for image in images for each in image.objects]
    skipped = tuple(row for one in annotations.values() for row in one.skipped)
    if not objects:
        reasons = "; ".join(f"{path}: {reason}" for path, reason in skipped[:MAX_REASONS])
        raise UsageError(f"no image of {name} has an object: {reasons}")
    if not any(each.segmentation for each in objects):
        raise UsageError(f"{name} has {len(objects)} boxes but no masks; use it for detection")
    background = next((x for x in BACKGROUND_NAMES if x not in first.classes), "no object")
    splits = {
        split: Split(
            split,
            [image.path for image in one.images],
            object_array([_CocoMask(one.path, image) for image in one.images]),
        )
        for split, one in annotations.items()
    }
    return Source(name, _check_num_classes((background, *first.classes), name), splits, skipped)


def load_tfds(name, data_dir=None, class_map_path="", classes=()):
    """Returns the `Source` of a TFDS data set with images and masks.

    The image is the feature `image`, or else the first image feature that is not a mask. The mask
    is the first `LabeledImage`, or else the first image feature of `MASK_FEATURES`. Without class
    names, all masks of the first split are read to find their values.

    Args:
        name: `tfds:NAME` or `tfds:NAME/CONFIG`.
        data_dir: The data directory of TFDS; `None` for the default.
        class_map_path: The path of a class list, in the format of `class_map.read`, or `""`.
        classes: The class names of a trained model, for masks without class names.

    Raises:
        UsageError: There is no such data set, it has no masks, or it cannot be downloaded.
    """
    builder = tfds_source.find_builder(name, data_dir)
    image, mask = _find_features(name, dict(builder.info.features))
    mapping = class_map.read(class_map_path) if class_map_path else _class_map(name, builder, mask)
    read = functools.partial(_read_split, image, mask, mapping)
    source = tfds_source.make_source(builder, name, mapping.classes if mapping else (), read)
    if mapping:
        return source
    split = next(iter(source.splits.values()))
    items = [mask.item for mask in split.labels]
    mapping = infer_class_map.infer_class_map(items, name, "classes.csv", classes, "--class-map")
    read = functools.partial(_read_split, image, mask, mapping)
    return tfds_source.make_source(builder, name, mapping.classes, read)


class _SceneImages(Sequence):
    """The images of a split of `shapes`."""

    def __init__(self, split):
        self.split = split

    def __len__(self):
        return shapes.SPLITS[self.split]

    def __getitem__(self, index):
        return _scene(self.split, range(len(self))[index]).image


@dataclass(frozen=True)
class _SceneMask:
    split: str
    index: int

    name = property(lambda self: f"scene {self.index} of {self.split}")

    def read(self):
        return _scene(self.split, self.index).mask


@functools.lru_cache(SCENE_CACHE_SIZE)
def _scene(split, index):
    return shapes.draw(split, index)


@dataclass(frozen=True, eq=False)
class _CocoMask:
    path: str
    image: coco.CocoImage

    name = property(lambda self: f"the mask of {self.image.path} in {self.path}")
    shape = property(lambda self: (self.image.height, self.image.width))  # without rasterizing

    def read(self):
        height, width = self.image.height, self.image.width
        labels = np.zeros((height, width), "uint8")
        # Crowds and boxes first, so that objects with masks are in front; then by falling area.
        objects = self.image.objects
        for each in sorted(objects, key=lambda each: (_has_mask(each), -each.area)):
            labels[self._covered(each)] = each.label + 1 if _has_mask(each) else IGNORE_LABEL
        return labels

    def _covered(self, annotation):
        """Returns an index of the pixels that an object covers."""
        height, width = self.image.height, self.image.width
        if annotation.segmentation is None:
            x0, y0, x1, y1 = annotation.box or (0, 0, 0, 0)
            spans = ((max(0, a), max(0, b)) for a, b in ((y0, y1), (x0, x1)))
            return tuple(slice(math.floor(a), math.ceil(b)) for a, b in spans)
        try:
            return data_coco_masks.decode_segmentation(annotation.segmentation, height, width)
        except UsageError as error:
            raise UsageError(f"{self.path}: annotation {annotation.number}: {error}") from error


def _has_mask(annotation):
    return annotation.segmentation is not None and not annotation.crowd


def _find_features(name, features):
    """Returns the names of the image feature and of the mask feature."""
    images = [key for key, kind in features.items() if isinstance(kind, tfds.features.Image)]
    labelled = [key for key in images if isinstance(features[key], tfds.features.LabeledImage)]
    masks = [*labelled, *(key for key in MASK_FEATURES if key in images)]
    images = sorted((key for key in images if key not in masks), key=lambda key: key != "image")
    if not masks or not images:
        raise UsageError(
            f"{name} has no image with a mask ({', '.join(MASK_FEATURES)}); its features: "
            f"{join_names(features) or 'none'}"
        )
    return images[0], masks[0]


def _class_map(name, builder, mask):
    """Returns the `ClassMap` of the mask feature, or `None` if it has no classes."""
    if names := TFDS_CLASS_NAMES.get(builder.name):
        values = {value: label for label, value in enumerate(names)}
        return class_map.ClassMap(tuple(names.values()), values, {}, name)
    feature = builder.info.features[mask]
    count = getattr(feature, "num_classes", None)
    if not count:
        return None
    values = {value: value for value in range(count)}
    return class_map.ClassMap(_check_num_classes(tuple(feature.names), name), values, {}, name)


def _check_num_classes(classes, name):
    """Returns the classes; raises `UsageError` if there are too many for a mask."""
    if len(classes) > class_map.MAX_CLASSES:
        raise UsageError(
            f"{name} has {len(classes)} classes; a mask has {class_map.MAX_CLASSES} at most"
        )
    return classes


def _read_split(image, mask, mapping, split):
    """Returns the encoded images and the masks of a TFDS split."""
    items, masks = [], []
    examples = split.examples({image: True, mask: True}, (image, mask))
    for batch in examples.batch(tfds_source.READ_BATCH).as_numpy_iterator():
        items.extend(batch[image].tolist())
        masks.extend(batch[mask].tolist())
    return items, object_array([class_map.Mask(item, mapping) for item in masks])
