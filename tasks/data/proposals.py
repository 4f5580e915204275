"""Selective search: boxes that may hold an object, found without learning anything.

Uijlings et al., 2013, as OpenCV has it. What it finds is the same on every machine and in any
number of threads; the order in which OpenCV hands it over is not, as it draws that from the
random numbers of the C library. So an order is drawn here, the same for the same boxes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from tasks.data import decoding
from tasks.data.boxes import areas, overlaps
from zoo import home
from zoo.errors import UsageError, unknown
from zoo.files import replacing
from zoo.lazy import np

MODES = {  # how many colour spaces and ways to join regions are tried; of OpenCV
    "fast": "switchToSelectiveSearchFast",
    "quality": "switchToSelectiveSearchQuality",
}
MOST = 128  # boxes of an image: in small ones there are hardly more
LONGEST = 500  # pixels; larger images are searched at this size, as in the R-CNN paper
ALIKE = 0.9  # of two boxes that overlap more, one goes
CHUNK = 128  # images whose boxes make up one file
VERSION = 1  # of what this file does: another one does not read what is kept


def added(examples, *, most=MOST, mode="fast"):
    """Returns examples with `proposals`, found once and then kept in the folder of `home`.

    Args:
        examples: `boxed.Boxed`.
        most: boxes of an image; which of more are left out is random, but always the same.
        mode: one of `MODES`.

    Raises:
        UsageError: OpenCV is not installed with its extra modules, or there is no such mode.
    """
    return dataclasses.replace(examples, proposals=of(examples, most=most, mode=mode))


def of(examples, *, most=MOST, mode="fast"):
    """Returns boxes that may hold something, float32 `(count, most, 4)`, padded with 0.

    Args:
        examples: what has a name, and `pixels` that an array of indices selects.
        most, mode: as `added` has them.
    """
    _check(mode)
    _segmentation()  # is missed before anything is read
    count = len(examples.pixels)
    starts = range(0, count, CHUNK)
    boxes = np.zeros((count, most, 4), "float32")
    bar = decoding.progress(starts, len(starts), f"proposals of {examples.name}")
    for start in bar:
        images = examples.pixels[np.arange(start, min(start + CHUNK, count))]
        for row, found in enumerate(_kept(images, mode), start):
            boxes[row, : len(found)] = found[:most]
    return boxes


def find(image, *, mode="fast"):
    """Searches one image.

    Args:
        image: uint8 `(height, width, channels)`.
        mode: one of `MODES`.

    Returns:
        Whole numbers as float32 `(boxes, 4)`, `x0, y0, x1, y1` in pixels, in random order; of
        boxes that are nearly alike only the first.

    Raises:
        UsageError: OpenCV is not installed with its extra modules, or there is no such mode.
    """
    _check(mode)
    module = _segmentation()
    cv2 = importlib.import_module("cv2")
    height, width = image.shape[:2]
    scale = min(1.0, LONGEST / max(height, width))
    coloured = image[..., :3] if image.shape[-1] > 2 else np.repeat(image[..., :1], 3, -1)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        coloured = cv2.resize(coloured, size, interpolation=cv2.INTER_AREA)
    search = module.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(coloured[..., ::-1]))  # OpenCV's order is blue first
    getattr(search, MODES[mode])()
    found = np.asarray(search.process(), "float64").reshape(-1, 4)
    found[:, 2:] += found[:, :2]
    found = np.rint(found * np.tile((width, height), 2) / np.tile(coloured.shape[1::-1], 2))
    found = np.unique(found, axis=0)
    found = found[areas(found) > 0]
    return _distinct(found[np.random.default_rng(VERSION).permutation(len(found))])


def recall(examples, *, overlap=0.5, most=None):
    """Returns the share of objects that have a proposal which overlaps them so much or more.

    Args:
        examples: `boxed.Boxed` with `proposals`.
        overlap: intersection over union.
        most: how many of an image's proposals to look at; all by default.
    """
    there = (examples.labels >= 0) & ~examples.ignored
    hits = [
        overlaps(boxes[real], some[:most]).max(axis=1) >= overlap
        for boxes, some, real in zip(examples.boxes, examples.proposals, there, strict=True)
    ]
    hits = np.concatenate(hits)
    return float(hits.mean()) if len(hits) else float("nan")


def _check(mode):
    if mode not in MODES:
        raise unknown("mode of selective search", mode, list(MODES))


def _segmentation():
    try:
        return importlib.import_module("cv2").ximgproc.segmentation
    except (ImportError, AttributeError) as error:
        raise UsageError(
            "selective search needs opencv-contrib-python-headless, by: "
            "pip install 'keras-zoo[detection]'"
        ) from error


def _distinct(boxes):
    """Returns boxes less those that are nearly the same as one before."""
    kept = np.ones(len(boxes), bool)
    for at in range(len(boxes)):
        if kept[at]:
            kept[at + 1 :] &= overlaps(boxes[at], boxes[at + 1 :])[0] <= ALIKE
    return boxes[kept].astype("float32")


def _kept(images, mode):
    """Returns the boxes of each of some images, from the file that keeps them if there is one."""
    path = home.home() / "proposals" / f"{_key(images, mode)}.npz"
    with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        with open(path, "rb") as file:
            arrays = np.load(file, allow_pickle=False)
            boxes, counts = arrays["boxes"], arrays["counts"]
        if len(counts) == len(images) and counts.sum() == len(boxes):
            return np.split(boxes.astype("float32"), np.cumsum(counts)[:-1])
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # OpenCV lets others run meanwhile
        found = list(pool.map(lambda image: find(image, mode=mode), images))
    boxes, counts = np.concatenate(found), np.array([len(boxes) for boxes in found])
    with suppress(UsageError), replacing(path) as partial:  # what cannot be kept is found again
        np.savez_compressed(partial, boxes=boxes.astype("uint16"), counts=counts)
    return found


def _key(images, mode):
    about = (VERSION, importlib.import_module("cv2").__version__, mode, images.shape)
    digest = hashlib.blake2b(repr(about).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(images))
    return digest.hexdigest()
