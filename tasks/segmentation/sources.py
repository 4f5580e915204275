"""Sources of images with masks: drawn, in folders, annotated as COCO does, and of TFDS."""

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

BACKGROUND_NAMES = (
    "ground",
    "background",
)  # what to call what is in no object: the first that is free
MAX_REASONS = 3  # the most in a message
SCENE_CACHE_SIZE = 64  # so that the image and the mask of a scene are drawn once
# data sets of TFDS whose masks have numbers without names: the class of each number
TFDS_CLASS_NAMES = {
    "oxford_iiit_pet": {1: "pet", 2: "background", 3: "border"},
}
MASK_FEATURES = (
    "segmentation_mask",
    "segmentation_label",
    "mask",
    "label",
)  # of TFDS, that are masks


def load_shapes():
    """Returns the `Source` of the built-in drawn scenes."""
    splits = {
        name: Split(
            name, _SceneImages(name), object_array([_SceneMask(name, i) for i in range(count)])
        )
        for name, count in shapes.SPLITS.items()
    }
    return Source("shapes", (BACKGROUND_NAMES[0], *shapes.SHAPES), splits)


def load_folder(name, listing):
    """Returns the `Source` of what `folders.list_folder` listed."""
    splits = {
        split: Split(split, images, object_array(masks))
        for split, (images, masks) in listing.splits.items()
    }
    return Source(name, listing.classes, splits, listing.skipped)


def load_coco(name, files):
    """Returns the `Source` of annotation files of COCO.

    The first class is the ground, which no annotation covers; the others are the categories. Of
    two objects in one place the smaller one counts. What only a crowd covers, or the box of an
    object without a mask, is `IGNORED`.

    Args:
        name: as it was asked for.
        files: annotation files by split.

    Raises:
        UsageError: a file is none of COCO's, splits have other categories, or nothing has a mask.
    """
    read = coco.read_splits(files)
    first = next(iter(read.values()))
    things = [thing for one in read.values() for p in one.pictures for thing in p.things]
    skipped = tuple(row for one in read.values() for row in one.skipped)
    if not things:
        reasons = "; ".join(f"{path}: {reason}" for path, reason in skipped[:MAX_REASONS])
        raise UsageError(f"no image of {name} has an object: {reasons}")
    if not any(thing.segmentation for thing in things):
        raise UsageError(f"{name} has no masks but {len(things)} boxes: it is for detection")
    ground = next(
        (ground for ground in BACKGROUND_NAMES if ground not in first.classes), "no object"
    )
    splits = {
        split: Split(
            split,
            [picture.path for picture in one.pictures],
            object_array([_CocoMask(one.path, picture) for picture in one.pictures]),
        )
        for split, one in read.items()
    }
    return Source(name, _check_num_classes((ground, *first.classes), name), splits, skipped)


def load_tfds(name, data_dir=None, listing="", classes=()):
    """Returns the `Source` of a data set of TFDS with images and masks.

    The image is the feature `image`, or the first image that is no mask; the mask is the first
    `LabeledImage`, or else the first image called as one of `FEATURES`. Where nobody says what its
    numbers mean, all masks of the first split are read to see which there are.

    Args:
        name: `tfds:NAME` or `tfds:NAME/CONFIG`.
        data_dir: where TFDS keeps its data sets; `None` for its own default.
        listing: path of a list of classes, as `class_map.read` takes it, or `""`.
        classes: names of a trained model, for masks without names.

    Raises:
        UsageError: there is no such data set, it has no masks, or cannot be fetched.
    """
    builder = tfds_source.find_builder(name, data_dir)
    image, mask = _find_features(name, dict(builder.info.features))
    key = class_map.read(listing) if listing else _class_map(name, builder, mask)
    read = functools.partial(_read_split, image, mask, key)
    source = tfds_source.make_source(builder, name, key.classes if key else (), read)
    if key:
        return source
    split = next(iter(source.splits.values()))
    items = [mask.item for mask in split.labels]
    key = infer_class_map.infer_class_map(items, name, "classes.csv", classes, "--colours")
    read = functools.partial(_read_split, image, mask, key)
    return tfds_source.make_source(builder, name, key.classes, read)


class _SceneImages(Sequence):
    """The images of the scenes of a split."""

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
    picture: coco.CocoImage

    name = property(lambda self: f"the mask of {self.picture.path} in {self.path}")
    shape = property(lambda self: (self.picture.height, self.picture.width))  # before it is drawn

    def read(self):
        height, width = self.picture.height, self.picture.width
        labels = np.zeros((height, width), "uint8")
        # Crowds and boxes first, so that what is known in them is kept; then the largest.
        things = self.picture.things
        for thing in sorted(things, key=lambda thing: (_has_mask(thing), -thing.area)):
            labels[self._covered(thing)] = thing.label + 1 if _has_mask(thing) else IGNORE_LABEL
        return labels

    def _covered(self, thing):
        """Returns which pixels something covers: an index of the mask."""
        height, width = self.picture.height, self.picture.width
        if thing.segmentation is None:
            x0, y0, x1, y1 = thing.box or (0, 0, 0, 0)
            spans = ((max(0, a), max(0, b)) for a, b in ((y0, y1), (x0, x1)))
            return tuple(slice(math.floor(a), math.ceil(b)) for a, b in spans)
        try:
            return data_coco_masks.decode_segmentation(thing.segmentation, height, width)
        except UsageError as error:
            raise UsageError(f"{self.path}: annotation {thing.number}: {error}") from error


def _has_mask(thing):
    return thing.segmentation is not None and not thing.crowd


def _find_features(name, features):
    """Returns the names of the features that are image and mask."""
    images = [key for key, kind in features.items() if isinstance(kind, tfds.features.Image)]
    labelled = [key for key in images if isinstance(features[key], tfds.features.LabeledImage)]
    masks = [*labelled, *(key for key in MASK_FEATURES if key in images)]
    rest = sorted((key for key in images if key not in masks), key=lambda key: key != "image")
    if not masks or not rest:
        raise UsageError(
            f"{name} has no image with a mask ({', '.join(MASK_FEATURES)}); its features: "
            f"{join_names(features) or 'none'}"
        )
    return rest[0], masks[0]


def _class_map(name, builder, mask):
    """Returns what the numbers of a mask mean, or `None` if nobody says."""
    if known := TFDS_CLASS_NAMES.get(builder.name):
        values = {value: label for label, value in enumerate(known)}
        return class_map.ClassMap(tuple(known.values()), values, {}, name)
    feature = builder.info.features[mask]
    count = getattr(feature, "num_classes", None)
    if not count:
        return None
    values = {value: value for value in range(count)}
    return class_map.ClassMap(_check_num_classes(tuple(feature.names), name), values, {}, name)


def _check_num_classes(classes, name):
    """Returns classes if a mask can tell so many apart."""
    if len(classes) > class_map.MAX_CLASSES:
        raise UsageError(
            f"{name} has {len(classes)} classes; a mask tells {class_map.MAX_CLASSES} apart"
        )
    return classes


def _read_split(image, mask, key, split):
    """Reads the encoded images and masks of a split of TFDS."""
    items, masks = [], []
    examples = split.examples({image: True, mask: True}, (image, mask))
    for batch in examples.batch(tfds_source.READ_BATCH).as_numpy_iterator():
        items.extend(batch[image].tolist())
        masks.extend(batch[mask].tolist())
    return items, object_array([class_map.Mask(item, key) for item in masks])
