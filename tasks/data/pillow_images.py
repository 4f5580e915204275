"""Pillow images: decoding, EXIF orientation, conversion to uint8, and resizing."""

from __future__ import annotations

import re
import struct
import tokenize
import warnings
import zlib

from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")

MODE_OF_CHANNELS = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
EXIF_ORIENTATION_TAG = 0x0112
TRANSPOSE_METHODS = {  # EXIF orientation: the Pillow transpose that makes the image upright
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
SWAPPED_ORIENTATIONS = (5, 6, 7, 8)  # that swap width and height

DRAFT_GAP = 1.25  # a JPEG is decoded at no less than this multiple of the target size
PAGES_HINT = (
    "name one as FILE#page=1, or choose by --pages all, first or a number; where a command has no "
    "--pages, by DATASET#pages=all"
)
MAX_BITS = 16  # bits of images of more than 8 bits, unless stated otherwise


class UnsupportedImage(ValueError):
    """Raised for an intact image that is not supported; the message states why."""


def silence_warnings():
    """Ignores the warnings of libraries permanently: restoring filters is not thread-safe."""
    entry = ("ignore", None, Warning, _LIBRARIES, 0)
    if entry not in warnings.filters:
        warnings.filterwarnings("ignore", module=_LIBRARIES.pattern)


_LIBRARIES = re.compile(r"(PIL|pydicom|nibabel)\.")


def decoding_errors():
    """Returns the exception classes that Pillow and NumPy raise for damaged files."""
    found = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError)
    found += (RuntimeError, struct.error, zlib.error, tokenize.TokenError)
    return (*found, Image.DecompressionBombError)


def decode_and_resize(image, size, mode, resize, bits=MAX_BITS):
    """Decodes an image, turns it upright and resizes it; large JPEGs are decoded at a lower scale.

    Args:
        image: A `PIL.Image.Image`, which may not be decoded yet.
        size: `(width, height)`; `None` keeps the length of a side.
        mode: One of the values of `MODE_OF_CHANNELS`.
        resize: A key of `RESIZE_MODES`.
        bits: The values of images of more than 8 bits, as in `scale_to_uint8`.

    Returns:
        A `PIL.Image.Image`.
    """
    orientation = _exif_orientation(image)
    swap = -1 if orientation in SWAPPED_ORIENTATIONS else 1
    size = tuple(side or own for side, own in zip(size, image.size[::swap], strict=True))
    inner, box = RESIZE_MODES[resize](image.size, size[::swap])
    box = _draft(image, inner, box)
    image = _convert_mode(image, mode, bits)
    if (inner, box) != (image.size, (0, 0, *image.size)):
        image = image.resize(inner, Image.Resampling.BILINEAR, box)
    if orientation in TRANSPOSE_METHODS:
        image = image.transpose(Image.Transpose[TRANSPOSE_METHODS[orientation]])
    return _pad_centred(image, size, 0)


def resize_mask(labels, size, resize, fill):
    """Resizes a mask as `decode_and_resize` resizes an upright image, by nearest neighbor.

    Args:
        labels: uint8 `(height, width)`.
        size: `(width, height)`; `None` keeps the length of a side.
        resize: A key of `RESIZE_MODES`.
        fill: The label of padding.

    Returns:
        uint8 `(height, width)`.
    """
    image = Image.fromarray(labels)
    size = tuple(side or own for side, own in zip(size, image.size, strict=True))
    inner, box = RESIZE_MODES[resize](image.size, size)
    if (inner, box) != (image.size, (0, 0, *image.size)):
        image = image.resize(inner, Image.Resampling.NEAREST, box)
    return np.asarray(_pad_centred(image, size, fill))


