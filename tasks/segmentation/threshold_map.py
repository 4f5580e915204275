"""Masks of background and object by a threshold: antialiased, JPEG, or with ids of instances."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.data import image_io
from tasks.segmentation import class_map

NO_THRESHOLD = -1
BINARY_CLASSES = ("background", "object")


@dataclass(frozen=True, eq=False)
class ThresholdMap(class_map.ClassMap):
    """The mapping of values up to a threshold to background, and of others to object.

    Attributes:
        threshold: The largest value of the background; colors are converted to luma.
    """

    threshold: int = 0

    def labels(self, item):
        """Returns the labels of a mask, uint8 `(height, width)`; no pixel is ignored.

        Raises:
            UnreadableImage: The mask is not an image, or is damaged.
        """
        values = image_io.read_stored(item)
        if values.ndim == 3:
            values = image_io.read_image(item, (None, None, 1))[..., 0]
        return (values > self.threshold).astype("uint8")


def from_threshold(threshold, origin):
    """Returns the `ThresholdMap` of a threshold for the masks of `origin`."""
    values = {0: 0, threshold + 1: 1}  # the first value of each class
    return ThresholdMap(BINARY_CLASSES, values, {}, origin, threshold=threshold)
