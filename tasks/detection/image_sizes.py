"""Image sizes, read to find out whether boxes fit their images and EXIF orientations."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tasks.data import exif, image_io
from tasks.detection import box_annotations
from zoo.lazy import np


class MeasuredImages(Sequence):
    """Images whose sizes are read on first access.

    An image of another size than its boxes refer to is rejected like an unreadable one.

    Attributes:
        sizes: int64 `(items, 2)`, width and height of each image in upright orientation.
        ambiguous: indices of images that EXIF rotates, whose boxes may refer to the image as stored
            or as shown. They are taken to refer to the image as shown.

    Args:
        items: what `image_io.read_image` reads.
        ground_truths: the `box_annotations.GroundTruth` of each.
    """

    def __init__(self, items, ground_truths):
        self.items, self.ground_truths = items, ground_truths
        self.sizes = np.zeros((len(items), 2), "int64")
        self.ambiguous = set()
        self._orientations = {}

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        item = self.items[index]
        if not self.sizes[index].all():
            size = image_io.image_size(item)[::-1]
            self._orientations[index] = self._box_orientation(index, item, size)
            self.sizes[index] = size
        return item

    def ground_truth(self, index):
        """Returns the objects of an image that was accessed, for the image as shown."""
        ground_truth = self.ground_truths[index]
        orientation = self._orientations.get(index, exif.UPRIGHT)
        if orientation == exif.UPRIGHT:
            return ground_truth
        size = tuple(self.sizes[index].tolist())
        return dataclasses.replace(
            ground_truth,
            boxes=exif.transpose_boxes(ground_truth.boxes, size, orientation),
            size=ground_truth.size and size,
        )

    def _box_orientation(self, index, item, size):
        """Returns the EXIF orientation to apply to the boxes, `exif.UPRIGHT` for none."""
        ground_truth, orientation = self.ground_truths[index], exif.orientation(item)
        stored = exif.stored_size(size, orientation)
        if ground_truth.size not in (None, box_annotations.RELATIVE_SIZE, size, stored):
            wanted, actual = ("{} x {}".format(*pair) for pair in (ground_truth.size, size))
            reason = f"its boxes are for {wanted} pixels, it has {actual}"
            raise image_io.UnreadableImage(image_io.item_name(item), reason)
        if orientation == exif.UPRIGHT or not len(ground_truth.boxes):
            return exif.UPRIGHT
        fits = [ground_truth.size == each for each in (size, stored)]
        if ground_truth.size is None:
            fits = [not _exceeds(ground_truth.boxes, each) for each in (size, stored)]
        if fits[0] == fits[1]:
            self.ambiguous.add(index)
            return exif.UPRIGHT
        return exif.UPRIGHT if fits[0] else orientation


def _exceeds(boxes, size):
    """Returns whether boxes reach beyond an image of a `(width, height)`."""
    beyond = np.abs(boxes - boxes.clip(0, np.tile(size, 2)))
    return (beyond > box_annotations.BORDER_TOLERANCE).any()