def scale_to_uint8(values, bits=MAX_BITS):
    """Returns values scaled to uint8, rounded.

    Args:
        values: An array of integers or floating-point numbers.
        bits: A number of bits: integers lie in [0, 2**bits - 1], floating-point numbers in
            [0, 1]. Or a pair `(low, high)`: these become 0 and 255; values beyond are clipped.

    Raises:
        UnsupportedImage: A value is out of range, or no finite number.
    """
    floats = values.dtype.kind == "f"
    if floats and not np.isfinite(values).all():
        raise UnsupportedImage("some of its values are not finite numbers; set them to a number")
    low, high = values.min().item(), values.max().item()
    if isinstance(bits, tuple):
        first, last = bits
        shares = (values.astype("float64") - first) / (last - first)
        return np.rint(255 * shares.clip(0, 1)).astype("uint8")
    top = 1 if floats else 2**bits - 1
    if low < 0 or high > top:
        raise UnsupportedImage(
            f"its values are {low} to {high}, beyond the {bits} bits (0 to {top}) of its data set"
            if bits < MAX_BITS and not floats
            else f"its values are {low:.6g} to {high:.6g}; expected 0 to {top}; train with --scale"
        )
    if floats:
        return np.rint(255 * values.astype("float64")).astype("uint8")
    return ((values.astype("uint32") * 255 + top // 2) // top).astype("uint8")


def to_integers(values):
    """Returns values as uint8, uint16 or int32, whichever holds them, or as they are.

    Masks may be stored as bool, int64, or whole numbers in floating point.
    """
    if values.dtype.kind not in "biuf" or not values.size:
        return values
    if values.dtype.kind == "f" and not (np.isfinite(values) & (values % 1 == 0)).all():
        return values
    low, high = values.min(), values.max()
    kinds = (np.iinfo(kind) for kind in ("uint8", "uint16", "int32"))
    fitting = (info.dtype for info in kinds if info.min <= low and high <= info.max)
    return values.astype(next(fitting, values.dtype))


def upright_size(image):
    """Returns the `(width, height)` of a Pillow image after its EXIF orientation is applied."""
    return image.size[:: -1 if _exif_orientation(image) in SWAPPED_ORIENTATIONS else 1]


def _pad_centred(image, size, fill):
    """Returns an image padded to a size, with the image in the center."""
    if image.size == size:
        return image
    canvas = Image.new(image.mode, size, fill)
    canvas.paste(image, tuple((a - b) // 2 for a, b in zip(size, image.size, strict=True)))
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


# Name: function of the present and the target `(width, height)`, which returns the size of the
# resized image and the box `(left, top, right, bottom)` that is resized to it.
RESIZE_MODES = {"stretch": _stretch, "crop": _crop, "pad": _pad}


def _draft(image, inner, box):
    """Sets a JPEG to decode at 1/2, 1/4 or 1/8 scale if that suffices; returns the scaled box."""
    size = image.size
    cropped = box[2] - box[0], box[3] - box[1]
    sides = zip(size, inner, cropped, strict=True)
    if not image.draft(None, tuple(-int(-DRAFT_GAP * a * b // c) for a, b, c in sides)):
        return box
    scale = next(n for n in (8, 4, 2, 1) if image.size == tuple(-(-a // n) for a in size))
    return tuple(edge / scale for edge in box) if scale > 1 else box


def _convert_mode(image, mode, bits):
    """Decodes an image into a mode; if that has no alpha, transparency is blended with white."""
    image.load()
    if image.mode.startswith(("I", "F")):  # Pillow would clip the values
        return Image.fromarray(scale_to_uint8(np.asarray(image), bits)).convert(mode)
    if image.has_transparency_data and mode in ("L", "RGB"):
        above = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", above.size, "white"), above)
    if image.mode == "CMYK":  # four channels, but no transparency
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def _exif_orientation(image):
    if image.format == "TIFF":  # Pillow applies the orientation itself
        return 1
    try:
        return int(image.getexif().get(EXIF_ORIENTATION_TAG, 1))
    except decoding_errors():  # damaged EXIF data do not affect the pixels
        return 1
