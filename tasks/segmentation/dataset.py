"""Data sets of images and masks: what their names mean, and how they are decoded.

A mask has the label of each pixel: a position in the classes, or `IGNORED`, 255, for what belongs
to none and is neither learned from nor judged.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.data import coco, data_splits, exif, image_io, image_stats, pillow_images, splits
from tasks.data.class_folders import join_names, reading_errors
from tasks.data.dataset import object_array
from tasks.data.decoding import Examples, LazyImages, allocate_images, read_into
from tasks.data.geometry import IGNORE_LABEL
from tasks.data.tfds_source import PREFIX
from tasks.segmentation import folders, sources
from zoo.errors import UsageError
from zoo.lazy import np
from zoo.paths import expand_user

LAYOUTS = (
    "needed: folders images/ and masks/, also below train/, val/ and test/; or a COCO JSON file, "
    "or a folder of such called after splits"
)


def load(name, data_dir=None, colours="", classes=()):
    """Finds a data set of images with masks by name.

    Args:
        name: `shapes`; a folder that `folders.list_folder` lists; a COCO JSON file, or a folder of
            such, as `coco.annotation_files` finds them; or `tfds:NAME`, a data set of TFDS with an
            image and
            an image of labels.
        data_dir: where TFDS keeps its data sets; the default is its own.
        colours: path of a list of classes, with their colours where masks have such, for a folder.
        classes: names of a trained model, which masks of numbers without a list then have.

    Returns:
        A `Source`. The labels of its splits are arrays of objects, the masks: each has a
        `name`, and `read()`, which returns uint8 `(height, width)`.

    Raises:
        UsageError: there is nothing of that name, or it is not laid out as it should be.
    """
    name = str(name)
    if name == "shapes":
        return sources.load_shapes()
    if name.startswith(PREFIX):
        return sources.load_tfds(name, data_dir, colours, classes)
    path = expand_user(name)
    with reading_errors(name):
        if name and path.is_dir() and folders.find_folders(path):
            return sources.load_folder(name, folders.list_folder(path, colours, classes))
        if name and path.exists():
            if (
                files := coco.annotation_files(path)
                if path.is_dir() or path.suffix == coco.SUFFIX
                else {}
            ):
                return sources.load_coco(name, files)
            raise UsageError(f"{name} holds no images with masks; {LAYOUTS}")
    raise UsageError(f"no data set named {name!r}: not shapes, no such folder or file; {LAYOUTS}")


def data(source, names, shape, resize, bits=0):
    """Returns the `data_splits.DataSplits` of a source, decoded: its parts are `MaskedExamples`.

    Args:
        source: what `load` returned.
        names: slices to learn from, to choose by and to judge on, as `splits.train_val_test_split`
        takes them.
        shape: `(height, width, channels)` that every image becomes.
        resize: how: `stretch`, `crop` or `pad`.
        bits: as `image_stats.inspect_splits` takes them.

    Raises:
        UsageError: a slice is wrong, a mask is not of its image's size or has a label that no
            class has, or no image is left.
    """
    count = len(source.classes)
    parts, findings = image_stats.inspect_splits(splits.train_val_test_split(source, *names), bits)
    parts = [part and decode(part, count, shape, resize) for part in parts]
    return data_splits.DataSplits(source, *parts, shape, findings=findings)


@dataclass(frozen=True, eq=False)
class SegmentationExamples(Examples):
    """One split of images and masks, ready to be batched.

    Attributes:
        labels: uint8 `(count, height, width)`: an array in memory, one on disk, or `Masks`.
        counts: int64 `(classes,)`, pixels of each class, in the masks as they came.
        notes: what is strange about the masks, a line each.
    """

    counts: object = None
    notes: tuple[str, ...] = ()


def decode(split, num_classes, shape, resize, *, memory=None, disk=None):
    """Decodes the images and masks of a split, once, and checks every mask as it came.

    An image or a mask that cannot be read is dropped with its other half, and named. Masks are
    brought to the shape as images are, but each pixel takes the label of the nearest one; what
    `pad` adds is `IGNORED`.

    Args:
        split: of a source that `load` returned.
        num_classes: of the source.
        shape: `(height, width, channels)`.
        resize: `stretch`, `crop` or `pad`.
        memory, disk: bytes that images, and again masks, may take in each, as
        `decoding.allocate_images`
            takes them. What fits in neither is read anew each epoch.

    Returns:
        `MaskedExamples`.

    Raises:
        UsageError: a mask is not of its image's size or has a label that no class has, or
            nothing is left.
    """
    orientations, unsure = np.full(len(split), exif.UPRIGHT), np.zeros(len(split), bool)
    images = LazyImages(split.items, shape, resize, split.bits)
    masks = LazyMasks(split.labels, orientations, shape[:2], resize)
    rooms = [allocate_images(len(split), size, memory, disk) for size in (shape, shape[:2])]
    if any(place is None for place in rooms):
        rooms = [None, None]
    counts = np.zeros((len(split), num_classes), "int64")

    def one(index):
        item, mask = split.items[index], split.labels[index]
        image, labels = images.read(index), _read_mask(item, mask)
        orientations[index], unsure[index] = _mask_orientation(item, mask, labels.shape)
        found = np.bincount(labels.reshape(-1), minlength=IGNORE_LABEL + 1)[:IGNORE_LABEL]
        if found[num_classes:].any():
            raise UsageError(
                f"{mask.name} has the label {found.nonzero()[0][-1]}; there are {num_classes} "
                f"classes, labels 0 to {num_classes - 1} and {IGNORE_LABEL} for what is ignored"
            )
        counts[index] = found[:num_classes]
        return image, masks.fitted(labels, orientations[index])

    readable, dropped = read_into(split.name, len(split), one, rooms)
    if not counts.any():
        raise UsageError(f"every pixel of the masks of {split.name} is ignored; nothing to learn")
    if rooms[0] is None:
        items, labels = [split.items[index] for index in readable], split.labels[readable]
        pixels = LazyImages(items, shape, resize, split.bits)
        labels = LazyMasks(labels, orientations[readable], shape[:2], resize)
    else:
        pixels, labels = (place[: len(readable)] for place in rooms)
    names = [image_io.item_name(split.items[index]) for index in np.flatnonzero(unsure)]
    notes = (exif.ambiguity_warning(split.name, names, "masks"),) if names else ()
    own = {"items": split.items, "places": readable}
    return SegmentationExamples(split.name, pixels, labels, dropped, counts.sum(0), notes, **own)


class LazyMasks:
    """Masks read each time they are asked for.

    Args:
        masks: objects with `read()`.
        orientations: of each the EXIF orientation by which it is turned.
        shape: `(height, width)` that each becomes.
        resize: how: `stretch`, `crop` or `pad`.
    """

    dtype = property(lambda self: np.dtype("uint8"))

    def __init__(self, masks, orientations, shape, resize):
        self.masks, self.orientations, self.resize = masks, orientations, resize
        self.shape = (len(masks), *shape)

    def __len__(self):
        return len(self.masks)

    def __getitem__(self, indices):
        each = np.atleast_1d(indices)
        return np.stack([self.fitted(self.masks[i].read(), self.orientations[i]) for i in each])

    def fitted(self, labels, turn):
        """Returns a mask, uint8 `(height, width)`, turned and in the shape that all become."""
        labels = exif.transpose_mask(labels, turn)
        return pillow_images.resize_mask(labels, self.shape[:0:-1], self.resize, IGNORE_LABEL)


def notes(data):
    """Returns what is strange about the masks of `data_splits.DataSplits`, a line each."""
    return [line for part in data.parts for line in part.notes]


def missing_classes(examples, classes):
    """Returns the names of classes that no pixel of `MaskedExamples` has."""
    return [name for name, count in zip(classes, examples.counts, strict=True) if not count]


def relabel(split, classes, known):
    """Returns a split whose labels are positions in `known`, found by the names of classes.

    Args:
        split: of a source that `load` returned.
        classes: the names that its labels stand for.
        known: the names that a model was taught, in the order of its logits.

    Raises:
        UsageError: later, when a mask is read that has a class which is not known.
    """
    if tuple(classes) == tuple(known):
        return split
    places = tuple(known.index(name) if name in known else None for name in classes)
    masks = [_RelabelledMask(mask, tuple(classes), places) for mask in split.labels]
    return split.labelled(object_array(masks))


def _read_mask(item, mask):
    """Reads a mask; one that would first be drawn is not, if its size is another than stated."""
    if shape := getattr(mask, "shape", None):
        _mask_orientation(item, mask, shape)
    return mask.read()


def _mask_orientation(item, mask, shape):
    """Returns the orientation by which a mask is turned, and whether nothing tells which.

    Raises:
        UsageError: its size is neither that of its image as shown nor as stored.
    """
    size, orientation = image_io.image_size(item), exif.orientation(item)
    stored = exif.stored_size(size, orientation)
    if shape == size:
        return exif.UPRIGHT, size == stored and orientation != exif.UPRIGHT
    if shape == stored:
        return orientation, False
    (height, width), (tall, wide) = size, shape
    raise UsageError(
        f"{mask.name} is {wide} x {tall} pixels; its image, {image_io.item_name(item)}, is "
        f"{width} x {height} as it is seen; a mask has the size of its image"
    )


@dataclass(frozen=True, eq=False)
class _RelabelledMask:
    mask: object
    classes: tuple[str, ...]
    places: tuple[int | None, ...]

    name = property(lambda self: self.mask.name)
    shape = property(lambda self: getattr(self.mask, "shape", None))

    def read(self):
        labels = self.mask.read()
        present = [label for label in np.unique(labels) if label != IGNORE_LABEL]
        if unknown_classes := [
            self.classes[label] for label in present if self.places[label] is None
        ]:
            raise UsageError(
                f"{self.name} has classes that the model was not taught: "
                f"{join_names(unknown_classes)}"
            )
        table = np.full(IGNORE_LABEL + 1, IGNORE_LABEL, "uint8")
        for label in present:
            table[label] = self.places[label]
        return table[labels]
