"""Image file formats: detection by the first bytes, and decoding into Pillow images or arrays."""

from __future__ import annotations

import io
import math
import re

from tasks.data import pillow_images, tiff
from zoo.lazy import LazyModule, np, tf

dicom = LazyModule("tasks.data.dicom")
Image = LazyModule("PIL.Image")
imagecodecs = LazyModule("imagecodecs")
nifti = LazyModule("tasks.data.nifti")
npy_headers = LazyModule("zoo.npy_headers")
pillow_heif = LazyModule("pillow_heif")

_SIGNATURE_PATTERNS = {  # name of the format in Pillow: pattern of its first bytes
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WEBP": rb"RIFF.{4}WEBP",
    "BMP": rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0",  # "BM" alone would match text files
    "GIF": rb"GIF8[79]a",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "AVIF": rb".{4}ftypavi[fs]",
    "HEIF": rb".{4}ftyp(hei[cx]|hev[cx]|mif1|msf1)",
    "JPEG2000": rb"\x00\x00\x00\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    "PPM": rb"P[1-6]\s",
    "NPY": rb"\x93NUMPY[\1-\3]\0",  # this and the next are not formats of Pillow
    "DICOM": rb".{128}DICM",
    "NIFTI": rb"(\x5c\x01|\x1c\x02)\0\0|\0\0(\x01\x5c|\x02\x1c)|\x1f\x8b\x08",  # or of gzip
    # Without a signature; by the kinds of color map and image, which agree.
    "TGA": rb".(\x00[\x02\x03\x0a\x0b]|\x01[\x01\x09]).{13}",
}
SIGNATURES = {kind: re.compile(sign, re.DOTALL) for kind, sign in _SIGNATURE_PATTERNS.items()}
SIGNATURE_BYTES = 132
ANIMATED_FORMATS = ("GIF", "WEBP", "PNG", "AVIF")  # that may have several frames
PNG_DEPTH_OFFSET = 24  # byte of a PNG file that holds the bit depth
UINT16_MAX = 2**pillow_images.MAX_BITS - 1
# Marker of the sizes in a JPEG 2000 file; offsets from it of the number of components, of which
# there are two bytes, and of the bits of the first.
SIZ_MARKER, SIZ_COMPONENTS, SIZ_BITS = b"\xff\x51", 38, 40


def rejection_reason(start):
    """Returns why a file with these first bytes is not an image, or `""` if it may be one."""
    if not start:
        return "empty file"
    return "" if image_format(start) else "not an image by its first bytes"


def image_format(start):
    """Returns the format of a file with these first bytes, or `None`."""
    return next((kind for kind, sign in SIGNATURES.items() if sign.match(start)), None)


def read_array(data):
    """Returns the array of a file that is not for Pillow, or `None` if it is.

    Raises:
        UnsupportedImage: A library is missing, or the contents are not supported.
        Exception: One of `pillow_images.decoding_errors()`; the file is damaged.
    """
    kind = image_format(data[:SIGNATURE_BYTES])
    if kind == "TIFF":
        return tiff.read_bands(data)
    reader = {"NPY": read_npy, "DICOM": dicom.read, "NIFTI": nifti.read}.get(kind)
    return reader and reader(data)


def open_pillow(file, kind):
    """Opens a file with Pillow; raises `UnsupportedImage` if that needs a library."""
    if kind == "HEIF":
        try:
            pillow_heif.register_heif_opener()
        except ModuleNotFoundError as error:
            reason = "a HEIC file; reading it needs pillow-heif: pip install 'keras-zoo[heif]'"
            raise pillow_images.UnsupportedImage(reason) from error
    return Image.open(file, formats=[kind])


def read_npy(data):
    """Returns the numeric array of a `.npy` file; pickled objects, which could run code, raise."""
    file = io.BytesIO(data)
    shape, order, dtype = npy_headers.read_header(file)
    numbers = np.frombuffer(data, dtype, math.prod(shape), file.tell())
    return numbers.reshape(shape, order=order)


