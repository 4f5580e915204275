"""Images measured for their boxes: of which size and which way up the boxes are."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tasks.data import exif, image_io
from tasks.detection import box_annotations
from zoo.lazy import np


class MeasuredImages(Sequence):
    """Items whose images are measured when first asked for.

    An image whose boxes were drawn for another size is refused as if it could not be read.

    Attributes:
        sizes: int64 `(items, 2)`, width and height of each upright image.
        unsure: indices of images that EXIF turns, of which nothing tells whether their boxes are
            for the image as stored or as shown. They are taken for the latter.

    Args:
        items: what `image_io.read_image` reads.
        ground_truths: `box_annotations.GroundTruth` of each.
    """

    def __init__(self, items, ground_truths):
        self.items, self.ground_truths = items, ground_truths
        self.sizes = np.zeros((len(items), 2), "int64")
        self.unsure = set()
        self._turns = {}

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        item = self.items[index]
        if not self.sizes[index].all():
            size = image_io.image_size(item)[::-1]
            self._turns[index] = self._turn(index, item, size)
            self.sizes[index] = size
        return item

    def ground_truth(self, index):
        """Returns what is in an image that was asked for, as it is shown."""
        ground_truth, turn = self.ground_truths[index], self._turns.get(index, exif.UPRIGHT)
        if turn == exif.UPRIGHT:
            return ground_truth
        size = tuple(self.sizes[index].tolist())
        return dataclasses.replace(
            ground_truth,
            boxes=exif.transpose_boxes(ground_truth.boxes, size, turn),
            size=ground_truth.size and size,
        )

    def _turn(self, index, item, size):
        """Returns the orientation that brings boxes where they are shown."""
        ground_truth, orientation = self.ground_truths[index], exif.orientation(item)
        stored = exif.stored_size(size, orientation)
        if ground_truth.size not in (None, box_annotations.RELATIVE_SIZE, size, stored):
            wanted, is_ = ("{} x {}".format(*pair) for pair in (ground_truth.size, size))
            reason = f"its boxes are for {wanted} pixels, it has {is_}"
            raise image_io.UnreadableImage(image_io.item_name(item), reason)
        if orientation == exif.UPRIGHT or not len(ground_truth.boxes):
            return exif.UPRIGHT
        fits = [ground_truth.size == each for each in (size, stored)]
        if ground_truth.size is None:
            fits = [not _exceeds(ground_truth.boxes, each) for each in (size, stored)]
        if fits[0] == fits[1]:
            self.unsure.add(index)
            return exif.UPRIGHT
        return exif.UPRIGHT if fits[0] else orientation


def _exceeds(edges, size):
    """Tells whether boxes reach beyond an image of a `(width, height)`."""
    return (
        np.abs(edges - edges.clip(0, np.tile(size, 2))) > box_annotations.BORDER_TOLERANCE
    ).any()
