"""Pictures of Pillow: decoded, turned upright and brought to a size."""

from __future__ import annotations

import struct
import tokenize
import zlib

from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")

MODE_OF_CHANNELS = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # by channels
EXIF_ORIENTATION_TAG = 0x0112  # tag of EXIF
TRANSPOSE_METHODS = {  # value of that tag: what makes the picture upright
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
SWAPPED_ORIENTATIONS = (5, 6, 7, 8)  # orientations that swap width and height

DRAFT_GAP = 1.25  # a JPEG is decoded at this many times the wanted size, or more
MAX_BITS = 16  # bits of what has more than 8, where nothing else is stated


class UnsupportedImage(ValueError):
    """A picture that is whole, but not one that can be read; the message says why."""


def decoding_errors():
    """Returns the exceptions that Pillow and NumPy raise for damaged files."""
    found = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError)
    found += (RuntimeError, struct.error, zlib.error, tokenize.TokenError)
    return (*found, Image.DecompressionBombError)


def decode_and_resize(picture, size, mode, resize, bits=MAX_BITS):
    """Decodes a picture, at once near the wanted size where that saves time.

    Args:
        picture: of Pillow, perhaps not decoded yet.
        size: `(width, height)`; a side that is `None` stays as long as it is.
        mode: one of the values of `MODES`.
        resize: a key of `FITS`.
        bits: as `scaled` takes them, of a picture of more than 8.
    """
    orientation = _exif_orientation(picture)
    swap = -1 if orientation in SWAPPED_ORIENTATIONS else 1
    size = tuple(wanted or own for wanted, own in zip(size, picture.size[::swap], strict=True))
    inner, box = RESIZE_MODES[resize](picture.size, size[::swap])
    box = _draft(picture, inner, box)
    picture = _convert_mode(picture, mode, bits)
    if (inner, box) != (picture.size, (0, 0, *picture.size)):
        picture = picture.resize(inner, Image.Resampling.BILINEAR, box)
    if orientation in TRANSPOSE_METHODS:
        picture = picture.transpose(Image.Transpose[TRANSPOSE_METHODS[orientation]])
    return _pad_centred(picture, size, 0)


def resize_mask(labels, size, resize, fill):
    """Brings a mask to a size as `fitted` does an upright picture; labels are never mixed.

    Args:
        labels: uint8 `(height, width)`.
        size: `(width, height)`; a side that is `None` stays as long as it is.
        resize: a key of `FITS`.
        fill: the label of what is padded.

    Returns:
        uint8 `(height, width)`; each pixel has the label of the nearest one.
    """
    picture = Image.fromarray(labels)
    size = tuple(wanted or own for wanted, own in zip(size, picture.size, strict=True))
    inner, box = RESIZE_MODES[resize](picture.size, size)
    if (inner, box) != (picture.size, (0, 0, *picture.size)):
        picture = picture.resize(inner, Image.Resampling.NEAREST, box)
    return np.asarray(_pad_centred(picture, size, fill))


def scale_to_uint8(values, bits=MAX_BITS):
    """Scales whole numbers in [0, 2**bits - 1] to uint8, rounded.

    Raises:
        Unsupported: a number is outside of that range.
    """
    top = 2**bits - 1
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > top:
        raise UnsupportedImage(
            f"its values are {low} to {high}, beyond the {bits} bits (0 to {top}) of its data set"
            if bits < MAX_BITS
            else f"its values are {low} to {high}; an image has 0 to {top} at most"
        )
    return ((values.astype("uint32") * 255 + top // 2) // top).astype("uint8")


def upright_size(picture):
    """Returns the `(width, height)` of a picture of Pillow when it is turned upright."""
    return picture.size[:: -1 if _exif_orientation(picture) in SWAPPED_ORIENTATIONS else 1]


def _pad_centred(picture, size, fill):
    """Lays a picture into the middle of a canvas, if it does not fill it."""
    if picture.size == size:
        return picture
    canvas = Image.new(picture.mode, size, fill)
    canvas.paste(picture, tuple((a - b) // 2 for a, b in zip(size, picture.size, strict=True)))
    return canvas


def _stretch(size, target):
    return target, (0, 0, *size)


def _crop(size, target):
    scale = max(a / b for a, b in zip(target, size, strict=True))
    cropped = [min(a / scale, b) for a, b in zip(target, size, strict=True)]
    left, top = ((b - a) / 2 for a, b in zip(cropped, size, strict=True))
    return target, (left, top, left + cropped[0], top + cropped[1])


def _pad(size, target):
    scale = min(a / b for a, b in zip(target, size, strict=True))
    return tuple(max(1, round(side * scale)) for side in size), (0, 0, *size)


# Ways to resize: of `(width, height)` as it is and as wanted, the size to which which box
# `(left, top, right, bottom)` is resized.
RESIZE_MODES = {"stretch": _stretch, "crop": _crop, "pad": _pad}


def _draft(picture, inner, box):
    """Lets a JPEG decode at a half, a quarter or an eighth if that is enough; returns the box."""
    size = picture.size
    cropped = box[2] - box[0], box[3] - box[1]
    sides = zip(size, inner, cropped, strict=True)
    if not picture.draft(None, tuple(-int(-DRAFT_GAP * a * b // c) for a, b, c in sides)):
        return box
    scale = next(n for n in (8, 4, 2, 1) if picture.size == tuple(-(-a // n) for a in size))
    return tuple(edge / scale for edge in box) if scale > 1 else box


def _convert_mode(picture, mode, bits):
    """Decodes a picture into a mode; transparency that the mode has not is laid on white."""
    picture.load()
    if picture.mode == "F":
        raise UnsupportedImage("its pixels are not whole numbers")
    if picture.mode.startswith("I"):  # Pillow would clip what has 16 bits
        return Image.fromarray(scale_to_uint8(np.asarray(picture), bits)).convert(mode)
    if picture.has_transparency_data and mode in ("L", "RGB"):
        above = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", above.size, "white"), above)
    if picture.mode == "CMYK":  # four channels, but no transparency
        picture = picture.convert("RGB")
    return picture if picture.mode == mode else picture.convert(mode)


def _exif_orientation(picture):
    if picture.format == "TIFF":  # Pillow turns these itself
        return 1
    try:
        return int(picture.getexif().get(EXIF_ORIENTATION_TAG, 1))
    except decoding_errors():  # damaged notes about a picture do not spoil it
        return 1