def open_image(data, kind, bits):
    """Opens an image file with Pillow.

    Args:
        data: The bytes of the file.
        kind: Its format, one of `SIGNATURES` that Pillow has.
        bits: The values of images of more than 8 bits, as in `pillow_images.scale_to_uint8`.

    Returns:
        A `PIL.Image.Image`.

    Raises:
        UnsupportedImage: The file is intact, but its contents are not supported.
        Exception: One of `pillow_images.decoding_errors()`; the file is damaged.
    """
    reason = tiff.unsupported_reason(io.BytesIO(data)) if kind == "TIFF" else ""
    deep_tiff = kind == "TIFF" and not reason and tiff.is_deep_colour(io.BytesIO(data))
    if deep_tiff and bits != pillow_images.MAX_BITS:
        used = f"{bits} bits" if isinstance(bits, int) else "{:g} to {:g}".format(*bits)
        reason = f"a TIFF of 16-bit colors that use {used}; {tiff.DEFAULT_HINT}"
    if reason:
        raise pillow_images.UnsupportedImage(reason)
    found = open_pillow(io.BytesIO(data), kind)
    if (deep := _deep_colours(data, kind, found)) is not None:
        deep_image = Image.fromarray(pillow_images.scale_to_uint8(deep, bits))
        deep_image.info = {key: value for key, value in found.info.items() if key == "exif"}
        return deep_image
    return found


def deep_values(data):
    """Returns the values of an image of more than 8 bits per channel, or `None` for others.

    For TIFF files of 16-bit colors, of which Pillow reads 8 bits, they are rounded up.

    Args:
        data: The bytes of a file, or an array.

    Raises:
        Exception: One of `pillow_images.decoding_errors()`; the image is damaged.
    """
    values = data
    if isinstance(data, bytes):
        values = _read_deep(data, image_format(data[:SIGNATURE_BYTES]))
    return values if values is not None and values.dtype.itemsize > 1 else None


def min_side_and_animated(data):
    """Returns the shorter side of a readable image in pixels, and whether it is animated.

    Args:
        data: The bytes of a file, or an array.
    """
    array = read_array(data) if isinstance(data, bytes) else data
    if array is not None:
        return min(array.shape[:2]), False
    found = image_format(data[:SIGNATURE_BYTES])
    image = open_pillow(io.BytesIO(data), found)
    return min(image.size), found in ANIMATED_FORMATS and bool(getattr(image, "is_animated", False))


def _read_deep(data, kind):
    """Returns the values of an image of more than 8 bits, or `None` if its format has 8 bits."""
    array = read_array(data)
    if array is not None:
        return array
    if kind == "PNG" and data[PNG_DEPTH_OFFSET] == 16:
        return _deep_png(data)
    if kind not in ("TIFF", "JPEG2000", "PPM"):
        return None
    found = open_pillow(io.BytesIO(data), kind)
    if (values := _deep_colours(data, kind, found)) is not None:
        return values
    if kind == "TIFF" and tiff.is_deep_colour(io.BytesIO(data)):
        return np.asarray(found) * np.uint16(256) + np.uint16(255)
    return np.asarray(found) if found.mode.startswith(("I", "F")) else None


def _read_deep_jpeg2000(data):
    """Returns the values of a JPEG 2000 file of colors of more than 8 bits, or `None` for others.

    Pillow 13 reads 8 bits of them, and white as black.
    """
    at = data.find(SIZ_MARKER)
    if not 0 <= at < len(data) - SIZ_BITS:
        return None
    bits = 1 + (data[at + SIZ_BITS] & 0x7F)
    if int.from_bytes(data[at + SIZ_COMPONENTS : at + SIZ_BITS], "big") < 3 or bits <= 8:
        return None
    try:
        values = imagecodecs.jpeg2k_decode(data)
    except ModuleNotFoundError as error:
        raise pillow_images.UnsupportedImage(
            f"a JPEG 2000 file of {bits}-bit colors; reading it needs imagecodecs: "
            f"{tiff.EXTRA_HINT}, or convert it to a PNG file of 16 bits"
        ) from error
    return values << (pillow_images.MAX_BITS - bits)  # as Pillow does for gray


def _deep_colours(data, kind, image):
    """Returns colors of 16 bits of which Pillow would read 8, or `None` for other images."""
    if kind == "PNG" and data[PNG_DEPTH_OFFSET] == 16 and len(image.getbands()) > 1:
        return _deep_png(data)
    if kind == "JPEG2000":
        return _read_deep_jpeg2000(data)
    if kind != "PPM" or image.mode != "RGB":
        return None
    codec, _, offset, options = image.tile[0]
    if codec == "raw" or options[-1] <= 255:  # the largest value
        return None
    count = 3 * math.prod(image.size)
    if codec == "ppm":
        values = np.frombuffer(data, ">u2", count, offset)
    else:
        values = np.array(data[offset:].split(maxsplit=count)[:count], "int64")
    shares = values.reshape(*image.size[::-1], 3) / options[-1]
    return np.rint(shares.clip(0, 1) * UINT16_MAX).astype("uint16")


def _deep_png(data):
    try:
        return tf.io.decode_png(data, dtype=tf.uint16).numpy()
    except tf.errors.OpError as error:
        raise ValueError(error.message) from error
