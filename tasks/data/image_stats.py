"""Statistics of the images of a split: content digests, thumbnails, bit depth and animation.

They are computed in one pass before images are decoded. From them follow the near duplicates,
which must not be split into training and test images, and the range of values of images of more
than 8 bits.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import partial

from tasks.data import image_formats, image_io, near_duplicates, pillow_images, value_range
from tasks.data.dataset import Split
from tasks.data.decoding import progress
from tasks.data.parallel import ordered_map
from zoo.errors import UsageError
from zoo.lazy import np

stated_bits = value_range.stated_bits

THUMBNAIL_SIDE = 32  # pixels
MIN_SIDE = 8  # pixels; a smaller image has less detail than its perceptual hash
MAX_COMPARED_IMAGES = 100_000  # above, only equal files are found, not near duplicates
MAX_NAMES = 3  # file names in a note
STACK_SIZE = 1024  # arrays in memory that are resized at once


# Fields of `ImageStats`: their types.
ARRAYS = {
    "grey": "uint8",
    "colours": "float32",
    "ranges": "float64",
    "floats": "bool",
    "animated": "bool",
}


@dataclass(frozen=True, eq=False)
class ImageStats:
    """Statistics of each image of a split.

    Attributes:
        digests: Digests of the contents, a list of `bytes`.
        gray: uint8 `(images, 32, 32)`, gray thumbnails; 0 for images that cannot be read or are
            smaller than `MIN_SIDE`.
        colors: float32 `(images, 3)`, the mean color.
        ranges: float64 `(images, 2)`, the smallest and largest value of an image of more than 8
            bits; NaN for others.
        floats: bool `(images,)`, whether an image has floating-point numbers.
        animated: bool `(images,)`, whether the file has several frames.
    """

    digests: list
    grey: np.ndarray
    colours: np.ndarray
    ranges: np.ndarray
    floats: np.ndarray
    animated: np.ndarray

    def take(self, indices):
        """Returns the statistics of the images at `indices`."""
        arrays = (getattr(self, name)[indices] for name in ARRAYS)
        return ImageStats([self.digests[i] for i in indices], *arrays)


def with_stats(split):
    """Returns a split with its `image_stats`, computed if they are missing."""
    if split.image_stats is not None:
        return split
    items = split.items
    compared = len(items) <= MAX_COMPARED_IMAGES
    arrays = compared and len(items) and isinstance(items[0], np.ndarray)
    rows = _stacked_stats(items) if arrays else None
    if rows is None:
        stats_of_item = partial(_image_stats, compared=compared)
        each = progress(
            ordered_map(stats_of_item, items, os.cpu_count()),
            len(items),
            f"scanning {split.name}",
        )
        rows = zip(*each, strict=True)
    digests, *arrays = rows
    arrays = [np.asarray(array, kind) for array, kind in zip(arrays, ARRAYS.values(), strict=True)]
    return Split(split.name, items, split.labels, split.bits, ImageStats(list(digests), *arrays))


@dataclass(frozen=True, eq=False)
class SplitFindings:
    """What was found in the images of the splits of a run.

    Attributes:
        bits: The values of images of more than 8 bits, as in `image_io.read_image`.
        notes: Lines to be shown before training.
        copies: int64, indices into the test split of near duplicates of training images.
    """

    bits: int = pillow_images.MAX_BITS
    notes: tuple[str, ...] = ()
    copies: object = ()


def inspect_splits(parts, bits=0):
    """Computes the statistics of the splits of a run, and what follows from them.

    All images are read, not a sample: a value missing from a sample could exceed the detected
    range.

    Args:
        parts: `Split`s, the training split first and the test split last; some may be `None`.
        bits: The values of images of more than 8 bits, as in `image_io.read_image`; 0 detects
            them, and `value_range.PERCENTILE` takes percentiles of the training images.

    Returns:
        The splits, all with the same `bits`, and `SplitFindings`.

    Raises:
        UsageError: `bits` is out of range.
    """
    stated = bits
    if isinstance(bits, int) and bits and not 8 <= bits <= pillow_images.MAX_BITS:
        raise UsageError(f"--image-bits takes 0, or 8 to {pillow_images.MAX_BITS}, not {bits}")
    there = [part for part in parts if part]
    if bits == value_range.PERCENTILE:
        bits = value_range.percentile_range(there[0])
    if bits and len(there) == 1:  # there is nothing left to detect
        return [part and with_bits(part, bits) for part in parts], SplitFindings(bits)
    there = [with_stats(part) for part in there]
    used = bits or detect_bits(there)
    test = test_copies(there[0], there[-1]) if len(there) > 1 else ()
    found = iter([with_bits(part, used) for part in there])
    return [part and next(found) for part in parts], SplitFindings(
        used, tuple(notes(there, used, stated)), test
    )


def with_bits(split, bits):
    """Returns a split with other `bits`."""
    return Split(split.name, split.items, split.labels, bits, split.image_stats)


def duplicate_groups(image_stats):
    """Returns a key for each image, equal for near duplicates.

    The key is the smallest digest of all images connected by pairs of near duplicates.
    """
    group_of = np.arange(len(image_stats.digests))

    def apart(pairs):
        return group_of[pairs[:, 0]] != group_of[pairs[:, 1]]

    for pairs in _duplicate_pairs(image_stats, apart):
        for one, two in pairs.tolist():
            if group_of[one] != group_of[two]:
                group_of[group_of == group_of[two]] = group_of[one]
    smallest = {}
    for group, digest in zip(group_of.tolist(), image_stats.digests, strict=True):
        smallest[group] = min(digest, smallest.get(group, digest))
    return [smallest[group] for group in group_of.tolist()]


def test_copies(train, test):
    """Returns the indices into a test split of near duplicates of training images.

    Args:
        train, test: `Split`s with their `image_stats`.
    """
    one, two = train.image_stats, test.image_stats
    arrays = (np.concatenate([getattr(one, name), getattr(two, name)]) for name in ARRAYS)
    equal = set(one.digests)
    copied = np.array([False] * len(train) + [digest in equal for digest in two.digests])

    def undecided(pairs):
        return (pairs[:, 0] < len(train)) & (pairs[:, 1] >= len(train)) & ~copied[pairs[:, 1]]

    for pairs in _duplicate_pairs(ImageStats([*one.digests, *two.digests], *arrays), undecided):
        copied[pairs[undecided(pairs), 1]] = True
    return np.flatnonzero(copied) - len(train)


def detect_bits(splits):
    """Returns the `bits` for the images of some splits, as in `value_range.detect_bits`."""
    ranges = np.concatenate([split.image_stats.ranges for split in splits])
    floats = any(split.image_stats.floats.any() for split in splits)
    ranges = ranges[~np.isnan(ranges[:, 0])]
    if not len(ranges):
        return pillow_images.MAX_BITS
    return value_range.detect_bits(ranges[:, 0].min(), ranges[:, 1].max(), floats)


def notes(splits, used, stated=0):
    """Returns lines about the scaling of deep images and about animations, if present.

    Args:
        splits: `Split`s with their `image_stats`.
        used: The `bits` of all.
        stated: The `bits` as stated by the user, 0 if they are detected.
    """
    deep = sum(int((~np.isnan(split.image_stats.ranges[:, 0])).sum()) for split in splits)
    moving = [
        image_io.item_name(split.items[index])
        for split in splits
        for index in np.flatnonzero(split.image_stats.animated)
    ]
    lines = []
    if deep and used != pillow_images.MAX_BITS:
        lines.append(value_range.note(used, deep))
    if stated not in (0, pillow_images.MAX_BITS) and not deep:
        lines.append(value_range.NO_EFFECT)
    if moving:
        more = f" and {len(moving) - MAX_NAMES:,} more" if len(moving) > MAX_NAMES else ""
        lines.append(
            f"animations, of which only the first frame is read ({len(moving):,}): "
            f"{', '.join(moving[:MAX_NAMES])}{more}"
        )
    return lines


def _duplicate_pairs(image_stats, wanted):
    """Yields arrays of pairs of near duplicates; of too many images, pairs of equal content."""
    if len(image_stats.digests) > MAX_COMPARED_IMAGES:
        return iter([near_duplicates.equal_digest_pairs(image_stats.digests)])
    return near_duplicates.iter_duplicate_pairs(
        image_stats.grey, image_stats.colours, image_stats.digests, wanted
    )


def _image_stats(item, compared=True):
    """Returns the digest of an image and its `ARRAYS`, in order.

    If not `compared`, the image is not decoded for its thumbnail and mean color.
    """
    data = item if isinstance(item, np.ndarray) else image_io.item_bytes(item)
    digest = hashlib.blake2b(image_io.item_bytes(data), digest_size=16).digest()
    nothing = np.zeros((THUMBNAIL_SIDE, THUMBNAIL_SIDE), "uint8"), np.zeros(3, "float32")
    try:
        low, high, floats = value_range.image_range(data)
    except pillow_images.decoding_errors():  # damaged: reported when it is decoded
        return digest, *nothing, (np.nan, np.nan), False, False
    values = (low, high), floats
    try:
        if not compared:
            return digest, *nothing, *values, image_formats.min_side_and_animated(data)[1]
        used = value_range.detect_bits(low, high, floats)
        small = image_io.read_image(data, (THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3), bits=used)
        side, moving = image_formats.min_side_and_animated(data)
    except image_io.UnreadableImage:  # or it has other channels than RGB
        return digest, *nothing, *values, False
    if side < MIN_SIDE:
        return digest, *nothing, *values, moving
    return digest, _to_grey(small), small.reshape(-1, 3).mean(0), *values, moving


def _to_grey(images):
    """Returns the luma of RGB images `(..., 3)` as Pillow computes it, rounded down."""
    weights = np.array([19595, 38470, 7471], "uint32")
    return (images @ weights >> 16).astype("uint8")


def _stacked_stats(items):
    """Returns the columns of `_image_stats` for arrays in memory; `None` if their shapes differ."""
    shape = items[0].shape
    digests, greys, colours = [], [], []
    for start in range(0, len(items), STACK_SIZE):
        some = [items[i] for i in range(start, min(start + STACK_SIZE, len(items)))]
        if any(item.shape != shape or item.dtype != np.uint8 for item in some):
            return None
        digests += [hashlib.blake2b(item.tobytes(), digest_size=16).digest() for item in some]
        stack = np.stack(some).reshape(len(some), *shape[:2], -1)
        if stack.shape[-1] not in (1, 3) or min(shape[:2]) < MIN_SIDE:
            return None
        small = np.stack(
            [
                near_duplicates.area_resize(stack[..., band], THUMBNAIL_SIDE, THUMBNAIL_SIDE)
                for band in range(stack.shape[-1])
            ],
            -1,
        )
        small = np.broadcast_to(small, (*small.shape[:3], 3)).round().astype("uint8")
        greys.append(_to_grey(small))
        colours.append(small.reshape(len(some), -1, 3).mean(1))
    unknown, none = np.full((len(items), 2), np.nan), np.zeros(len(items))
    return digests, np.concatenate(greys), np.concatenate(colours), unknown, none, none
