"""Images that their EXIF data turn, and what was annotated on them before they were turned.

Most programs show a photo turned as its EXIF orientation says, some as it is stored. An annotation
may be for either; the size that it records tells where a quarter turn swaps width and height.
"""

from __future__ import annotations

import io

from tasks.data import pictures
from tasks.data.folders import listed
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")

FORMATS = ("JPEG", "PNG", "WEBP")  # that carry EXIF data and are turned by them
UPRIGHT = 1
MIRRORED_X, MIRRORED_Y = (2, 3, 6, 7), (3, 4, 7, 8)  # orientations; after the swap of sides


def orientation(item):
    """Returns the EXIF orientation of an image, 1 (upright) to 8; 1 where there is none.

    Args:
        item: what `readers.image` reads.
    """
    if isinstance(item, np.ndarray):
        return UPRIGHT
    try:
        file = io.BytesIO(item) if isinstance(item, bytes) else item
        with Image.open(file, formats=FORMATS) as picture:
            found = picture.getexif().get(pictures.ORIENTATION, UPRIGHT)
    except pictures.faults():  # an image that cannot be read is reported where it is decoded
        return UPRIGHT
    return found if found in pictures.TURNS else UPRIGHT


def stored(size, orientation):
    """Returns the sides of an upright image as they are stored, in the same order."""
    return tuple(size)[:: -1 if orientation in pictures.SIDEWAYS else 1]


def unsure(split, names, what):
    """Returns the warning about images of which nothing tells which way up their annotations are.

    Args:
        split: its name.
        names: of the images.
        what: the annotations, in the plural.
    """
    images = "1 image" if len(names) == 1 else f"{len(names)} images"
    return (
        f"EXIF turns {images} of {split}, of which nothing tells whether the "
        f"{what} are for the image as stored or as shown; taken as shown: {listed(names)}"
    )


def labels(mask, orientation):
    """Returns a mask of an image as stored, uint8 `(height, width)`, turned as the image is."""
    if orientation == UPRIGHT:
        return mask
    turn = Image.Transpose[pictures.TURNS[orientation]]
    return np.asarray(Image.fromarray(mask).transpose(turn))


def boxes(boxes, size, orientation):
    """Returns boxes of an image as stored where they are once it is turned.

    Args:
        boxes: `(objects, 4)`, `x0, y0, x1, y1` in pixels.
        size: `(width, height)` of the upright image.
        orientation: 1 to 8.
    """
    corners = np.reshape(np.asarray(boxes, "float64"), (-1, 2, 2))
    if orientation in pictures.SIDEWAYS:
        corners = corners[..., ::-1]
    corners = corners.copy()
    for axis, mirrored in enumerate((MIRRORED_X, MIRRORED_Y)):
        if orientation in mirrored:
            corners[:, :, axis] = size[axis] - corners[:, ::-1, axis]
    return corners.reshape(-1, 4)
