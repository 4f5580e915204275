"""One image, from a file, encoded bytes or an array, as uint8 pixels of a given shape."""

from __future__ import annotations

import errno
import io
import re
import textwrap
import warnings
from pathlib import Path

from zoo.errors import UsageError, unknown
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")

EXTENSIONS = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif")
SIGNATURES = {  # format, as Pillow calls it: how its files begin
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WEBP": rb"RIFF.{4}WEBP",
    "BMP": rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0",  # two letters alone begin many a text
    "GIF": rb"GIF8[79]a",
}
SIGNATURE_BYTES = 16

ORIENTATION = 0x0112  # tag of EXIF
TURNS = {  # value of that tag: what makes the picture upright
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
SIDEWAYS = (5, 6, 7, 8)  # orientations that swap width and height

DRAFT_GAP = 2  # a JPEG is decoded at this many times the wanted size, or more
REASONS = {  # what stands in a message of Pillow, in small letters: what it means
    "truncated": "truncated",
    "not enough image data": "truncated",
    "unpack": "truncated",
    "decoder object": "truncated or damaged",  # all that WebP tells
    "next frame": "truncated or damaged",
    "broken data stream": "damaged",
    "cannot identify": "damaged at its beginning",
    "decompression bomb": "so many pixels that it may be a decompression bomb",
}


class UnreadableImage(UsageError):
    """An image that cannot be read; `name` says which and `reason`, in short, why."""

    def __init__(self, name, reason):
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self):
        return f"{self.name}: {self.reason}"


def image(item, shape=(None, None, 3), resize="stretch"):
    """Reads one image.

    The first frame of an animation is read. A picture is turned as its EXIF says, 16 bits are
    scaled to 8, transparency is laid on white, and colour becomes grey by Pillow's mode `L`
    (ITU-R 601-2 luma). Resizing is bilinear and antialiased.

    Args:
        item: path of a file, its bytes, or a uint8 array `(height, width)`, `(height, width, 1)`
            or `(height, width, 3)`.
        shape: `(height, width, channels)` of the result, 1 or 3 channels; a side that is `None`
            stays as long as it is.
        resize: `stretch` brings both sides to the shape; `crop` scales until the shape is
            covered and keeps the centre; `pad` scales until the image fits in and
            centres it on black.

    Returns:
        uint8 `(height, width, channels)`, in [0, 255].

    Raises:
        UnreadableImage: the item is no image, or a damaged one.
        UsageError: there is no such way to resize, or no such number of channels.
    """
    height, width, channels = shape
    if channels not in (1, 3):
        raise UsageError(f"an image has 1 channel (grey) or 3 (RGB), not {channels}")
    if resize not in FITS:
        raise unknown("way to resize", resize, list(FITS))
    _silence_pillow()
    try:
        pixels = np.asarray(_fitted(_open(item), (width, height), channels, resize))
    except (UnreadableImage, MemoryError):
        raise
    except Exception as error:  # a decoder that is given garbage may raise anything
        raise UnreadableImage(name(item), _reason(error)) from error
    return pixels.reshape(*pixels.shape[:2], channels).copy()


def content(item):
    """Returns the bytes of an item: of its file, as encoded, or of its pixels.

    Raises:
        UnreadableImage: the file cannot be read.
    """
    if isinstance(item, bytes):
        return item
    if isinstance(item, np.ndarray):
        return item.tobytes()
    try:
        return Path(item).read_bytes()
    except OSError as error:
        raise UnreadableImage(name(item), _reason(error)) from error


def name(item):
    """Returns what to call an item in a message."""
    if isinstance(item, bytes):
        return f"image of {len(item)} bytes"
    if isinstance(item, np.ndarray):
        return f"{item.dtype} array of shape {item.shape}"
    return str(item)


def is_image(path):
    """Tells whether a file is an image by its suffix, one of `EXTENSIONS`."""
    return Path(path).suffix.lower() in EXTENSIONS


def foreign(path):
    """Returns why a file is no image, by its suffix and first bytes, or `""` if it seems one."""
    if not is_image(path):
        return f"not an image by its suffix ({' '.join(EXTENSIONS)})"
    try:
        with open(path, "rb") as file:
            start = file.read(SIGNATURE_BYTES)
    except OSError as error:
        return _reason(error)
    return _foreign(start)


def _foreign(start):
    if not start:
        return "empty file"
    return "" if _format(start) else "not an image by its first bytes"


def _format(start):
    """Returns the format of a file that begins so, or `None`."""
    matches = (kind for kind, sign in SIGNATURES.items() if re.match(sign, start, re.DOTALL))
    return next(matches, None)


