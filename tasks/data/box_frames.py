"""Images measured for their boxes: of which size and which way up the boxes are."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tasks.data import boxes, readers, turned
from zoo.lazy import np


class Measured(Sequence):
    """Items whose images are measured when first asked for.

    An image whose boxes were drawn for another size is refused as if it could not be read.

    Attributes:
        sizes: int64 `(items, 2)`, width and height of each upright image.
        unsure: indices of images that EXIF turns, of which nothing tells whether their boxes are
            for the image as stored or as shown. They are taken for the latter.

    Args:
        items: what `readers.image` reads.
        truths: `boxes.Truth` of each.
    """

    def __init__(self, items, truths):
        self.items, self.truths = items, truths
        self.sizes = np.zeros((len(items), 2), "int64")
        self.unsure = set()
        self._turns = {}

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        item = self.items[index]
        if not self.sizes[index].all():
            size = readers.size(item)[::-1]
            self._turns[index] = self._turn(index, item, size)
            self.sizes[index] = size
        return item

    def truth(self, index):
        """Returns what is in an image that was asked for, as it is shown."""
        truth, turn = self.truths[index], self._turns.get(index, turned.UPRIGHT)
        if turn == turned.UPRIGHT:
            return truth
        size = tuple(self.sizes[index].tolist())
        return dataclasses.replace(
            truth, boxes=turned.boxes(truth.boxes, size, turn), size=truth.size and size
        )

    def _turn(self, index, item, size):
        """Returns the orientation that brings boxes where they are shown."""
        truth, orientation = self.truths[index], turned.orientation(item)
        stored = turned.stored(size, orientation)
        if truth.size not in (None, boxes.SHARES, size, stored):
            wanted, is_ = ("{} x {}".format(*pair) for pair in (truth.size, size))
            reason = f"its boxes are for {wanted} pixels, it has {is_}"
            raise readers.UnreadableImage(readers.name(item), reason)
        if orientation == turned.UPRIGHT or not len(truth.boxes):
            return turned.UPRIGHT
        fits = [truth.size == each for each in (size, stored)]
        if truth.size is None:
            fits = [not _beyond(truth.boxes, each) for each in (size, stored)]
        if fits[0] == fits[1]:
            self.unsure.add(index)
            return turned.UPRIGHT
        return turned.UPRIGHT if fits[0] else orientation


def _beyond(edges, size):
    """Tells whether boxes reach beyond an image of a `(width, height)`."""
    return (np.abs(edges - edges.clip(0, np.tile(size, 2))) > boxes.NOTICED).any()
