"""Sources of images with masks: drawn, in folders, annotated as COCO does, and of TFDS."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.data import coco, mask_keys, mask_numbers, segments, shapes, tfds_source
from tasks.data.dataset import Source, Split, objects
from tasks.data.folders import listed
from tasks.data.geometry import IGNORED
from zoo.errors import UsageError
from zoo.lazy import LazyModule, np

tfds = LazyModule("tensorflow_datasets")

GROUNDS = ("ground", "background")  # what to call what is in no object: the first that is free
REASONS = 3  # the most in a message
KEPT_SCENES = 64  # so that the image and the mask of a scene are drawn once
KNOWN = {  # data sets of TFDS whose masks have numbers without names: the class of each number
    "oxford_iiit_pet": {1: "pet", 2: "background", 3: "border"},
}
FEATURES = ("segmentation_mask", "segmentation_label", "mask", "label")  # of TFDS, that are masks


def shapes_masks():
    """Returns the `Source` of the built-in drawn scenes."""
    splits = {
        name: Split(name, _Pictures(name), objects([_SceneMask(name, i) for i in range(count)]))
        for name, count in shapes.SPLITS.items()
    }
    return Source("shapes", (GROUNDS[0], *shapes.SHAPES), splits)


def folder_masks(name, listing):
    """Returns the `Source` of what `mask_folders.folder` listed."""
    splits = {
        split: Split(split, images, objects(masks))
        for split, (images, masks) in listing.splits.items()
    }
    return Source(name, listing.classes, splits, listing.skipped)


def coco_masks(name, files):
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
    read = coco.together(files)
    first = next(iter(read.values()))
    things = [thing for one in read.values() for p in one.pictures for thing in p.things]
    skipped = tuple(row for one in read.values() for row in one.skipped)
    if not things:
        reasons = "; ".join(f"{path}: {reason}" for path, reason in skipped[:REASONS])
        raise UsageError(f"no image of {name} has an object: {reasons}")
    if not any(thing.segmentation for thing in things):
        raise UsageError(f"{name} has no masks but {len(things)} boxes: it is for detection")
    ground = next((ground for ground in GROUNDS if ground not in first.classes), "no object")
    splits = {
        split: Split(
            split,
            [picture.path for picture in one.pictures],
            objects([_CocoMask(one.path, picture) for picture in one.pictures]),
        )
        for split, one in read.items()
    }
    return Source(name, _few((ground, *first.classes), name), splits, skipped)


def tfds_masks(name, data_dir=None, listing="", classes=()):
    """Returns the `Source` of a data set of TFDS with images and masks.

    The image is the feature `image`, or the first image that is no mask; the mask is the first
    `LabeledImage`, or else the first image called as one of `FEATURES`. Where nobody says what its
    numbers mean, all masks of the first split are read to see which there are.

    Args:
        name: `tfds:NAME` or `tfds:NAME/CONFIG`.
        data_dir: where TFDS keeps its data sets; `None` for its own default.
        listing: path of a list of classes, as `mask_keys.read` takes it, or `""`.
        classes: names of a trained model, for masks without names.

    Raises:
        UsageError: there is no such data set, it has no masks, or cannot be fetched.
    """
    builder = tfds_source.found(name, data_dir)
    image, mask = _features(name, dict(builder.info.features))
    key = mask_keys.read(listing) if listing else _key(name, builder, mask)
    read = functools.partial(_read, image, mask, key)
    source = tfds_source.source(builder, name, key.classes if key else (), read)
    if key:
        return source
    split = next(iter(source.splits.values()))
    items = [mask.item for mask in split.labels]
    key = mask_numbers.key(items, name, "classes.csv", classes, "--colours")
    read = functools.partial(_read, image, mask, key)
    return tfds_source.source(builder, name, key.classes, read)


class _Pictures(Sequence):
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


@functools.lru_cache(KEPT_SCENES)
def _scene(split, index):
    return shapes.draw(split, index)


@dataclass(frozen=True, eq=False)
class _CocoMask:
    path: str
    picture: coco.Picture

    name = property(lambda self: f"the mask of {self.picture.path} in {self.path}")
    shape = property(lambda self: (self.picture.height, self.picture.width))  # before it is drawn

    def read(self):
        height, width = self.picture.height, self.picture.width
        labels = np.zeros((height, width), "uint8")
        # Crowds and boxes first, so that what is known in them is kept; then the largest.
        things = self.picture.things
        for thing in sorted(things, key=lambda thing: (_known(thing), -thing.area)):
            labels[self._covered(thing)] = thing.label + 1 if _known(thing) else IGNORED
        return labels

    def _covered(self, thing):
        """Returns which pixels something covers: an index of the mask."""
        height, width = self.picture.height, self.picture.width
        if thing.segmentation is None:
            x0, y0, x1, y1 = thing.box or (0, 0, 0, 0)
            spans = ((max(0, a), max(0, b)) for a, b in ((y0, y1), (x0, x1)))
            return tuple(slice(math.floor(a), math.ceil(b)) for a, b in spans)
        try:
            return segments.mask(thing.segmentation, height, width)
        except UsageError as error:
            raise UsageError(f"{self.path}: annotation {thing.number}: {error}") from error


def _known(thing):
    return thing.segmentation is not None and not thing.crowd


def _features(name, features):
    """Returns the names of the features that are image and mask."""
    images = [key for key, kind in features.items() if isinstance(kind, tfds.features.Image)]
    labelled = [key for key in images if isinstance(features[key], tfds.features.LabeledImage)]
    masks = [*labelled, *(key for key in FEATURES if key in images)]
    rest = sorted((key for key in images if key not in masks), key=lambda key: key != "image")
    if not masks or not rest:
        raise UsageError(
            f"{name} has no image with a mask ({', '.join(FEATURES)}); its features: "
            f"{listed(features) or 'none'}"
        )
    return rest[0], masks[0]


def _key(name, builder, mask):
    """Returns what the numbers of a mask mean, or `None` if nobody says."""
    if known := KNOWN.get(builder.name):
        values = {value: label for label, value in enumerate(known)}
        return mask_keys.Key(tuple(known.values()), values, {}, name)
    feature = builder.info.features[mask]
    count = getattr(feature, "num_classes", None)
    if not count:
        return None
    values = {value: value for value in range(count)}
    return mask_keys.Key(_few(tuple(feature.names), name), values, {}, name)


def _few(classes, name):
    """Returns classes if a mask can tell so many apart."""
    if len(classes) > mask_keys.MOST:
        raise UsageError(f"{name} has {len(classes)} classes; a mask tells {mask_keys.MOST} apart")
    return classes


def _read(image, mask, key, split):
    """Reads the encoded images and masks of a split of TFDS."""
    items, masks = [], []
    examples = split.examples({image: True, mask: True}, (image, mask))
    for batch in examples.batch(tfds_source.READ_BATCH).as_numpy_iterator():
        items.extend(batch[image].tolist())
        masks.extend(batch[mask].tolist())
    return items, objects([mask_keys.Mask(item, key) for item in masks])