def _open(item):
    """Returns an item as a picture of Pillow, not yet decoded."""
    if isinstance(item, np.ndarray):
        channels = item.shape[2:]
        if item.dtype != np.uint8 or item.ndim not in (2, 3) or channels not in ((), (1,), (3,)):
            shapes = "(height, width) with nothing, 1 or 3 behind"
            raise UnreadableImage(name(item), f"an image is a uint8 array of shape {shapes}")
        if not item.size:
            raise UnreadableImage(name(item), "no pixels")
        return Image.fromarray(item[..., 0] if channels == (1,) else item)
    data = content(item)
    if reason := _foreign(data[:SIGNATURE_BYTES]):
        raise UnreadableImage(name(item), reason)
    return Image.open(io.BytesIO(data), formats=[_format(data[:SIGNATURE_BYTES])])


def _fitted(picture, size, channels, resize):
    """Decodes a picture, at once near the wanted `(width, height)` where that saves time."""
    orientation = _orientation(picture)
    swap = -1 if orientation in SIDEWAYS else 1
    size = tuple(wanted or own for wanted, own in zip(size, picture.size[::swap], strict=True))
    inner, box = FITS[resize](picture.size, size[::swap])
    box = _draft(picture, inner, box)
    picture = _flat(picture, "L" if channels == 1 else "RGB")
    if (inner, box) != (picture.size, (0, 0, *picture.size)):
        picture = picture.resize(inner, Image.Resampling.BILINEAR, box)
    if orientation in TURNS:
        picture = picture.transpose(Image.Transpose[TURNS[orientation]])
    if picture.size == size:
        return picture
    canvas = Image.new(picture.mode, size)
    canvas.paste(picture, tuple((a - b) // 2 for a, b in zip(size, picture.size, strict=True)))
    return canvas


def _stretch(size, target):
    return target, (0, 0, *size)


def _crop(size, target):
    scale = max(a / b for a, b in zip(target, size, strict=True))
    kept = [min(a / scale, b) for a, b in zip(target, size, strict=True)]
    left, top = ((b - a) / 2 for a, b in zip(kept, size, strict=True))
    return target, (left, top, left + kept[0], top + kept[1])


def _pad(size, target):
    scale = min(a / b for a, b in zip(target, size, strict=True))
    return tuple(max(1, round(side * scale)) for side in size), (0, 0, *size)


# Ways to resize: of `(width, height)` as it is and as wanted, the size to which which box
# `(left, top, right, bottom)` is resized.
FITS = {"stretch": _stretch, "crop": _crop, "pad": _pad}


def _draft(picture, inner, box):
    """Lets a JPEG decode at a half, a quarter or an eighth if that is enough; returns the box."""
    size = picture.size
    kept = box[2] - box[0], box[3] - box[1]
    sides = zip(size, inner, kept, strict=True)
    if not picture.draft(None, tuple(-int(-DRAFT_GAP * a * b // c) for a, b, c in sides)):
        return box
    scale = next(n for n in (8, 4, 2, 1) if picture.size == tuple(-(-a // n) for a in size))
    return tuple(edge / scale for edge in box) if scale > 1 else box


def _flat(picture, mode):
    """Decodes a picture into mode `L` or `RGB`."""
    picture.load()
    if picture.mode.startswith("I"):  # Pillow would clip what has 16 bits
        deep = np.asarray(picture).clip(0, 65535).astype("uint32")
        return Image.fromarray(((deep + 128) // 257).astype("uint8")).convert(mode)
    if picture.has_transparency_data:
        above = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", above.size, "white"), above)
    return picture.convert(mode)


def _orientation(picture):
    try:
        return int(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged notes about a picture do not spoil it
        return 1


def _silence_pillow():
    """Ignores Pillow's warnings, by a filter that stays: to restore filters is not thread-safe."""
    entry = ("ignore", None, Warning, _PILLOW, 0)
    if entry not in warnings.filters:
        warnings.filterwarnings("ignore", module=_PILLOW.pattern)


_PILLOW = re.compile(r"PIL\.")


def _reason(error):
    """Says in short what went wrong."""
    text = str(error)
    if isinstance(error, EOFError):
        return "truncated"
    if isinstance(error, OSError) and error.errno:
        return "no such file" if error.errno == errno.ENOENT else error.strerror.lower()
    for sign, reason in REASONS.items():
        if sign in text.lower():
            return reason
    text = text.strip() or type(error).__name__
    return f"damaged ({textwrap.shorten(text, 80)})"
