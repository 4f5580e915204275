"""DICOM images: rescale slope, window and photometric interpretation, as uint8 values."""

from __future__ import annotations

import io

from tasks.data.pillow_images import PAGES_HINT, UnsupportedImage, silence_warnings
from zoo.lazy import LazyModule, np

pydicom = LazyModule("pydicom")
pixels = LazyModule("pydicom.pixels")

EXTRA = "pip install 'keras-zoo[medical]'"


def read(data):
    """Returns the pixels of a DICOM file, uint8 `(height, width)` or `(height, width, 3)`.

    Gray values are rescaled (PS3.3 C.7.6.16) and mapped linearly to [0, 255] from the first window
    of the file (C.11.2.1.2), or else from the range of the stored bits; MONOCHROME1, in which the
    lowest value is white, is inverted. Colors are converted to RGB.

    Args:
        data: The bytes of the file.

    Raises:
        UnsupportedImage: pydicom is missing, or the file has several frames.
        ValueError: The file is damaged, or has no pixels.
    """
    header, frames = _read_header(io.BytesIO(data))
    if frames > 1:
        raise UnsupportedImage(f"a DICOM file of {frames} frames; {PAGES_HINT}")
    return _read_frame(header, io.BytesIO(data), 0)


def count_pages(path):
    """Returns the number of frames of a file; raises as `read` does."""
    return _read_header(path, stop_before_pixels=True)[1]


def read_page(path, index):
    """Returns the pixels of a frame, as `read` does."""
    header, _ = _read_header(path, stop_before_pixels=True)
    return _read_frame(header, path, index)


def _read_header(file, **options):
    """Returns the data set of a file and its number of frames."""
    silence_warnings()
    try:
        read_file = pydicom.dcmread
    except ModuleNotFoundError as error:
        raise UnsupportedImage(f"a DICOM file; reading it needs pydicom: {EXTRA}") from error
    try:
        header = read_file(file, **options)
        return header, int(header.get("NumberOfFrames") or 1)
    except Exception as error:  # pydicom raises many kinds
        raise ValueError(str(error)) from error


def _read_frame(header, file, index):
    try:
        found = pixels.pixel_array(file, index=index)
    except Exception as error:
        raise ValueError(str(error)) from error
    if found.ndim == 3:
        return _to_uint8(found, 0, 2 ** int(header.BitsStored) - 1)
    slope = float(header.get("RescaleSlope") or 1)
    intercept = float(header.get("RescaleIntercept") or 0)
    grey = _to_uint8(found * slope + intercept, *_range(header, slope, intercept))
    return 255 - grey if header.PhotometricInterpretation == "MONOCHROME1" else grey


def _range(header, slope, intercept):
    """Returns the values that become 0 and 255."""
    center, width = (_first(header.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if center is not None and width is not None and width > 1:
        return center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2
    bits, signed = int(header.BitsStored), int(header.PixelRepresentation)
    low = -(2 ** (bits - 1)) if signed else 0
    ends = low * slope + intercept, (low + 2**bits - 1) * slope + intercept
    return min(ends), max(ends)


def _first(value):
    """Returns the first of several windows as a number, or `None`."""
    if value is None or value == "":
        return None
    return float(value if isinstance(value, str | int | float) else next(iter(value)))


def _to_uint8(values, low, high):
    shares = (np.asarray(values, "float64") - low) / (high - low)
    return np.rint(255 * shares.clip(0, 1)).astype("uint8")
