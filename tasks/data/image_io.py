"""Reading of an image from a file, encoded bytes or an array into uint8 pixels."""

from __future__ import annotations

import errno
import io
import textwrap
from pathlib import Path

from tasks.data import image_formats, pillow_images, tiff
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import LazyModule, np
from zoo.paths import check_regular

Image = LazyModule("PIL.Image")
pages = LazyModule("tasks.data.pages")

EXTENSIONS = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".npy"),
    *(".avif", ".heic", ".heif", ".jp2", ".j2k", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".dcm"),
    *(".nii", ".nii.gz"),
)
ARRAY_FORMATS = ("NPY", "DICOM", "TIFF", "NIFTI")  # that are, or may be, no images for Pillow
ARRAY_TYPES = ("u1", "u2", "i2", "f2", "f4", "f8")
ERROR_REASONS = {  # part of a message of Pillow, in lower case: what it means
    "truncated": "truncated",
    "not enough image data": "truncated",
    "buffer is smaller": "truncated",
    "unknown pixel mode": "of a pixel mode that Pillow does not support",
    "unpack": "truncated",
    "decoder object": "truncated or damaged",  # WebP reports no more
    "invalid png": "truncated or damaged",
    "next frame": "truncated or damaged",
    "broken data stream": "damaged",
    "embedded null": "no such file: its name contains a NUL character",
    "cannot identify": "damaged at its beginning",
    "decompression bomb": "so many pixels that it may be a decompression bomb",
}


class UnreadableImage(UsageError):
    """Raised for an image that cannot be read.

    Attributes:
        name: The name of the image.
        reason: Why it cannot be read, in a few words.
    """

    def __init__(self, name, reason):
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self):
        return f"{self.name}: {self.reason}"


def read_image(item, shape=(None, None, 3), resize="stretch", bits=pillow_images.MAX_BITS):
    """Reads one image.

    The first frame of an animation is read. TIFF files with several pages are not supported, and
    those with bands other than color and alpha need tifffile. The EXIF orientation is applied,
    values of 16 bits and floating-point values are scaled to 8 bits, and color is converted to
    gray by Pillow's mode `L` (ITU-R 601-2 luma). DICOM files are read as by `dicom.read`.
    Transparency is blended with white, unless 2 or 4 channels are requested, the last of which is
    alpha. Resizing is bilinear and antialiased.

    Args:
        item: The path of a file, its bytes, or an array `(height, width)` or `(height, width,
            channels)` of uint8, uint16, int16 or floating-point numbers, as in a `.npy` file.
        shape: `(height, width, channels)` of the result; `None` keeps the length of a side. Files
            have 1 (gray), 2 (gray and alpha), 3 (RGB) or 4 channels (RGBA); an array must have
            the requested number, except that gray and RGB are converted into each other.
        resize: `stretch` resizes both sides to the shape; `crop` scales until the shape is
            covered and crops the center; `pad` scales until the image fits in and centers it on
            black.
        bits: The bits used by an image of more than 8 bits: 2**bits - 1 becomes 255; or a pair
            of the values that become 0 and 255, as in `pillow_images.scale_to_uint8`.

    Returns:
        uint8 `(height, width, channels)`, in [0, 255].

    Raises:
        UnreadableImage: The item is not an image, is damaged, or has other channels.
        UsageError: `resize` or the number of channels is invalid.
    """
    height, width, channels = shape
    if channels < 1:
        raise UsageError(f"an image has 1 channel (gray), 3 (RGB) or others, not {channels}")
    if resize not in pillow_images.RESIZE_MODES:
        raise unknown_name_error("way to resize", resize, list(pillow_images.RESIZE_MODES))
    pillow_images.silence_warnings()
    try:
        read = [
            np.asarray(pillow_images.decode_and_resize(image, (width, height), mode, resize, bits))
            for image, mode in _open_images(item, channels, bits)
        ]
    except UnreadableImage:
        raise
    except pillow_images.decoding_errors() as error:
        raise UnreadableImage(item_name(item), _error_reason(error)) from error
    return read[0].reshape(*read[0].shape[:2], -1).copy() if len(read) == 1 else np.stack(read, -1)


def read_stored(item, *, colours=False):
    """Reads the stored values of an image, such as the labels of a mask.

    Args:
        item: An image, as in `read_image`.
        colours: Whether to look up the colors of a palette image.

    Returns:
        Integers `(height, width)`: the indices of a palette image, or the values of a gray one,
        also if it is stored with three equal channels. For other images, and for all if
        `colours`, uint8 `(height, width, 3)`, without transparency.

    Raises:
        UnreadableImage: The item is not an image, is damaged, or has other channels.
    """
    pillow_images.silence_warnings()
    try:
        [(image, _)] = _open_images(item, 3, bits=None)
        if colours:
            image = image.convert("RGB")
        numbers = np.asarray(image)
        numbers = pillow_images.to_integers(numbers) if numbers.dtype.kind == "f" else numbers
    except UnreadableImage:
        raise
    except pillow_images.decoding_errors() as error:
        raise UnreadableImage(item_name(item), _error_reason(error)) from error
    if numbers.dtype.kind not in "bui":
        raise UnreadableImage(item_name(item), "its pixel values are not integers")
    if numbers.ndim == 3:
        numbers = numbers[..., : 1 if numbers.shape[-1] < 3 else 3]
        if not colours and (numbers == numbers[..., :1]).all():
            numbers = numbers[..., 0]
    return numbers.astype("uint8") if numbers.dtype == bool else numbers


