"""EXIF orientation of images, and its effect on their masks and boxes.

Most programs show a photo with its EXIF orientation applied, some as it is stored. An annotation
may be for either; the image size that it records shows which, if a quarter turn swaps the sides.
"""

from __future__ import annotations

import io

from tasks.data import pillow_images
from tasks.data.class_folders import join_names
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")

FORMATS = ("JPEG", "PNG", "WEBP")  # with EXIF data whose orientation is applied
UPRIGHT = 1
FLIPPED_X, FLIPPED_Y = (2, 3, 6, 7), (3, 4, 7, 8)  # orientations, after the sides are swapped


def orientation(item):
    """Returns the EXIF orientation of an image, 1 (upright) to 8; 1 without EXIF data.

    Args:
        item: An image, as `image_io.read_image` takes it.
    """
    if isinstance(item, np.ndarray):
        return UPRIGHT
    try:
        file = io.BytesIO(item) if isinstance(item, bytes) else item
        with Image.open(file, formats=FORMATS) as image:
            found = image.getexif().get(pillow_images.EXIF_ORIENTATION_TAG, UPRIGHT)
    except pillow_images.decoding_errors():  # reported when the image is decoded
        return UPRIGHT
    return found if found in pillow_images.TRANSPOSE_METHODS else UPRIGHT


def stored_size(size, orientation):
    """Returns the size of an upright image as it is stored, in the same order."""
    return tuple(size)[:: -1 if orientation in pillow_images.SWAPPED_ORIENTATIONS else 1]


def ambiguity_warning(split, names, what):
    """Returns a warning about images whose annotations may be for either orientation.

    Args:
        split: The name of the split.
        names: The names of the images.
        what: The kind of annotation, in the plural.
    """
    images = "1 image" if len(names) == 1 else f"{len(names)} images"
    return (
        f"EXIF rotates {images} of {split}, and it is unknown whether the {what} are "
        f"for the image as stored or as shown; assumed as shown: {join_names(names)}"
    )


def transpose_mask(mask, orientation):
    """Returns a mask for the stored image, uint8 `(height, width)`, turned like the image."""
    if orientation == UPRIGHT:
        return mask
    turn = Image.Transpose[pillow_images.TRANSPOSE_METHODS[orientation]]
    return np.asarray(Image.fromarray(mask).transpose(turn))


def transpose_boxes(boxes, size, orientation):
    """Returns boxes for the stored image, transformed to the upright image.

    Args:
        boxes: `(objects, 4)`, `x0, y0, x1, y1` in pixels.
        size: `(width, height)` of the upright image.
        orientation: The EXIF orientation, 1 to 8.
    """
    corners = np.reshape(np.asarray(boxes, "float64"), (-1, 2, 2))
    if orientation in pillow_images.SWAPPED_ORIENTATIONS:
        corners = corners[..., ::-1]
    corners = corners.copy()
    for axis, mirrored in enumerate((FLIPPED_X, FLIPPED_Y)):
        if orientation in mirrored:
            corners[:, :, axis] = size[axis] - corners[:, ::-1, axis]
    return corners.reshape(-1, 4)
