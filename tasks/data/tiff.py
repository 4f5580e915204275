"""TIFF files that are not one image of 8 or 16 bits per channel, and how to convert them."""

from __future__ import annotations

import functools
import io
import logging

from tasks.data import pillow_images
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")
TiffImagePlugin = LazyModule("PIL.TiffImagePlugin")
tifffile = LazyModule("tifffile")
zip_archives = LazyModule("zoo.zip_archives")
# Damage is reported once, as the reason why an image is left out.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

SUBFILE, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION = 254, 258, 259, 262, 274  # tags
SAMPLES, PLANAR, EXTRA, FORMAT = 277, 284, 338, 339
REDUCED, MASK = 1, 4  # bits of SUBFILE: a thumbnail or pyramid level, a transparency mask
SAMPLES_OF_PHOTOMETRIC = {2: 3, 5: 4, 6: 3, 8: 3}  # samples per pixel: RGB, CMYK, YCbCr, Lab
UNSPECIFIED = 0  # value of EXTRA: an extra sample that is not alpha
UNSIGNED, SIGNED, FLOAT, UNKNOWN = 1, 2, 3, 4  # values of FORMAT
MAX_EXPANDED_BYTES = 2**26  # of the bands of a file that stores a small fraction of them
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2  # values of PHOTOMETRIC
# Values of COMPRESSION that tifffile decodes alone: none, Deflate, PackBits and LZMA.
PLAIN_COMPRESSIONS = (1, 8, 32773, 32946, 34925)
PLANAR_SEPARATE = 2  # value of PLANAR: bands are stored one after the other

