"""One look at every image of a split: its content, a small copy of it, and how it is stored.

It finds what must be known before images are decoded: which are near copies of each other, so that
these do not part into training and test images, and how many bits images of 16 bits use.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import partial

from tasks.data import image_formats, image_io, near_duplicates, pillow_images
from tasks.data.dataset import Split
from tasks.data.decoding import progress
from tasks.data.parallel import ordered_map
from zoo.errors import UsageError
from zoo.lazy import np

THUMBNAIL_SIDE = 32  # of the small copies
MIN_SIDE = 8  # pixels of a side below which an image has less detail than its perceptual hash
MAX_COMPARED_IMAGES = (
    100_000  # images up to which near copies are searched for; of more, equal files alone
)
BIT_DEPTHS = (10, 12, 14)  # that cameras and scanners store in 16
MAX_NAMES = 3  # files in a note
STACK_SIZE = 1024  # arrays in memory that are shrunk at once


@dataclass(frozen=True, eq=False)
class ImageStats:
    """What is kept of each image of a split.

    Attributes:
        digests: of the contents, `bytes` each.
        grey: uint8 `(images, 32, 32)`, 0 where an image cannot be read or has hardly any detail.
        colours: float32 `(images, 3)`, the mean colour.
        largest: int64 `(images,)`, the largest value of an image of 16 bits, and 0 of others.
        animated: bool `(images,)`, whether there are further frames.
    """

    digests: list
    grey: np.ndarray
    colours: np.ndarray
    largest: np.ndarray
    animated: np.ndarray

    def take(self, indices):
        """Returns the looks at some of the images."""
        arrays = (self.grey, self.colours, self.largest, self.animated)
        return ImageStats([self.digests[i] for i in indices], *(array[indices] for array in arrays))


def with_stats(split):
    """Returns a split with its `looks`."""
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
            f"looking at {split.name}",
        )
        rows = zip(*each, strict=True)
    digests, *arrays = rows
    kinds = ("uint8", "float32", "int64", "bool")
    arrays = [np.asarray(array, kind) for array, kind in zip(arrays, kinds, strict=True)]
    return Split(split.name, items, split.labels, split.bits, ImageStats(list(digests), *arrays))


@dataclass(frozen=True, eq=False)
class SplitFindings:
    """What the looks at the splits of a run found.

    Attributes:
        bits: as `image_io.read_image` takes them.
        notes: lines that a person should read before training.
        copies: int64, positions in the test split of near copies of training images.
    """

    bits: int = pillow_images.MAX_BITS
    notes: tuple[str, ...] = ()
    copies: object = ()


def inspect_splits(parts, bits=0):
    """Looks at the splits of a run; returns them, to be decoded with the same bits, and `Seen`.

    All images are looked at, not a sample: a value that a sample lacks would be cut off.

    Args:
        parts: `Split`s, those to train on first and those to test on last; `None` is left out.
        bits: those that images of 16 bits use; 0 for what their values say.

    Raises:
        UsageError: there is no such number of bits.
    """
    if bits and not 8 <= bits <= pillow_images.MAX_BITS:
        raise UsageError(f"--image-bits takes 0, or 8 to {pillow_images.MAX_BITS}, not {bits}")
    there = [part for part in parts if part]
    if bits and len(there) == 1:  # nothing is left to find
        return [part and with_bits(part, bits) for part in parts], SplitFindings(bits)
    there = [with_stats(part) for part in there]
    used = bits or detect_bits(there)
    test = test_copies(there[0], there[-1]) if len(there) > 1 else ()
    found = iter([with_bits(part, used) for part in there])
    return [part and next(found) for part in parts], SplitFindings(
        used, tuple(notes(there, used)), test
    )


def with_bits(split, bits):
    """Returns a split whose images of 16 bits use that many."""
    return Split(split.name, split.items, split.labels, bits, split.image_stats)


def duplicate_groups(image_stats):
    """Returns for each image a key, equal for images that are near copies of each other: the least
    digest of all that are connected by such pairs."""
    group_of = np.arange(len(image_stats.digests))

    def apart(pairs):
        return group_of[pairs[:, 0]] != group_of[pairs[:, 1]]

    for pairs in _duplicate_pairs(image_stats, apart):
        for one, two in pairs.tolist():
            if group_of[one] != group_of[two]:
                group_of[group_of == group_of[two]] = group_of[one]
    least = {}
    for group, digest in zip(group_of.tolist(), image_stats.digests, strict=True):
        least[group] = min(digest, least.get(group, digest))
    return [least[group] for group in group_of.tolist()]


def test_copies(train, test):
    """Returns the positions in a test split of near copies of training images.

    Args:
        train, test: `Split`s with their looks.
    """
    one, two = train.image_stats, test.image_stats
    names = ("grey", "colours", "largest", "animated")
    arrays = (np.concatenate([getattr(one, name), getattr(two, name)]) for name in names)
    equal = set(one.digests)
    copied = np.array([False] * len(train) + [digest in equal for digest in two.digests])

    def undecided(pairs):
        return (pairs[:, 0] < len(train)) & (pairs[:, 1] >= len(train)) & ~copied[pairs[:, 1]]

    for pairs in _duplicate_pairs(ImageStats([*one.digests, *two.digests], *arrays), undecided):
        copied[pairs[undecided(pairs), 1]] = True
    return np.flatnonzero(copied) - len(train)


def stated_bits(about, name):
    """Returns the bits of 16-bit images that a model file states; 16 where it states none.

    Raises:
        UsageError: it states what is no number of bits.
    """
    found = about.get("image_bits", pillow_images.MAX_BITS)
    if type(found) is not int or not 8 <= found <= pillow_images.MAX_BITS:
        raise UsageError(f"{name} states image_bits {found!r}; needed a whole number from 8 to 16")
    return found


def detect_bits(splits):
    """Returns how many bits the images of more than 8 use: `BITS` where all values of some splits
    are so small, and else 16."""
    largest = max((int(split.image_stats.largest.max(initial=0)) for split in splits), default=0)
    return next((each for each in BIT_DEPTHS if 0 < largest < 2**each), pillow_images.MAX_BITS)


def notes(splits, used):
    """Returns a line on the scale of 16-bit images, and one on animations, where there are such."""
    deep = sum(int((split.image_stats.largest > 0).sum()) for split in splits)
    moving = [
        image_io.item_name(split.items[place])
        for split in splits
        for place in np.flatnonzero(split.image_stats.animated)
    ]
    lines = []
    if deep and used < pillow_images.MAX_BITS:
        lines.append(
            f"16-bit images that use {used} bits ({deep:,}): 0 to {2**used - 1:,} is scaled to 0 "
            "to 255; --image-bits names another number"
        )
    if moving:
        more = f" and {len(moving) - MAX_NAMES:,} more" if len(moving) > MAX_NAMES else ""
        lines.append(
            f"animations, of which the first frame is read ({len(moving):,}): "
            f"{', '.join(moving[:MAX_NAMES])}{more}"
        )
    return lines


def _duplicate_pairs(image_stats, wanted):
    """Returns an iterator over pairs of near copies, of too many images those of equal content."""
    if len(image_stats.digests) > MAX_COMPARED_IMAGES:
        return iter([near_duplicates.equal_digest_pairs(image_stats.digests)])
    return near_duplicates.iter_duplicate_pairs(
        image_stats.grey, image_stats.colours, image_stats.digests, wanted
    )


def _image_stats(item, compared=True):
    """Returns digest, grey copy, mean colour, largest value and whether an image is animated.

    Images that are not `compared` are not decoded for a copy and a mean.
    """
    data = item if isinstance(item, np.ndarray) else image_io.item_bytes(item)
    digest = hashlib.blake2b(image_io.item_bytes(data), digest_size=16).digest()
    nothing = np.zeros((THUMBNAIL_SIDE, THUMBNAIL_SIDE), "uint8"), np.zeros(3, "float32")
    try:
        largest = image_formats.max_value(data)
    except pillow_images.decoding_errors():  # damaged: whoever decodes it says so
        return digest, *nothing, 0, False
    try:
        if not compared:
            return digest, *nothing, largest, image_formats.min_side_and_animated(data)[1]
        used = next((each for each in BIT_DEPTHS if largest < 2**each), pillow_images.MAX_BITS)
        small = image_io.read_image(data, (THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3), bits=used)
        side, moving = image_formats.min_side_and_animated(data)
    except image_io.UnreadableImage:  # also of other channels, which have no colours to compare
        return digest, *nothing, largest, False
    if side < MIN_SIDE:
        return digest, *nothing, largest, moving
    return digest, _to_grey(small), small.reshape(-1, 3).mean(0), largest, moving


def _to_grey(images):
    """Returns the luma of images `(..., 3)` as Pillow computes it, without rounding up."""
    weights = np.array([19595, 38470, 7471], "uint32")
    return (images @ weights >> 16).astype("uint8")


def _stacked_stats(items):
    """Returns what `_look` does of small arrays in memory, together; `None` if they are unlike."""
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
    none = np.zeros(len(items))
    return digests, np.concatenate(greys), np.concatenate(colours), none, none
