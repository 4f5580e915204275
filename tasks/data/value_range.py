"""The values of images of more than 8 bits or of floating-point numbers that become 0 and 255.

They are chosen once per data set, and stored in recipes and model files, so that images are read
the same way in training, evaluation and prediction. `bits` is a number of bits, such as 12 for
[0, 4095], or a pair `(low, high)`, between which values are scaled and beyond which they are
clipped.
"""

from __future__ import annotations

import math
import os

from tasks.data import image_formats, image_io, pillow_images
from tasks.data.parallel import ordered_map
from zoo.errors import UsageError
from zoo.lazy import np

AUTO, DTYPE, PERCENTILE = "auto", "dtype", "percentile"
SEPARATOR = ".."  # between two values
BIT_DEPTHS = (10, 12, 14)  # of cameras and scanners, stored in 16 bits
MIN_BYTE_MAX = 64  # smallest maximum of floating-point numbers that are taken for [0, 255]
PERCENTILES = (0.5, 99.5)
SAMPLED_IMAGES, SAMPLED_VALUES = 4096, 1024  # and values of each, for the percentiles
NO_EFFECT = (
    "--scale and --image-bits have no effect: no image has more than 8 bits, or they are DICOM "
    "files, which have a range of their own"
)
DIGITS = 6  # significant digits of a range


def parse_scale(text):
    """Returns the `bits` that `--scale` states: 0 for `auto`, `PERCENTILE` if it is that.

    Args:
        text: `auto`, `dtype`, `percentile` or `LOW..HIGH`.

    Raises:
        UsageError: The text has another form.
    """
    if text in (AUTO, DTYPE, PERCENTILE):
        return {AUTO: 0, DTYPE: pillow_images.MAX_BITS, PERCENTILE: PERCENTILE}[text]
    try:
        low, high = map(float, text.split(SEPARATOR))
    except ValueError:
        low = high = math.nan
    if not (low < high and math.isfinite(high - low)):
        raise UsageError(
            "--scale takes auto, dtype, percentile, or two numbers such as 0..4095 (negative: "
            f"--scale=-1000..400), not {text!r:.60}"
        )
    return low, high


def scale_text(bits):
    """Returns the value of `--scale` for `bits`."""
    low, high = bits if isinstance(bits, tuple) else (0, 2**bits - 1)
    return f"{low:.15g}{SEPARATOR}{high:.15g}"


def check_flags(image_bits, scale):
    """Raises `UsageError` if the flags `image_bits` and `scale` are invalid, or both set."""
    if parse_scale(scale) and image_bits:
        raise UsageError(
            f"--image-bits {image_bits} and --scale {scale} set the same range; remove one of them"
        )


def bits_flags(bits):
    """Returns the flags `image_bits` and `scale` that state `bits`, a dict."""
    if isinstance(bits, tuple):
        return {"image_bits": 0, "scale": scale_text(bits)}
    return {"image_bits": bits, "scale": AUTO}


def resolved_flag(bits):
    """Returns the flag that repeats detected `bits`, for a recipe."""
    return {name: value for name, value in bits_flags(bits).items() if value not in (0, AUTO)}


def stated_bits(metadata, name):
    """Returns the `bits` that are stored in the metadata of a model file; 16 by default.

    Args:
        metadata: The metadata, a dict.
        name: The name of the file, for messages.

    Raises:
        UsageError: The stored value is neither a number of bits nor a pair.
    """
    found = metadata.get("image_bits", pillow_images.MAX_BITS)
    if type(found) is int and 8 <= found <= pillow_images.MAX_BITS:
        return found
    if isinstance(found, list) and len(found) == 2 and {*map(type, found)} <= {int, float}:
        low, high = map(float, found)
        if low < high and math.isfinite(high - low):
            return low, high
    raise UsageError(
        f"{name} has image_bits {found!r:.60}; expected an integer from 8 to 16, or two numbers"
    )


def image_range(data):
    """Returns the smallest and largest value of an image, and whether it is of floats.

    Both are NaN for images of 8 bits. For TIFF files of 16-bit colors, of which Pillow reads 8
    bits, the values are rounded up; values that are not finite do not count.

    Args:
        data: The bytes of a file, or an array.

    Raises:
        Exception: One of `pillow_images.decoding_errors()`; the image is damaged.
    """
    values = image_formats.deep_values(data)
    if values is None or not values.size or values.dtype.kind not in "iuf":
        return math.nan, math.nan, False
    floats = values.dtype.kind == "f"
    if floats:
        values = values[np.isfinite(values)]
    if not values.size:
        return math.nan, math.nan, floats
    return float(values.min()), float(values.max()), floats


def detect_bits(low, high, floats):
    """Returns the `bits` for values from `low` to `high`; 16 if both are NaN.

    Integers that are not negative take the first of `BIT_DEPTHS` that holds them, else 16.
    Floating-point numbers take [0, 1] or [0, 255] if those hold them, else their own range, and
    so do other integers.

    Args:
        low, high: The smallest and the largest value of all images.
        floats: Whether there are floating-point numbers.
    """
    if not math.isfinite(high - low):  # NaN, or damaged: refused when it is decoded
        return pillow_images.MAX_BITS
    if not floats and low >= 0 and high <= image_formats.UINT16_MAX:
        fitting = (bits for bits in BIT_DEPTHS if 0 < high < 2**bits)
        return next(fitting, pillow_images.MAX_BITS)
    if floats and low >= 0 and high <= 1:
        return 0.0, 1.0
    if floats and low >= 0 and MIN_BYTE_MAX <= high <= 255:
        return 0.0, 255.0
    return _rounded(low, high)


def note(bits, count):
    """Returns a line about `count` images of more than 8 bits that are scaled by `bits`."""
    if isinstance(bits, int):
        return (
            f"16-bit images that use {bits} bits ({count:,}): 0 to {2**bits - 1:,} is scaled to 0 "
            "to 255; set --scale to change it"
        )
    return (
        f"images of more than 8 bits ({count:,}): {bits[0]:g} to {bits[1]:g} is scaled to 0 to "
        "255, values beyond are clipped; set --scale to change it"
    )


def percentile_range(split):
    """Returns the `PERCENTILES` of the values of a split, a pair; 16 if all have 8 bits.

    They are those of a sample: of evenly spaced images, and in each of evenly spaced values.

    Args:
        split: A `dataset.Split`.
    """
    indices = np.linspace(0, len(split) - 1, min(len(split), SAMPLED_IMAGES)).astype("int64")
    found = list(ordered_map(_sampled_values, (split.items[i] for i in indices), os.cpu_count()))
    values = np.concatenate(found)
    if not values.size or not math.isfinite(values.max() - values.min()):
        return pillow_images.MAX_BITS
    return _rounded(*np.percentile(values, PERCENTILES).tolist())


def _sampled_values(item):
    nothing = np.empty(0)
    try:
        values = image_formats.deep_values(
            item if isinstance(item, np.ndarray) else image_io.item_bytes(item)
        )
    except (image_io.UnreadableImage, *pillow_images.decoding_errors()):
        return nothing  # reported when it is decoded
    if values is None or not values.size:
        return nothing
    values = values.reshape(-1)
    values = values[np.linspace(0, values.size - 1, SAMPLED_VALUES).astype("int64")]
    return values[np.isfinite(values)].astype("float64")


def _rounded(low, high):
    """Returns a pair of different numbers of `DIGITS` significant digits."""
    low, high = (float(f"{value:.{DIGITS}g}") for value in (low, high))
    return low, high if high > low else low + max(1.0, abs(low))
