"""Where the objects in images are: masks or boxes of a data set that has the same images."""

from __future__ import annotations

import math

from tasks.data import sources, splits, tfds_source
from tasks.data.geometry import IGNORE_LABEL
from tasks.data.image_io import UnreadableImage
from tasks.report.palette import BACKGROUND_NAMES
from zoo.errors import UsageError
from zoo.lazy import LazyModule, np

segmentation_dataset = LazyModule("tasks.segmentation.dataset")
detection_dataset = LazyModule("tasks.detection.dataset")


def load(name, data_dir=None):
    """Loads a data set with masks, or else with boxes, by name.

    Args:
        name: A name as for `zoo train segmentation` or `zoo train detection`.
        data_dir: The folder of TFDS data sets; by default that of TFDS.

    Returns:
        A `dataset.Source`.

    Raises:
        UsageError: There is no such data set, or it has neither masks nor boxes.
    """
    try:
        return segmentation_dataset.load(name, data_dir)
    except UsageError as no_masks:
        try:
            return detection_dataset.load(name, data_dir)
        except UsageError as no_boxes:
            raise UsageError(
                f"{name} has no masks of objects ({no_masks}) and no boxes ({no_boxes})"
            ) from no_boxes


def load_own(name, data_dir=None):
    """Loads the masks or boxes that a data set of labeled images has itself.

    Args:
        name: Its name, as for `sources.load`.
        data_dir: As in `load`.

    Returns:
        A `dataset.Source`, or `None` if it has none, as files with labels only.
    """
    if name not in sources.BUILT_IN and not name.startswith(tfds_source.PREFIX):
        return None
    try:
        return load(name, data_dir)
    except UsageError:
        return None


def find(sample, indices, source):
    """Finds the objects in images, which are recognized by their content.

    Where the class of an image is also a class of the masks or boxes, its objects are those of
    that class, else all but the background. Pixels that a mask ignores count as objects.

    Args:
        sample: A `model_predictions.ModelPredictions`.
        indices: The images of the sample to find.
        source: What `load` returned.

    Returns:
        A dict from the index of each image with an object to a bool array `(height, width)`.

    Raises:
        UsageError: A mask or box cannot be read.
    """
    found = {}
    for split, rows in _matches(sample, indices, source):
        part, images = split.take(list(rows.values())), list(rows)
        read = _from_boxes if hasattr(part.labels[0], "boxes") else _from_masks
        wanted = [
            _object_classes(source.classes, sample.dataset_classes[sample.numbers[image]])
            for image in images
        ]
        masks = read(part, source.classes, wanted, sample.images.shape[1:], sample.resize)
        found.update({images[position]: mask for position, mask in masks if mask.any()})
    return found


def _matches(sample, indices, source):
    """Yields each split with images of the sample, and a dict from these to their indices in it."""
    wanted = {_digest(sample.items[index]): index for index in indices}
    for split in sorted(source.splits.values(), key=len):
        rows = {}
        for position, item in enumerate(split.items):
            if not wanted:
                break
            if (index := wanted.pop(_digest(item), None)) is not None:
                rows[index] = position
        if rows:
            yield split, rows


def _digest(item):
    """Returns a digest of the content of an image, or `None` if it cannot be read."""
    try:
        return splits.content_digest(item)
    except UnreadableImage:
        return None


def _object_classes(classes, name):
    """Returns the indices of the classes that are objects in an image of the class `name`."""
    if name in classes:
        return [classes.index(name)]
    return [index for index, each in enumerate(classes) if each not in BACKGROUND_NAMES]


def _from_masks(part, classes, wanted, shape, resize):
    """Yields the index of each readable image in a split, and where its objects are."""
    examples = segmentation_dataset.decode(part, len(classes), shape, resize)
    masks = examples.labels[np.arange(len(examples))]
    for position, labels in zip(examples.item_indices, masks, strict=True):
        yield position, np.isin(labels, [*wanted[position], IGNORE_LABEL])


def _from_boxes(part, classes, wanted, shape, resize):
    """As `_from_masks`, for images with boxes."""
    examples = detection_dataset.decode(part, shape, resize)
    for position, labels, boxes in zip(
        examples.item_indices, examples.labels, examples.boxes, strict=True
    ):
        mask = np.zeros(shape[:2], bool)
        for x0, y0, x1, y1 in boxes[np.isin(labels, wanted[position])]:
            mask[int(y0) : math.ceil(y1), int(x0) : math.ceil(x1)] = True
        yield position, mask