PILLOW_FLOAT_BITS = 32  # of floating-point numbers that Pillow reads
MAX_PILLOW_BITS = 32  # of integers that Pillow reads
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

    These are files of bands that are not color or alpha, of floating-point bands, of 16-bit RGB
    colors, of which Pillow reads 8 bits, and of 16-bit values of which 0 is white.

    Args:
        data: The bytes of the file.

    Returns:
        `(height, width, bands)`, also if the file stores one band after the other, or `(height,
        width)`; `None` if tifffile is missing, and for files that `unsupported_reason` refuses for
        another reason.

    Raises:
        UnsupportedImage: The file claims far more bytes than it stores, or imagecodecs is missing.
        Exception: One of `pillow_images.decoding_errors()`; the file is damaged.
    """
    reason = unsupported_reason(io.BytesIO(data))
    if EXTRA_HINT not in reason and (reason or not _is_deep_rgb(_first_tags(data))):
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
    try:
        values = _decode(series)
    except pillow_images.UnsupportedImage:
        if reason:
            raise
        return None  # Pillow reads the upper 8 bits
    values = np.moveaxis(values, series.axes.index("S"), -1) if "S" in series.axes else values
    return _black_is_zero(values, series.keyframe)


def unsupported_reason(file):
    """Returns why a TIFF file is not supported and how to convert it, or `""` if it is supported.

    Args:
        file: A seekable binary file.
    """
    try:
        pages = _pages(file)
    except pillow_images.decoding_errors():  # damaged: Pillow reports how
        return ""
    full_pages = [page for page in pages if _is_full(page)]
    if len(full_pages) > 1:
        way = f"or for all as channels {NPY_HINT.format(BANDS_FIRST)}"
        return f"a TIFF of {len(full_pages)} pages; {pillow_images.PAGES_HINT}; {way}"
    return _unsupported_page_reason(pages[0])


def _unsupported_page_reason(tags):
    """Returns why Pillow does not read a page with these tags and what does, or `""`."""
    samples, extra = tags.get(SAMPLES, 1), tags.get(EXTRA, ())
    photometric, separate = tags.get(PHOTOMETRIC), tags.get(PLANAR) == PLANAR_SEPARATE
    added = samples - SAMPLES_OF_PHOTOMETRIC.get(photometric, 1)
    bits, formats = max(tags.get(BITS, (1,))), tags.get(FORMAT, (UNSIGNED,))
    if bits > MAX_PILLOW_BITS and FLOAT not in formats:
        way = f"{READ_CALL}.astype('uint16')"
        return f"a TIFF of {bits}-bit integers or complex numbers; {NPY_HINT.format(way)}"
    if bits == 8 and SIGNED in formats:
        way = f"{READ_CALL}.astype('int16')"
        return f"a TIFF of signed 8-bit integers; {NPY_HINT.format(way)}"
    if added > 1 or (added == 1 and extra and extra[0] == UNSPECIFIED):
        array = BANDS_FIRST if separate else READ_CALL
        way = f"{EXTRA_HINT}, or {NPY_HINT.format(array)}"
        return f"a TIFF of {samples} bands of {bits} bits; {way}"
    if FLOAT in formats and (samples > 1 or bits != PILLOW_FLOAT_BITS):
        way = f"{EXTRA_HINT}, or {DEFAULT_HINT}"
        return f"a TIFF of {samples} bands of {bits}-bit floating-point numbers; {way}"
    if bits > 8 and samples > 1 and separate:
        way = f"{EXTRA_HINT}, or {NPY_HINT.format(BANDS_FIRST)}"
        return f"a TIFF of {bits}-bit colors in separate planes; {way}"
    if bits > 8 and photometric == WHITE_IS_ZERO:
        return f"a TIFF of {bits}-bit values of which 0 is white; {EXTRA_HINT}"
    return ""


def count_pages(path):
    """Returns the number of pages of a file, without thumbnails and transparency masks."""
    return len(_full_pages(path))


def read_page(path, index):
    """Returns a page: its values, or the bytes of a TIFF file of this page alone.

    tifffile is faster, and reads more kinds of values; Pillow reads all compressions, palettes,
    transparency and orientations.

    Returns:
        `(height, width)` or `(height, width, bands)`, or `bytes`.

    Raises:
        UnsupportedImage: tifffile or imagecodecs is missing.
        Exception: One of `pillow_images.decoding_errors()`; the file is damaged.
    """
    position, by_pillow = _full_pages(path)[index]
    if by_pillow:
        return _pillow_page(path, position)
    try:
        opened = tifffile.TiffFile(path)
    except ModuleNotFoundError as error:
        raise pillow_images.UnsupportedImage(
            f"a TIFF of several pages; reading it needs tifffile: {EXTRA_HINT}"
        ) from error
    with opened:
        page = opened.pages[position]
        size = path.stat().st_size
        if page.nbytes > max(MAX_EXPANDED_BYTES, zip_archives.MAX_EXPANSION * size):
            raise pillow_images.UnsupportedImage(
                f"a TIFF page that claims {page.nbytes:,} bytes in a file of {size:,}"
            )
        values = _decode(page)
        separate = page.planarconfig == PLANAR_SEPARATE and values.ndim == 3
        values = np.moveaxis(values, 0, -1) if separate else values
        values = _black_is_zero(values, page)
        return 255 * values.astype("uint8") if values.dtype == bool else values


def _pillow_page(path, position):
    page = io.BytesIO()
    # An open file: Pillow 13 maps a path into memory, and then mixes up rows of rotated images.
    with path.open("rb") as file, Image.open(file, formats=["TIFF"]) as image:
        image.seek(position)
        image.save(page, "TIFF", compression="raw")
    return page.getvalue()


def _decode(part):
    """Returns the values of a page or series of tifffile."""
    try:
        return part.asarray()
    except (ValueError, ModuleNotFoundError) as error:
        if isinstance(error, ValueError) and "imagecodecs" not in str(error):
            raise
        compression = part.keyframe.compression.name
        raise pillow_images.UnsupportedImage(
            f"a TIFF with {compression} compression; reading it needs imagecodecs: {EXTRA_HINT}"
        ) from error


def _black_is_zero(values, page):
    """Returns values inverted if 0 is white in a page of tifffile."""
    if page.photometric != WHITE_IS_ZERO or values.dtype.kind not in "bu":
        return values
    return ~values if values.dtype == bool else 2**page.bitspersample - 1 - values


def _full_pages(path):
    """Returns the position of each page, without thumbnails and transparency masks.

    With each goes whether Pillow is to read it.
    """
    state = path.stat()
    return _positions(path, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=256)  # a training run reads each page of a file once per epoch
def _positions(path, mtime_ns, size):
    with path.open("rb") as file:
        pages = enumerate(_pages(file))
        return [(position, _is_for_pillow(tags)) for position, tags in pages if _is_full(tags)]


def _is_for_pillow(tags):
    """Returns whether Pillow reads a page, not tifffile."""
    plain = tags.get(COMPRESSION, 1) in PLAIN_COMPRESSIONS and not tags.get(EXTRA)
    plain = plain and tags.get(PHOTOMETRIC) in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB)
    plain = plain and tags.get(ORIENTATION, 1) == 1
    return not plain and not _unsupported_page_reason(tags) and not _is_deep_rgb(tags)


def _is_deep_rgb(tags):
    """Returns whether a page has RGB colors, without alpha, of more than 8 bits each."""
    is_rgb = tags.get(PHOTOMETRIC) == RGB and tags.get(SAMPLES) == 3
    return is_rgb and max(tags.get(BITS, (1,))) > 8


def _first_tags(data):
    try:
        return _pages(io.BytesIO(data))[0]
    except pillow_images.decoding_errors():  # damaged: Pillow reports how
        return {}


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
