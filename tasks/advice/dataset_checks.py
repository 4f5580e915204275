"""Checks of a data set that need no model: duplicates, unreadable images, class imbalance."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property, partial

from tasks.advice.findings import LOOK, WRONG, CheckSkipped, Finding, format_count, join_names
from tasks.data import image_io, near_duplicates
from tasks.data.decoding import progress
from tasks.data.parallel import ordered_map
from tasks.report import image_channels
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")

MIN_THREADED_BYTES = 2**14  # of an in-memory image, below which threads do not pay
THUMBNAIL_SIZE = 32  # height and width of the thumbnails
MAX_FLAT_STD = 3.0  # standard deviation of pixels in [0, 255] below which an image is near-constant
MIN_RANGE = 32  # levels between the darkest and the brightest pixel of a data set
MAX_LEAK_FRACTION = (
    0.005  # fraction of a split with copies in another one above which it is `wrong`
)
MAX_CLASS_RATIO = 10  # size of the largest class relative to the smallest
MIN_CLASS_IMAGES = 10  # images below which a class is small
MAX_UPSCALE = 4  # ratio of model input to the median image side


@dataclass(frozen=True)
class DatasetSurvey:
    """Thumbnails and statistics of every image that could be decoded.

    Attributes:
        classes: names of the classes.
        names: names of the splits.
        splits: int `(images,)`, index of the split of each image.
        labels: label of each image, as in its split.
        titles: name of each image in messages.
        locations: `(split, index)` of each image, for `item`.
        parts: the `Split`s.
        gray: uint8 `(images, 32, 32)`, gray thumbnails.
        colors: float32 `(images, 3)`, mean red, green and blue.
        sides: int `(images,)`, the shorter side in pixels.
        digests: digest of the contents of each image.
        unreadable: `(name, reason)` of each image that could not be decoded.
    """

    classes: tuple[str, ...]
    names: tuple[str, ...]
    splits: np.ndarray = field(repr=False)
    labels: list = field(repr=False)
    titles: list = field(repr=False)
    locations: list = field(repr=False)
    parts: list = field(repr=False)
    grey: np.ndarray = field(repr=False)
    colours: np.ndarray = field(repr=False)
    sides: np.ndarray = field(repr=False)
    digests: list = field(repr=False)
    unreadable: tuple = ()

    @cached_property
    def copies(self):
        """Pairs of indices of images that are copies of each other, int `(pairs, 2)`."""
        return near_duplicates.duplicate_pairs(self.grey, self.colours, self.digests)

    def item(self, index):
        """Returns an image and its `bits`, as `image_io.read_image` takes them."""
        split, position = self.locations[index]
        return self.parts[split].items[position], self.parts[split].bits

    def pair_titles(self, pairs):
        """Returns the titles of pairs of images, as a tuple of strings."""
        return tuple(f"{self.titles[one]} = {self.titles[two]}" for one, two in pairs)


def survey(source, parts):
    """Decodes every image once and returns a `DatasetSurvey`.

    Args:
        source: a `sources.Source`.
        parts: its `Split`s, such as those for training, validation and test.

    Raises:
        CheckSkipped: no image can be decoded.
    """
    rows, unreadable = [], list(source.skipped)
    for number, part in enumerate(parts):
        threaded = _use_threads(part.items[0])
        scan = partial(_scan_image, bits=part.bits)
        found = (ordered_map if threaded else map)(scan, part.items, *[os.cpu_count()] * threaded)
        bar = progress(found, len(part), f"checking {part.name}")
        for index, (seen, label) in enumerate(zip(bar, part.labels, strict=True)):
            if isinstance(seen, image_io.UnreadableImage):
                unreadable.append((seen.name, seen.reason))
                continue
            path, *kept = seen
            rows.append((number, label, path or f"{part.name} {index}", (number, index), *kept))
    if not rows:
        raise CheckSkipped(f"no image can be read as RGB; the first: {': '.join(unreadable[0])}")
    splits, labels, titles, locations, grey, colours, sides, digests = zip(*rows, strict=True)
    return DatasetSurvey(
        classes=source.classes,
        names=tuple(part.name for part in parts),
        splits=np.array(splits),
        labels=list(labels),
        titles=list(titles),
        locations=list(locations),
        parts=parts,
        grey=np.stack(grey),
        colours=np.stack(colours),
        sides=np.array(sides),
        digests=list(digests),
        unreadable=tuple(unreadable),
    )


def unreadable(survey):
    """Yields a finding if files are not images, or damaged."""
    bad = survey.unreadable
    if bad:
        total = len(bad) + len(survey.locations)
        names = tuple(f"{name} ({reason})" for name, reason in bad)
        yield Finding(
            "unreadable images",
            LOOK,
            f"{format_count(len(bad), 'file')} of {total:,} cannot be read: " + join_names(names),
            "training skips them; delete them or download them again",
            names,
        )


def near_constant(survey):
    """Yields a finding if images are near-constant."""
    rough = np.flatnonzero(survey.grey.reshape(len(survey.grey), -1).std(1) < MAX_FLAT_STD)
    # Fine noise, or colors of equal brightness, are constant only in the gray thumbnail.
    flat = [index for index in rough if _pixel_std(*survey.item(index)) < MAX_FLAT_STD]
    if flat:
        yield Finding(
            "near-constant images",
            LOOK,
            f"{format_count(len(flat), 'image')} of {len(survey.grey):,} near-constant (standard "
            f"deviation of pixels below {MAX_FLAT_STD:g} of 255): "
            + join_names(survey.titles[index] for index in flat),
            "inspect them; delete failed downloads, black frames and placeholders",
            tuple(survey.titles[index] for index in flat),
        )


def narrow_range(survey):
    """Yields a finding if the pixels of all images together use a small part of [0, 255]."""
    low, high = int(survey.grey.min()), int(survey.grey.max())
    if high - low < MIN_RANGE:
        yield Finding(
            "narrow range of values",
            WRONG,
            f"the pixels of all images lie in [{low}, {high}] of [0, 255]",
            "for images of more than 8 bits train with --scale auto, or with the values that "
            "become 0 and 255, such as --scale 0..4095",
        )


def leaked_duplicates(survey):
    """Yields a finding if one image is in two splits."""
    if len(survey.names) < 2:
        raise CheckSkipped("there is only one split")
    copies = survey.copies
    across = copies[survey.splits[copies[:, 0]] != survey.splits[copies[:, 1]]]
    if not len(across):
        return
    messages, worst = [], 0.0
    for later in range(1, len(survey.names)):
        for earlier in range(later):
            both = across[(survey.splits[across] == [earlier, later]).all(1)]
            leaked, total = len(np.unique(both[:, 1])), int((survey.splits == later).sum())
            if leaked:
                messages.append(
                    f"{leaked:,} of {total:,} images of {survey.names[later]} "
                    f"are copies of ones in {survey.names[earlier]}"
                )
                worst = max(worst, leaked / total)
    yield Finding(
        "leaked duplicates",
        WRONG if worst > MAX_LEAK_FRACTION else LOOK,
        f"{'; '.join(messages)} ({join_names(survey.pair_titles(across))})",
        "delete the copies from one of the splits, as memorized images inflate test figures; "
        "also keep images of one scene or patient in one split",
        survey.pair_titles(across),
    )


def conflicting_labels(survey):
    """Yields a finding if copies of one image have different labels."""
    differ = [
        (one, two)
        for one, two in survey.copies
        if not np.array_equal(survey.labels[one], survey.labels[two])
    ]
    if differ:
        yield Finding(
            "copies with different labels",
            LOOK,
            f"{format_count(len(differ), 'pair')} of copies have different labels "
            f"({join_names(survey.pair_titles(differ))})",
            "keep one label or, if both apply, use a CSV file with several labels per image",
            survey.pair_titles(differ),
        )


def class_imbalance(survey):
    """Yields findings if classes have few training images, or far fewer than others."""
    if np.ndim(survey.labels[0]):
        raise CheckSkipped("the data set is multi-label")
    own = [label for label, split in zip(survey.labels, survey.splits, strict=True) if split == 0]
    counts = Counter(dict.fromkeys(range(len(survey.classes)), 0))
    counts.update(map(int, own))
    ranked = counts.most_common()
    few = [
        (survey.classes[label], size) for label, size in reversed(ranked) if size < MIN_CLASS_IMAGES
    ]
    if few:
        yield Finding(
            "small classes",
            LOOK,
            f"{format_count(len(few), 'class').replace('classs', 'classes')} of {len(ranked):,} "
            f"have fewer than {MIN_CLASS_IMAGES} training images: "
            + join_names(f"{name} ({size})" for name, size in few),
            "add images, or merge or remove such classes",
            tuple(f"{name} ({size})" for name, size in few),
        )
    (large, max_count), (small, min_count) = ranked[0], ranked[-1]
    if max_count >= MAX_CLASS_RATIO * max(1, min_count):
        yield Finding(
            "class imbalance",
            LOOK,
            f"{survey.classes[large]} has {max_count:,} training images, "
            f"{survey.classes[small]} {min_count:,}: {max_count / max(1, min_count):.0f} to 1",
            "train with --class-weight balanced, and evaluate each class with the confusion "
            "matrix, not by accuracy alone",
        )


def small_images(survey, side):
    """Yields a finding if most images are far smaller than the input of a model.

    Args:
        survey: a `DatasetSurvey`.
        side: shorter side of the model input, in pixels.
    """
    median = float(np.median(survey.sides))
    if side >= MAX_UPSCALE * median:
        yield Finding(
            "small images",
            LOOK,
            f"half of the images have a shorter side of {median:.0f} pixels or less, upsampled "
            f"{side / median:.1f} times to the {side} pixels of the model input",
            f"a smaller --image-size, such as {max(32, int(2 * median))}, or a model for small "
            "images costs far less and loses no detail",
        )


def _use_threads(item):
    """Returns whether threads pay; decoding small in-memory images is bound by the GIL."""
    size = item.nbytes if isinstance(item, np.ndarray) else len(item)
    return isinstance(item, str) or size > MIN_THREADED_BYTES


def _scan_image(item, bits):
    """Returns the path, thumbnail and statistics of an image, or an `UnreadableImage`."""
    try:
        data = item if isinstance(item, np.ndarray) else image_io.item_bytes(item)
        shape = (THUMBNAIL_SIZE, THUMBNAIL_SIZE, image_io.num_channels(data))
        small = image_channels.to_rgb(image_io.read_image(data, shape, bits=bits))
    except image_io.UnreadableImage as error:
        return image_io.UnreadableImage(image_io.item_name(item), error.reason)
    grey = np.asarray(Image.fromarray(small).convert("L"))
    colour = small.reshape(-1, 3).mean(0, dtype="float32")
    digest = hashlib.blake2b(image_io.item_bytes(data), digest_size=16).digest()
    return item if isinstance(item, str) else None, grey, colour, _shorter_side(data), digest


def _shorter_side(data):
    """Returns the shorter side of an image in pixels."""
    return min(image_io.image_size(data))


def _pixel_std(item, bits):
    """Returns the largest standard deviation of pixels over the channels of an image."""
    channels = image_io.num_channels(item)
    pixels = image_io.read_image(item, (None, None, channels), bits=bits)
    return float(pixels.reshape(-1, channels).std(0).max())