def image_size(item):
    """Returns the `(height, width)` of an image after its EXIF orientation is applied.

    Only the header of a file is read where that suffices.

    Raises:
        UnreadableImage: The item is not an image, or is damaged.
    """
    if isinstance(item, np.ndarray):
        return item.shape[:2]
    pillow_images.silence_warnings()
    if not isinstance(item, bytes) and pages.page_of(str(item)):
        item = item_bytes(item)
    try:
        with (
            io.BytesIO(item) if isinstance(item, bytes) else check_regular(item).open("rb") as file
        ):
            start = file.read(image_formats.SIGNATURE_BYTES)
            if reason := image_formats.rejection_reason(start):
                raise UnreadableImage(item_name(item), reason)
            kind = image_formats.image_format(start)
            file.seek(0)
            array = image_formats.read_array(file.read()) if kind in ARRAY_FORMATS else None
            if array is not None:
                return array.shape[:2]
            if kind == "TIFF" and (reason := tiff.unsupported_reason(file)):
                raise pillow_images.UnsupportedImage(reason)
            file.seek(0)
            with image_formats.open_pillow(file, kind) as image:
                return pillow_images.upright_size(image)[::-1]
    except UnreadableImage:
        raise
    except pillow_images.decoding_errors() as error:
        raise UnreadableImage(item_name(item), _error_reason(error)) from error


def num_channels(item):
    """Returns the number of channels of an array that is neither gray nor RGB, else 3."""
    if not isinstance(item, np.ndarray):
        try:
            item = image_formats.read_array(item_bytes(item))
        except UnreadableImage:
            raise
        except pillow_images.decoding_errors() as error:
            raise UnreadableImage(item_name(item), _error_reason(error)) from error
        if item is None:
            return 3
    return item.shape[2] if item.ndim == 3 and item.shape[2] > 1 else 3


def item_bytes(item):
    """Returns the bytes of an item: the content of its file, or the pixels of an array.

    Raises:
        UnreadableImage: The file cannot be read.
    """
    if isinstance(item, bytes):
        return item
    if isinstance(item, np.ndarray):
        return item.tobytes()
    try:
        return pages.read_bytes(item)
    except pillow_images.decoding_errors() as error:
        raise UnreadableImage(item_name(item), _error_reason(error)) from error


def item_name(item):
    """Returns a name of an item for messages."""
    if isinstance(item, bytes):
        return f"image of {len(item)} bytes"
    if isinstance(item, np.ndarray):
        return f"{item.dtype} array of shape {item.shape}"
    return str(item)


def is_image(path):
    """Returns whether a file has the suffix of an image, one of `EXTENSIONS`."""
    return Path(path).name.lower().endswith(EXTENSIONS)


def rejection_reason(path):
    """Returns why a file is not an image by its suffix and first bytes, or `""` if it may be."""
    path = pages.file_of(path)
    if not is_image(path):
        return f"not an image by its suffix ({' '.join(EXTENSIONS)})"
    try:
        with check_regular(path).open("rb") as file:
            start = file.read(image_formats.SIGNATURE_BYTES)
    except (OSError, ValueError) as error:
        return _error_reason(error)
    return image_formats.rejection_reason(start)


def _open_images(item, channels, bits=pillow_images.MAX_BITS):
    """Returns pairs `(Pillow image, mode)`: one, or one for each channel of an array.

    Without `bits`, the values of a gray image are not scaled.
    """
    array = item
    if not isinstance(item, np.ndarray):
        data = item_bytes(item)
        if reason := image_formats.rejection_reason(data[: image_formats.SIGNATURE_BYTES]):
            raise UnreadableImage(item_name(item), reason)
        kind = image_formats.image_format(data[: image_formats.SIGNATURE_BYTES])
        array = image_formats.read_array(data) if kind in ARRAY_FORMATS else None
        if array is None:
            image = image_formats.open_image(data, kind, bits or pillow_images.MAX_BITS)
            if channels not in pillow_images.MODE_OF_CHANNELS:
                _reject_channels(item, len(image.getbands()), channels)
            return [(image, pillow_images.MODE_OF_CHANNELS[channels])]
    array = array if bits else pillow_images.to_integers(array)
    if array.ndim not in (2, 3) or array.dtype.str[1:] not in ARRAY_TYPES:
        what = f"a {array.dtype} array of shape {array.shape}"
        expected = "(height, width) or (height, width, channels) of uint8, uint16, int16 or floats"
        raise UnreadableImage(item_name(item), f"{what}; expected {expected}")
    if not array.size:
        raise UnreadableImage(item_name(item), "no pixels")
    if array.dtype.itemsize > 1 and (bits or array.ndim > 2):
        array = pillow_images.scale_to_uint8(array, bits or pillow_images.MAX_BITS)
    if array.shape[2:] == (1,):
        array = array[..., 0]
    found = 1 if array.ndim == 2 else array.shape[-1]
    if found != channels and not {found, channels} <= {1, 3}:
        _reject_channels(item, found, channels)
    if found in (1, 3):
        return [(Image.fromarray(array), pillow_images.MODE_OF_CHANNELS[channels])]
    return [(Image.fromarray(array[..., band]), "L") for band in range(found)]


def _reject_channels(item, found, expected):
    raise UnreadableImage(
        item_name(item), f"has {found} channel{'s' * (found > 1)}, expected {expected}"
    )


def _error_reason(error):
    """Returns a short reason for an error."""
    text = str(error)
    if isinstance(error, pillow_images.UnsupportedImage):
        return text
    if isinstance(error, EOFError):
        return "truncated"
    if isinstance(error, OSError) and error.errno:
        return "no such file" if error.errno == errno.ENOENT else error.strerror.lower()
    for sign, reason in ERROR_REASONS.items():
        if sign in text.lower():
            return reason
    text = text.strip() or type(error).__name__
    return f"damaged ({textwrap.shorten(text, 80)})"
