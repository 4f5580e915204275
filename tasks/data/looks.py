"""One look at every image of a split: its content, a small copy of it, and how it is stored.

It finds what must be known before images are decoded: which are near copies of each other, so that
these do not part into training and test images, and how many bits images of 16 bits use.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import partial

from tasks.data import duplicates, encoded, pictures, readers
from tasks.data.dataset import Split
from tasks.data.decoding import progress
from tasks.data.parallel import ordered_map
from zoo.errors import UsageError
from zoo.lazy import np

SIDE = 32  # of the small copies
SMALLEST = 8  # pixels of a side below which an image has less detail than its perceptual hash
MOST = 100_000  # images up to which near copies are searched for; of more, equal files alone
BITS = (10, 12, 14)  # that cameras and scanners store in 16
NAMED = 3  # files in a note
STACKED = 1024  # arrays in memory that are shrunk at once


@dataclass(frozen=True, eq=False)
class Looks:
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
        return Looks([self.digests[i] for i in indices], *(array[indices] for array in arrays))


def looked(split):
    """Returns a split with its `looks`."""
    if split.looks is not None:
        return split
    items = split.items
    compared = len(items) <= MOST
    arrays = compared and len(items) and isinstance(items[0], np.ndarray)
    rows = _stacked(items) if arrays else None
    if rows is None:
        look = partial(_look, compared=compared)
        each = progress(
            ordered_map(look, items, os.cpu_count()), len(items), f"looking at {split.name}"
        )
        rows = zip(*each, strict=True)
    digests, *arrays = rows
    kinds = ("uint8", "float32", "int64", "bool")
    arrays = [np.asarray(array, kind) for array, kind in zip(arrays, kinds, strict=True)]
    return Split(split.name, items, split.labels, split.bits, Looks(list(digests), *arrays))


@dataclass(frozen=True, eq=False)
class Seen:
    """What the looks at the splits of a run found.

    Attributes:
        bits: as `readers.image` takes them.
        notes: lines that a person should read before training.
        copies: int64, positions in the test split of near copies of training images.
    """

    bits: int = pictures.DEEP
    notes: tuple[str, ...] = ()
    copies: object = ()


def settled(parts, bits=0):
    """Looks at the splits of a run; returns them, to be decoded with the same bits, and `Seen`.

    All images are looked at, not a sample: a value that a sample lacks would be cut off.

    Args:
        parts: `Split`s, those to train on first and those to test on last; `None` is left out.
        bits: those that images of 16 bits use; 0 for what their values say.

    Raises:
        UsageError: there is no such number of bits.
    """
    if bits and not 8 <= bits <= pictures.DEEP:
        raise UsageError(f"--image-bits takes 0, or 8 to {pictures.DEEP}, not {bits}")
    there = [part for part in parts if part]
    if bits and len(there) == 1:  # nothing is left to find
        return [part and with_bits(part, bits) for part in parts], Seen(bits)
    there = [looked(part) for part in there]
    used = bits or used_bits(there)
    test = copies(there[0], there[-1]) if len(there) > 1 else ()
    found = iter([with_bits(part, used) for part in there])
    return [part and next(found) for part in parts], Seen(used, tuple(notes(there, used)), test)


def with_bits(split, bits):
    """Returns a split whose images of 16 bits use that many."""
    return Split(split.name, split.items, split.labels, bits, split.looks)


def groups(looks):
    """Returns for each image a key, equal for images that are near copies of each other: the least
    digest of all that are connected by such pairs."""
    group_of = np.arange(len(looks.digests))

    def apart(pairs):
        return group_of[pairs[:, 0]] != group_of[pairs[:, 1]]

    for pairs in _pairs(looks, apart):
        for one, two in pairs.tolist():
            if group_of[one] != group_of[two]:
                group_of[group_of == group_of[two]] = group_of[one]
    least = {}
    for group, digest in zip(group_of.tolist(), looks.digests, strict=True):
        least[group] = min(digest, least.get(group, digest))
    return [least[group] for group in group_of.tolist()]


def copies(train, test):
    """Returns the positions in a test split of near copies of training images.

    Args:
        train, test: `Split`s with their looks.
    """
    one, two = train.looks, test.looks
    names = ("grey", "colours", "largest", "animated")
    arrays = (np.concatenate([getattr(one, name), getattr(two, name)]) for name in names)
    equal = set(one.digests)
    copied = np.array([False] * len(train) + [digest in equal for digest in two.digests])

    def undecided(pairs):
        return (pairs[:, 0] < len(train)) & (pairs[:, 1] >= len(train)) & ~copied[pairs[:, 1]]

    for pairs in _pairs(Looks([*one.digests, *two.digests], *arrays), undecided):
        copied[pairs[undecided(pairs), 1]] = True
    return np.flatnonzero(copied) - len(train)


def stated(about, name):
    """Returns the bits of 16-bit images that a model file states; 16 where it states none.

    Raises:
        UsageError: it states what is no number of bits.
    """
    found = about.get("image_bits", pictures.DEEP)
    if type(found) is not int or not 8 <= found <= pictures.DEEP:
        raise UsageError(f"{name} states image_bits {found!r}; needed a whole number from 8 to 16")
    return found


def used_bits(splits):
    """Returns how many bits the images of more than 8 use: `BITS` where all values of some splits
    are so small, and else 16."""
    largest = max((int(split.looks.largest.max(initial=0)) for split in splits), default=0)
    return next((each for each in BITS if 0 < largest < 2**each), pictures.DEEP)


def notes(splits, used):
    """Returns a line on the scale of 16-bit images, and one on animations, where there are such."""
    deep = sum(int((split.looks.largest > 0).sum()) for split in splits)
    moving = [
        readers.name(split.items[place])
        for split in splits
        for place in np.flatnonzero(split.looks.animated)
    ]
    lines = []
    if deep and used < pictures.DEEP:
        lines.append(
            f"16-bit images that use {used} bits ({deep:,}): 0 to {2**used - 1:,} is scaled to 0 "
            "to 255; --image-bits names another number"
        )
    if moving:
        more = f" and {len(moving) - NAMED:,} more" if len(moving) > NAMED else ""
        lines.append(
            f"animations, of which the first frame is read ({len(moving):,}): "
            f"{', '.join(moving[:NAMED])}{more}"
        )
    return lines


def _pairs(looks, wanted):
    """Returns an iterator over pairs of near copies, of too many images those of equal content."""
    if len(looks.digests) > MOST:
        return iter([duplicates.equal(looks.digests)])
    return duplicates.some_pairs(looks.grey, looks.colours, looks.digests, wanted)


def _look(item, compared=True):
    """Returns digest, grey copy, mean colour, largest value and whether an image is animated.

    Images that are not `compared` are not decoded for a copy and a mean.
    """
    data = item if isinstance(item, np.ndarray) else readers.content(item)
    digest = hashlib.blake2b(readers.content(data), digest_size=16).digest()
    nothing = np.zeros((SIDE, SIDE), "uint8"), np.zeros(3, "float32")
    try:
        largest = encoded.largest(data)
    except pictures.faults():  # damaged: whoever decodes it says so
        return digest, *nothing, 0, False
    try:
        if not compared:
            return digest, *nothing, largest, encoded.outline(data)[1]
        used = next((each for each in BITS if largest < 2**each), pictures.DEEP)
        small = readers.image(data, (SIDE, SIDE, 3), bits=used)
        side, moving = encoded.outline(data)
    except readers.UnreadableImage:  # also of other channels, which have no colours to compare
        return digest, *nothing, largest, False
    if side < SMALLEST:
        return digest, *nothing, largest, moving
    return digest, _grey(small), small.reshape(-1, 3).mean(0), largest, moving


def _grey(images):
    """Returns the luma of images `(..., 3)` as Pillow computes it, without rounding up."""
    weights = np.array([19595, 38470, 7471], "uint32")
    return (images @ weights >> 16).astype("uint8")


def _stacked(items):
    """Returns what `_look` does of small arrays in memory, together; `None` if they are unlike."""
    shape = items[0].shape
    digests, greys, colours = [], [], []
    for start in range(0, len(items), STACKED):
        some = [items[i] for i in range(start, min(start + STACKED, len(items)))]
        if any(item.shape != shape or item.dtype != np.uint8 for item in some):
            return None
        digests += [hashlib.blake2b(item.tobytes(), digest_size=16).digest() for item in some]
        stack = np.stack(some).reshape(len(some), *shape[:2], -1)
        if stack.shape[-1] not in (1, 3) or min(shape[:2]) < SMALLEST:
            return None
        small = np.stack(
            [duplicates.shrunk(stack[..., band], SIDE, SIDE) for band in range(stack.shape[-1])], -1
        )
        small = np.broadcast_to(small, (*small.shape[:3], 3)).round().astype("uint8")
        greys.append(_grey(small))
        colours.append(small.reshape(len(some), -1, 3).mean(1))
    none = np.zeros(len(items))
    return digests, np.concatenate(greys), np.concatenate(colours), none, none
