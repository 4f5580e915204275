"""Images that their EXIF data turn, and what was annotated on them before they were turned.

Most programs show a photo turned as its EXIF orientation says, some as it is stored. An annotation
may be for either; the size that it records tells where a quarter turn swaps width and height.
"""

from __future__ import annotations

import io

from tasks.data import pillow_images
from tasks.data.class_folders import join_names
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")

FORMATS = ("JPEG", "PNG", "WEBP")  # that carry EXIF data and are turned by them
UPRIGHT = 1
FLIPPED_X, FLIPPED_Y = (2, 3, 6, 7), (3, 4, 7, 8)  # orientations; after the swap of sides


def orientation(item):
    """Returns the EXIF orientation of an image, 1 (upright) to 8; 1 where there is none.

    Args:
        item: what `image_io.read_image` reads.
    """
    if isinstance(item, np.ndarray):
        return UPRIGHT
    try:
        file = io.BytesIO(item) if isinstance(item, bytes) else item
        with Image.open(file, formats=FORMATS) as picture:
            found = picture.getexif().get(pillow_images.EXIF_ORIENTATION_TAG, UPRIGHT)
    except (
        pillow_images.decoding_errors()
    ):  # an image that cannot be read is reported where it is decoded
        return UPRIGHT
    return found if found in pillow_images.TRANSPOSE_METHODS else UPRIGHT


def stored_size(size, orientation):
    """Returns the sides of an upright image as they are stored, in the same order."""
    return tuple(size)[:: -1 if orientation in pillow_images.SWAPPED_ORIENTATIONS else 1]


def ambiguity_warning(split, names, what):
    """Returns the warning about images of which nothing tells which way up their annotations are.

    Args:
        split: its name.
        names: of the images.
        what: the annotations, in the plural.
    """
    images = "1 image" if len(names) == 1 else f"{len(names)} images"
    return (
        f"EXIF turns {images} of {split}, of which nothing tells whether the "
        f"{what} are for the image as stored or as shown; taken as shown: {join_names(names)}"
    )


def transpose_mask(mask, orientation):
    """Returns a mask of an image as stored, uint8 `(height, width)`, turned as the image is."""
    if orientation == UPRIGHT:
        return mask
    turn = Image.Transpose[pillow_images.TRANSPOSE_METHODS[orientation]]
    return np.asarray(Image.fromarray(mask).transpose(turn))


def transpose_boxes(boxes, size, orientation):
    """Returns boxes of an image as stored where they are once it is turned.

    Args:
        boxes: `(objects, 4)`, `x0, y0, x1, y1` in pixels.
        size: `(width, height)` of the upright image.
        orientation: 1 to 8.
    """
    corners = np.reshape(np.asarray(boxes, "float64"), (-1, 2, 2))
    if orientation in pillow_images.SWAPPED_ORIENTATIONS:
        corners = corners[..., ::-1]
    corners = corners.copy()
    for axis, mirrored in enumerate((FLIPPED_X, FLIPPED_Y)):
        if orientation in mirrored:
            corners[:, :, axis] = size[axis] - corners[:, ::-1, axis]
    return corners.reshape(-1, 4)
