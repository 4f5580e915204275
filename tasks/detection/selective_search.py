"""Selective search: region proposals without training.

Uijlings et al., 2013, in the implementation of OpenCV. Its boxes are the same on every machine and
in any number of threads, but their order is not: OpenCV draws it with the random numbers of the C
library. So the boxes are sorted and shuffled here with a fixed seed.
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
from tasks.detection.box_annotations import areas, iou
from zoo import env_vars
from zoo.atomic_files import atomic_write
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import np

MODES = {  # methods of OpenCV, by the number of color spaces and similarity measures
    "fast": "switchToSelectiveSearchFast",
    "quality": "switchToSelectiveSearchQuality",
}
MAX_PROPOSALS = 128  # per image: small images hardly have more
MAX_SIDE = 500  # pixels; larger images are searched at this size, as in the R-CNN paper
DUPLICATE_IOU = 0.9  # above which the second of two boxes is removed
CHUNK_SIZE = 128  # images per cache file
CACHE_VERSION = 1  # to be increased when this file computes other boxes


def add_proposals(examples, *, max_proposals=MAX_PROPOSALS, mode="fast"):
    """Returns examples with `proposals`, computed once and cached below `env_vars.cache_dir()`.

    Args:
        examples: `dataset.DetectionExamples`.
        max_proposals: the maximum number of boxes per image; which are left out is random, but
            reproducible.
        mode: one of `MODES`.

    Raises:
        UsageError: OpenCV is not installed with its extra modules, or there is no such mode.
    """
    return dataclasses.replace(
        examples, proposals=propose(examples, max_proposals=max_proposals, mode=mode)
    )


def propose(examples, *, max_proposals=MAX_PROPOSALS, mode="fast"):
    """Returns region proposals, float32 `(count, max_proposals, 4)`, padded with 0.

    Args:
        examples: anything with a name, and `pixels` that can be indexed by an array.
        max_proposals, mode: as in `add_proposals`.

    Raises:
        UsageError: as in `add_proposals`.
    """
    _check_mode(mode)
    _opencv_segmentation()  # fails before images are read
    count = len(examples.pixels)
    starts = range(0, count, CHUNK_SIZE)
    boxes = np.zeros((count, max_proposals, 4), "float32")
    bar = decoding.progress(starts, len(starts), f"proposals of {examples.name}")
    for start in bar:
        images = examples.pixels[np.arange(start, min(start + CHUNK_SIZE, count))]
        for row, found in enumerate(_cached_proposals(images, mode), start):
            boxes[row, : len(found)] = found[:max_proposals]
    return boxes


def search_image(image, *, mode="fast"):
    """Searches one image.

    Args:
        image: uint8 `(height, width, channels)`.
        mode: one of `MODES`.

    Returns:
        float32 `(boxes, 4)` with integer values, `x0, y0, x1, y1` in pixels, shuffled, without
        near duplicates.

    Raises:
        UsageError: OpenCV is not installed with its extra modules, or there is no such mode.
    """
    _check_mode(mode)
    module = _opencv_segmentation()
    cv2 = importlib.import_module("cv2")
    height, width = image.shape[:2]
    scale = min(1.0, MAX_SIDE / max(height, width))
    rgb = image[..., :3] if image.shape[-1] > 2 else np.repeat(image[..., :1], 3, -1)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    search = module.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(rgb[..., ::-1]))  # OpenCV expects BGR
    getattr(search, MODES[mode])()
    found = np.asarray(search.process(), "float64").reshape(-1, 4)
    found[:, 2:] += found[:, :2]
    found = np.rint(found * np.tile((width, height), 2) / np.tile(rgb.shape[1::-1], 2))
    found = np.unique(found, axis=0)
    found = found[areas(found) > 0]
    return _remove_duplicates(found[np.random.default_rng(CACHE_VERSION).permutation(len(found))])


def recall(examples, *, iou_threshold=0.5, max_proposals=None):
    """Returns the share of objects that a proposal overlaps sufficiently, NaN without objects.

    Args:
        examples: `dataset.DetectionExamples` with `proposals`.
        iou_threshold: the lowest intersection over union that counts.
        max_proposals: the number of proposals per image to consider; all by default.
    """
    valid = (examples.labels >= 0) & ~examples.ignored
    hits = [
        iou(boxes[rows], proposals[:max_proposals]).max(axis=1) >= iou_threshold
        for boxes, proposals, rows in zip(examples.boxes, examples.proposals, valid, strict=True)
    ]
    hits = np.concatenate(hits)
    return float(hits.mean()) if len(hits) else float("nan")


def _check_mode(mode):
    if mode not in MODES:
        raise unknown_name_error("mode of selective search", mode, list(MODES))


def _opencv_segmentation():
    try:
        return importlib.import_module("cv2").ximgproc.segmentation
    except (ImportError, AttributeError) as error:
        raise UsageError(
            "selective search needs opencv-contrib-python-headless; install it by: "
            "pip install 'keras-zoo[detection]'"
        ) from error


def _remove_duplicates(boxes):
    """Returns boxes without near duplicates of earlier ones."""
    keep = np.ones(len(boxes), bool)
    for row in range(len(boxes)):
        if keep[row]:
            keep[row + 1 :] &= iou(boxes[row], boxes[row + 1 :])[0] <= DUPLICATE_IOU
    return boxes[keep].astype("float32")


def _cached_proposals(images, mode):
    """Returns the boxes of each of some images, from the cache if they are there."""
    path = env_vars.cache_dir() / "proposals" / f"{_cache_key(images, mode)}.npz"
    with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        with open(path, "rb") as file:
            arrays = np.load(file, allow_pickle=False)
            boxes, counts = arrays["boxes"], arrays["counts"]
        if len(counts) == len(images) and counts.sum() == len(boxes):
            return np.split(boxes.astype("float32"), np.cumsum(counts)[:-1])
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # OpenCV releases the GIL
        found = list(pool.map(lambda image: search_image(image, mode=mode), images))
    boxes, counts = np.concatenate(found), np.array([len(boxes) for boxes in found])
    with suppress(UsageError), atomic_write(path) as partial:  # the cache is optional
        np.savez_compressed(partial, boxes=boxes.astype("uint16"), counts=counts)
    return found


def _cache_key(images, mode):
    about = (CACHE_VERSION, importlib.import_module("cv2").__version__, mode, images.shape)
    digest = hashlib.blake2b(repr(about).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(images))
    return digest.hexdigest()
