"""Segmentation data sets: finds them by name, decodes and checks images and masks.

A mask holds a label per pixel: an index into the classes, or `IGNORE_LABEL`, 255, for pixels that
are ignored by losses and metrics.
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
from tasks.segmentation.threshold_map import NO_THRESHOLD
from zoo.errors import UsageError
from zoo.lazy import LazyModule, np

dataset_options = LazyModule("tasks.data.dataset_options")

LAYOUTS = (
    "expected folders images/ and masks/, optionally below train/, val/ and test/; or a COCO JSON "
    "file, or a folder of COCO JSON files named after splits"
)


def load(name, data_dir=None, class_map_path="", classes=(), threshold=NO_THRESHOLD):
    """Finds a segmentation data set by name.

    Args:
        name: `shapes`; a folder with the layout of `folders.list_folder`; a COCO JSON file, or a
            folder of such files, see `coco.annotation_files`; or `tfds:NAME`, a TFDS data set with
            an image and a mask.
        data_dir: The data directory of TFDS; `None` for the default.
        class_map_path: The path of a class list, with colors for color-coded masks.
        classes: The class names of a trained model, used for masks without a class list.
        threshold: The largest value of the background in masks of a folder, as in
            `threshold_map`, or `NO_THRESHOLD`.

    Returns:
        A `Source`. The labels of its splits are arrays of masks: objects with a `name` and
        `read()`, which returns uint8 `(height, width)`.

    Raises:
        UsageError: There is no such data set, or its layout is not supported.
    """
    name = str(name)
    if name == "shapes" and threshold == NO_THRESHOLD:
        return sources.load_shapes()
    if name.startswith(PREFIX) and threshold == NO_THRESHOLD:
        return sources.load_tfds(name, data_dir, class_map_path, classes)
    path, columns, options = dataset_options.split_name(name)
    chosen = options.pop(dataset_options.PAGES, "")
    dataset_options.check_absent(name, [columns, *options])
    with reading_errors(name):
        if name and path.is_dir() and folders.find_folders(path):
            listing = folders.list_folder(path, class_map_path, classes, chosen, threshold)
            return sources.load_folder(name, listing)
        if threshold != NO_THRESHOLD:
            raise UsageError(f"--threshold is for masks of a folder; {name} is none")
        if name and path.exists():
            is_coco = path.is_dir() or path.suffix == coco.SUFFIX
            if files := coco.annotation_files(path) if is_coco else {}:
                dataset_options.check_absent(name, [chosen and dataset_options.PAGES])
                return sources.load_coco(name, files)
            raise UsageError(f"{name} contains no images with masks; {LAYOUTS}")
    raise UsageError(f"no data set named {name!r}: not shapes, no such folder or file; {LAYOUTS}")


def prepare(source, names, shape, resize, bits=0):
    """Returns the decoded `data_splits.DataSplits` of a source, of `SegmentationExamples`.

    Args:
        source: A `Source` from `load`.
        names: The slices of the training, validation and test split, as in
            `splits.train_val_test_split`.
        shape: `(height, width, channels)` of the decoded images.
        resize: How images are resized: `stretch`, `crop` or `pad`.
        bits: As in `image_stats.inspect_splits`.

    Raises:
        UsageError: A slice is invalid, a mask differs from its image in size or has an unknown
            label, or no image can be read.
    """
    count = len(source.classes)
    parts, findings = image_stats.inspect_splits(splits.train_val_test_split(source, *names), bits)
    parts = [part and decode(part, count, shape, resize) for part in parts]
    return data_splits.DataSplits(source, *parts, shape, findings=findings)


@dataclass(frozen=True, eq=False)
class SegmentationExamples(Examples):
    """One split of images and masks, ready to be batched.

    Attributes:
        labels: uint8 `(count, height, width)`: an array in memory or on disk, or `LazyMasks`.
        counts: int64 `(classes,)`, the number of pixels of each class, before resizing.
        notes: Warnings about the masks, one line each.
    """

    counts: object = None
    notes: tuple[str, ...] = ()


def decode(split, num_classes, shape, resize, *, memory=None, disk=None):
    """Decodes the images and masks of a split once, and checks every mask before resizing.

    An image or a mask that cannot be read is dropped together with its counterpart, and reported.
    Masks are resized like images, but by nearest neighbor; `pad` fills with `IGNORE_LABEL`.

    Args:
        split: A split of a source from `load`.
        num_classes: The number of classes of the source.
        shape: `(height, width, channels)` of the decoded images.
        resize: How images are resized: `stretch`, `crop` or `pad`.
        memory, disk: The limits in bytes for images, and again for masks, as in
            `decoding.allocate_images`. What fits in neither is read again in each epoch.

    Returns:
        `SegmentationExamples`.

    Raises:
        UsageError: A mask differs from its image in size or has an unknown label, or no image can
            be read.
    """
    orientations, ambiguous = np.full(len(split), exif.UPRIGHT), np.zeros(len(split), bool)
    images = LazyImages(split.items, shape, resize, split.bits)
    masks = LazyMasks(split.labels, orientations, shape[:2], resize)
    buffers = [allocate_images(len(split), size, memory, disk) for size in (shape, shape[:2])]
    if any(buffer is None for buffer in buffers):
        buffers = [None, None]
    counts = np.zeros((len(split), num_classes), "int64")
    labelled = np.zeros(len(split), bool)  # whether a pixel of the resized mask has a class

    def decode_pair(index):
        item, mask = split.items[index], split.labels[index]
        image, labels = images.read(index), _read_mask(item, mask)
        orientations[index], ambiguous[index] = _mask_orientation(item, mask, labels.shape)
        pixels = np.bincount(labels.reshape(-1), minlength=IGNORE_LABEL + 1)[:IGNORE_LABEL]
        if pixels[num_classes:].any():
            raise UsageError(
                f"{mask.name} has the label {pixels.nonzero()[0][-1]}; there are {num_classes} "
                f"classes, labels 0 to {num_classes - 1} and {IGNORE_LABEL} for ignored pixels"
            )
        counts[index] = pixels[:num_classes]
        resized = masks.resized(labels, orientations[index])
        labelled[index] = (resized != IGNORE_LABEL).any()
        return image, resized

    readable, dropped = read_into(split.name, len(split), decode_pair, buffers)
    _check_labelled(split.name, counts, labelled, shape, resize)
    if buffers[0] is None:
        items, labels = [split.items[index] for index in readable], split.labels[readable]
        pixels = LazyImages(items, shape, resize, split.bits)
        labels = LazyMasks(labels, orientations[readable], shape[:2], resize)
    else:
        pixels, labels = (buffer[: len(readable)] for buffer in buffers)
    names = [image_io.item_name(split.items[index]) for index in np.flatnonzero(ambiguous)]
    notes = (exif.ambiguity_warning(split.name, names, "masks"),) if names else ()
    origin = {"items": split.items, "item_indices": readable}
    return SegmentationExamples(split.name, pixels, labels, dropped, counts.sum(0), notes, **origin)


class LazyMasks:
    """Masks that are read and resized each time they are indexed.

    Args:
        masks: Objects with `read()`.
        orientations: The EXIF orientation of each mask.
        shape: `(height, width)` of the resized masks.
        resize: How masks are resized: `stretch`, `crop` or `pad`.
    """

    dtype = property(lambda self: np.dtype("uint8"))

    def __init__(self, masks, orientations, shape, resize):
        self.masks, self.orientations, self.resize = masks, orientations, resize
        self.shape = (len(masks), *shape)

    def __len__(self):
        return len(self.masks)

    def __getitem__(self, indices):
        indices = np.atleast_1d(indices)
        return np.stack([self.resized(self.masks[i].read(), self.orientations[i]) for i in indices])

    def resized(self, labels, orientation):
        """Returns a mask upright and resized, uint8 `(height, width)`."""
        labels = exif.transpose_mask(labels, orientation)
        return pillow_images.resize_mask(labels, self.shape[:0:-1], self.resize, IGNORE_LABEL)


def notes(data):
    """Returns the warnings about the masks of `data_splits.DataSplits`, one line each."""
    return [line for part in data.parts for line in part.notes]


def missing_classes(examples, classes):
    """Returns the names of classes without a pixel in `SegmentationExamples`."""
    return [name for name, count in zip(classes, examples.counts, strict=True) if not count]


def relabel(split, classes, model_classes):
    """Returns a split whose labels are indices into `model_classes`, matched by class name.

    Args:
        split: A split of a source from `load`.
        classes: The class names that its labels index.
        model_classes: The class names of a model, in the order of its logits.

    Raises:
        UsageError: When a mask is read that has a class which the model does not have.
    """
    if tuple(classes) == tuple(model_classes):
        return split
    label_map = tuple(
        model_classes.index(name) if name in model_classes else None for name in classes
    )
    masks = [_RelabelledMask(mask, tuple(classes), label_map) for mask in split.labels]
    return split.labelled(object_array(masks))


def _check_labelled(name, counts, labelled, shape, resize):
    """Raises `UsageError` if no pixel of a split has a class, before or after resizing."""
    if not counts.any():
        raise UsageError(
            f"every pixel of the masks of {name} is ignored; label some pixels with a class"
        )
    if not labelled.any():
        height, width, _ = shape
        raise UsageError(
            f"every pixel of the masks of {name} is ignored after resizing to {height} x {width} "
            f"pixels: its {counts.sum():,} labeled pixels are too few, or outside the crop of "
            f"--resize crop; increase --image-size, or change --resize {resize}"
        )


def _read_mask(item, mask):
    """Reads a mask, after a check of its size if that is known without rasterizing it."""
    if shape := getattr(mask, "shape", None):
        _mask_orientation(item, mask, shape)
    return mask.read()


def _mask_orientation(item, mask, shape):
    """Returns the EXIF orientation of a mask, and whether it is ambiguous.

    Raises:
        UsageError: The mask has neither the size of its image as displayed nor as stored.
    """
    size, orientation = image_io.image_size(item), exif.orientation(item)
    stored = exif.stored_size(size, orientation)
    if shape == size:
        return exif.UPRIGHT, size == stored and orientation != exif.UPRIGHT
    if shape == stored:
        return orientation, False
    (height, width), (mask_height, mask_width) = size, shape
    raise UsageError(
        f"{mask.name} is {mask_width} x {mask_height} pixels; its image, "
        f"{image_io.item_name(item)}, is {width} x {height} as displayed; "
        "a mask must have the size of its image"
    )


@dataclass(frozen=True, eq=False)
class _RelabelledMask:
    mask: object
    classes: tuple[str, ...]
    label_map: tuple[int | None, ...]

    name = property(lambda self: self.mask.name)
    shape = property(lambda self: getattr(self.mask, "shape", None))

    def read(self):
        labels = self.mask.read()
        present = [label for label in np.unique(labels) if label != IGNORE_LABEL]
        unknown = [self.classes[label] for label in present if self.label_map[label] is None]
        if unknown:
            raise UsageError(
                f"{self.name} has classes that the model was not trained on: {join_names(unknown)}"
            )
        table = np.full(IGNORE_LABEL + 1, IGNORE_LABEL, "uint8")
        for label in present:
            table[label] = self.label_map[label]
        return table[labels]
