"""TIFF files that are not one image of 8 or 16 bits per channel, and how to convert them."""

from __future__ import annotations

import functools
import io
import logging

from tasks.data import pillow_images
from zoo.lazy import LazyModule, np

TiffImagePlugin = LazyModule("PIL.TiffImagePlugin")
tifffile = LazyModule("tifffile")
zip_archives = LazyModule("zoo.zip_archives")
# Damage is reported once, as the reason why an image is left out.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

SUBFILE, BITS, PHOTOMETRIC, SAMPLES, PLANAR, EXTRA, FORMAT = 254, 258, 262, 277, 284, 338, 339
REDUCED, MASK = 1, 4  # bits of SUBFILE: a thumbnail or pyramid level, a transparency mask
SAMPLES_OF_PHOTOMETRIC = {2: 3, 5: 4, 6: 3, 8: 3}  # samples per pixel: RGB, CMYK, YCbCr, Lab
UNSPECIFIED = 0  # value of EXTRA: an extra sample that is not alpha
FLOAT = 3  # value of FORMAT
MAX_EXPANDED_BYTES = 2**26  # of the bands of a file that stores a small fraction of them
PALETTE = 3  # value of PHOTOMETRIC
PLANAR_SEPARATE = 2  # value of PLANAR: bands are stored one after the other

PILLOW_FLOAT_BITS = 32  # of floating-point numbers that Pillow reads
EXTRA_HINT = "pip install 'keras-zoo[tiff]'"
NPY_HINT = "convert it to .npy: numpy.save('x.npy', {})"
READ_CALL = "tifffile.imread('x.tif')"
DEFAULT_HINT = NPY_HINT.format(READ_CALL)
BANDS_FIRST = f"numpy.moveaxis({READ_CALL}, 0, -1)"


def is_deep_colour(file):
    """Returns whether a TIFF file has more than one sample per pixel, of more than 8 bits each.

    Pillow reads only the upper 8 bits of these.
    """
    bits = _pages(file)[0].get(BITS, (1,))
    return len(bits) > 1 and max(bits) > 8


def read_bands(data):
    """Returns a TIFF that only tifffile reads as an array, or `None` for others.

    These are files of bands that are not color or alpha, and of floating-point bands.

    Args:
        data: The bytes of the file.

    Returns:
        `(height, width, bands)`, also if the file stores one band after the other, or `(height,
        width)`; `None` if tifffile is missing, and for files that `unsupported_reason` refuses for
        another reason.

    Raises:
        UnsupportedImage: The file claims far more bytes than it stores.
        Exception: One of `pillow_images.decoding_errors()`; the file is damaged.
    """
    if EXTRA_HINT not in unsupported_reason(io.BytesIO(data)):
        return None
    try:
        series = tifffile.TiffFile(io.BytesIO(data)).series[0]
    except ModuleNotFoundError:
        return None
    if sorted(series.axes) not in (["S", "X", "Y"], ["X", "Y"]):
        return None
    if series.nbytes > max(MAX_EXPANDED_BYTES, zip_archives.MAX_EXPANSION * len(data)):
        raise pillow_images.UnsupportedImage(
            f"a TIFF that claims {series.nbytes:,} bytes and stores {len(data):,}"
        )
    values = series.asarray()
    return np.moveaxis(values, series.axes.index("S"), -1) if "S" in series.axes else values


def unsupported_reason(file):
    """Returns why a TIFF file is not supported and how to convert it, or `""` if it is supported.

    Args:
        file: A seekable binary file.
    """
    try:
        pages = _pages(file)
    except pillow_images.decoding_errors():  # damaged: Pillow reports how
        return ""
    tags = pages[0]
    samples, extra = tags.get(SAMPLES, 1), tags.get(EXTRA, ())
    added = samples - SAMPLES_OF_PHOTOMETRIC.get(tags.get(PHOTOMETRIC), 1)
    bits = max(tags.get(BITS, (1,)))
    full_pages = [page for page in pages if _is_full(page)]
    if len(full_pages) > 1:
        way = f"or for all as channels {NPY_HINT.format(BANDS_FIRST)}"
        return f"a TIFF of {len(full_pages)} pages; {pillow_images.PAGES_HINT}; {way}"
    if added > 1 or (added == 1 and extra and extra[0] == UNSPECIFIED):
        array = BANDS_FIRST if tags.get(PLANAR) == PLANAR_SEPARATE else READ_CALL
        way = f"{EXTRA_HINT}, or {NPY_HINT.format(array)}"
        return f"a TIFF of {samples} bands of {bits} bits; {way}"
    if FLOAT in tags.get(FORMAT, ()) and (samples > 1 or bits != PILLOW_FLOAT_BITS):
        way = f"{EXTRA_HINT}, or {DEFAULT_HINT}"
        return f"a TIFF of {samples} bands of {bits}-bit floating-point numbers; {way}"
    return ""


def count_pages(path):
    """Returns the number of pages of a file, without thumbnails and transparency masks."""
    return len(_full_pages(path))


def read_page(path, index):
    """Returns the values of a page, `(height, width)` or `(height, width, bands)`.

    Raises:
        UnsupportedImage: tifffile is missing, or the page has a palette.
        Exception: One of `pillow_images.decoding_errors()`; the file is damaged.
    """
    try:
        opened = tifffile.TiffFile(path)
    except ModuleNotFoundError as error:
        raise pillow_images.UnsupportedImage(
            f"a TIFF of several pages; reading it needs tifffile: {EXTRA_HINT}"
        ) from error
    with opened:
        page = opened.pages[_full_pages(path)[index]]
        if page.photometric == PALETTE:
            raise pillow_images.UnsupportedImage("a TIFF of pages with palettes")
        size = path.stat().st_size
        if page.nbytes > max(MAX_EXPANDED_BYTES, zip_archives.MAX_EXPANSION * size):
            raise pillow_images.UnsupportedImage(
                f"a TIFF page that claims {page.nbytes:,} bytes in a file of {size:,}"
            )
        values = page.asarray()
        separate = page.planarconfig == PLANAR_SEPARATE and values.ndim == 3
        values = np.moveaxis(values, 0, -1) if separate else values
        return 255 * values.astype("uint8") if values.dtype == bool else values


def _full_pages(path):
    """Returns the positions of the pages that are neither thumbnails nor transparency masks."""
    state = path.stat()
    return _positions(path, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=256)  # a training run reads each page of a file once per epoch
def _positions(path, mtime_ns, size):
    with path.open("rb") as file:
        return [position for position, tags in enumerate(_pages(file)) if _is_full(tags)]


def _is_full(tags):
    """Returns whether a page is neither a thumbnail nor a transparency mask."""
    return not tags.get(SUBFILE, 0) & (REDUCED | MASK)


def _pages(file):
    """Returns the tags of each page."""
    file.seek(0)
    header = file.read(8)
    if header[2] == 43:  # BigTIFF
        header += file.read(8)
    directory = TiffImagePlugin.ImageFileDirectory_v2(header)
    pages, seen, offset = [], set(), directory.next
    while offset and offset not in seen:
        seen.add(offset)
        file.seek(offset)
        directory = TiffImagePlugin.ImageFileDirectory_v2(header)
        directory.load(file)
        pages.append(dict(directory))
        offset = directory.next
    return pages
