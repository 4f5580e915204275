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

    Gray values are rescaled (PS3.3 C.7.6.16) and mapped to [0, 255] by the first lookup table or
    window of the file (C.11.2.1), or of the frame, or else from the range of the stored bits;
    MONOCHROME1, in which the lowest value is white, is inverted. Colors, also those of a palette,
    are converted to RGB.

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
        if header.PhotometricInterpretation == "PALETTE COLOR":
            found = pixels.apply_color_lut(found, header)
            return _to_uint8(found, 0, np.iinfo(found.dtype).max)
        if found.ndim == 3:
            return _to_uint8(found, 0, 2 ** int(header.BitsStored) - 1)
        values, ends = _rescale(found, header, index)
        voi = _frame_group(header, index, "FrameVOILUTSequence")
        grey = _windowed(values, voi, ends)
    except Exception as error:  # pydicom raises many kinds
        raise ValueError(str(error)) from error
    return 255 - grey if header.PhotometricInterpretation == "MONOCHROME1" else grey


def _rescale(stored, header, index):
    """Returns the values of a frame, and those that the stored bits can express."""
    if "ModalityLUTSequence" in header:
        bits = header.ModalityLUTSequence[0].LUTDescriptor[2]
        return pixels.apply_modality_lut(stored, header), (0, 2**bits - 1)
    own = _frame_group(header, index, "PixelValueTransformationSequence")
    slope = float(own.get("RescaleSlope") or 1)
    intercept = float(own.get("RescaleIntercept") or 0)
    bits, signed = int(header.BitsStored), int(header.PixelRepresentation)
    low = -(2 ** (bits - 1)) if signed else 0
    ends = low * slope + intercept, (low + 2**bits - 1) * slope + intercept
    return stored * slope + intercept, (min(ends), max(ends))


def _windowed(values, voi, ends):
    """Returns values mapped to [0, 255] by the first lookup table or window, or else by `ends`."""
    if "VOILUTSequence" in voi:
        bits = voi.VOILUTSequence[0].LUTDescriptor[2]
        table = pixels.apply_voi(np.asarray(values).astype("int64"), voi)
        return _to_uint8(table, 0, 2**bits - 1)
    center, width = (_first(voi.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if center is None or width is None:
        return _to_uint8(values, *ends)
    kind = voi.get("VOILUTFunction") or "LINEAR"
    if kind == "SIGMOID" and width > 0:
        return _to_uint8(1 / (1 + np.exp(-4 * (values - center) / width)), 0, 1)
    if kind == "LINEAR_EXACT" and width > 0:
        return _to_uint8(values, center - width / 2, center + width / 2)
    if width > 1:
        return _to_uint8(values, center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2)
    return _to_uint8(values, *ends)


def _frame_group(header, index, name):
    """Returns the functional group of a frame in an enhanced file, or else the header."""
    frames = header.get("PerFrameFunctionalGroupsSequence") or []
    for group in (
        *frames[index : index + 1],
        *(header.get("SharedFunctionalGroupsSequence") or []),
    ):
        if group.get(name):
            return group[name][0]
    return header


def _first(value):
    """Returns the first of several windows as a number, or `None`."""
    if value is None or value == "":
        return None
    return float(value if isinstance(value, str | int | float) else next(iter(value)))


def _to_uint8(values, low, high):
    shares = (np.asarray(values, "float64") - low) / (high - low)
    return np.rint(255 * shares.clip(0, 1)).astype("uint8")
