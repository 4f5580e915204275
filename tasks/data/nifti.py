"""NIfTI volumes: slices along the third axis."""

from __future__ import annotations

import logging
import math
import tempfile
from pathlib import Path

from tasks.data import pillow_images
from tasks.data.tiff import MAX_EXPANDED_BYTES
from zoo.lazy import LazyModule, np

nibabel = LazyModule("nibabel")
zip_archives = LazyModule("zoo.zip_archives")
# Damage is reported once, as the reason why an image is left out.
logging.getLogger("nibabel.global").setLevel(logging.CRITICAL + 1)

EXTRA = "pip install 'keras-zoo[medical]'"
SLICE_AXIS = 2
EXACT = ("u1", "u2", "i2", "f4", "f8")  # types that are kept


def read(data):
    """Returns the values of a volume of a single slice, as `read_page` does.

    Args:
        data: The bytes of the file.

    Raises:
        UnsupportedImage: The volume has several slices or a time axis, or nibabel is missing.
        ValueError: The file is damaged.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.nii.gz" if data[:2] == b"\x1f\x8b" else "a.nii")
        path.write_bytes(data)
        count = count_pages(path)
        if count > 1:
            raise pillow_images.UnsupportedImage(
                f"a NIfTI volume of {count} slices; {pillow_images.PAGES_HINT}"
            )
        return read_page(path, 0)


def count_pages(path):
    """Returns the number of slices of a volume; raises as `read` does."""
    shape = _load(path).shape
    if len(shape) < 2 or any(size > 1 for size in shape[SLICE_AXIS + 1 :]):
        raise pillow_images.UnsupportedImage(f"a NIfTI file of {len(shape)} axes; expected 3")
    return shape[SLICE_AXIS] if len(shape) > SLICE_AXIS else 1


def read_page(path, index):
    """Returns a slice of a volume, `(second axis, first axis)`, rescaled as its header states."""
    image = _load(path)
    claimed = math.prod(image.shape[:SLICE_AXIS]) * image.get_data_dtype().itemsize
    stored = path.stat().st_size
    if claimed > max(MAX_EXPANDED_BYTES, zip_archives.MAX_EXPANSION * stored):
        raise pillow_images.UnsupportedImage(
            f"a NIfTI slice that claims {claimed:,} bytes in a file of {stored:,}"
        )
    rest = (index,) + (0,) * (len(image.shape) - SLICE_AXIS - 1)
    try:
        values = np.asanyarray(image.dataobj[(slice(None), slice(None), *rest[: image.ndim - 2])])
    except Exception as error:  # nibabel raises many kinds
        raise ValueError(f"truncated or damaged ({error})") from error
    values = np.ascontiguousarray(values.T)
    return values if values.dtype.str[1:] in EXACT else values.astype("float64")


def _load(path):
    try:
        load = nibabel.load
    except ModuleNotFoundError as error:
        raise pillow_images.UnsupportedImage(
            f"a NIfTI volume; reading it needs nibabel: {EXTRA}"
        ) from error
    try:
        return load(path)
    except Exception as error:
        raise ValueError(str(error)) from error
