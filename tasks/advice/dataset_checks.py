"""What is wrong with the pictures of a data set, whatever model will see them."""

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

MIN_THREADED_BYTES = 2**14  # bytes of an image that is not worth a thread
THUMBNAIL_SIZE = 32  # of the pictures that are kept of all images
MAX_FLAT_STD = 3.0  # standard deviation, of 255, below which a picture shows nothing
MAX_LEAK_FRACTION = 0.005  # share of a split that may have copies in another before it is wrong
MAX_CLASS_RATIO = 10  # images of the largest class for one of the smallest
MIN_CLASS_IMAGES = 10  # images below which a class is hardly learnt
MAX_UPSCALE = 4  # times that most images may be enlarged without a word


@dataclass(frozen=True)
class DatasetSurvey:
    """What is kept of every image that could be read.

    Attributes:
        classes: names.
        names: of the splits.
        splits: int `(images,)`, position of the split that each image is in.
        labels: of each, as its split has them.
        titles: what to call each.
        places: `(split, index)` of each, for `item`.
        parts: the `Split`s.
        grey: uint8 `(images, 32, 32)`.
        colours: float32 `(images, 3)`, mean red, green and blue.
        sides: int `(images,)`, the shorter side in pixels.
        digests: of the contents.
        unreadable: `(name, reason)` of each other image.
    """

    classes: tuple[str, ...]
    names: tuple[str, ...]
    splits: np.ndarray = field(repr=False)
    labels: list = field(repr=False)
    titles: list = field(repr=False)
    places: list = field(repr=False)
    parts: list = field(repr=False)
    grey: np.ndarray = field(repr=False)
    colours: np.ndarray = field(repr=False)
    sides: np.ndarray = field(repr=False)
    digests: list = field(repr=False)
    unreadable: tuple = ()

    @cached_property
    def copies(self):
        """Pairs of positions of images that are copies of each other."""
        return near_duplicates.duplicate_pairs(self.grey, self.colours, self.digests)

    def item(self, place):
        """Returns an image and its bits as `image_io.read_image` takes them."""
        split, index = self.places[place]
        return self.parts[split].items[index], self.parts[split].bits

    def pair_titles(self, pairs):
        """Returns pairs of positions in words, a tuple."""
        return tuple(f"{self.titles[one]} = {self.titles[two]}" for one, two in pairs)


def survey(source, parts):
    """Looks at every image once.

    Args:
        source: a `sources.Source`.
        parts: its `Split`s, such as those that train, validate and test.

    Returns:
        A `Survey`.
    """
    rows, unreadable = [], list(source.skipped)
    for place, part in enumerate(parts):
        pays = _use_threads(part.items[0])
        glance = partial(_scan_image, bits=part.bits)
        found = (ordered_map if pays else map)(glance, part.items, *[os.cpu_count()] * pays)
        bar = progress(found, len(part), f"looking at {part.name}")
        for index, (seen, label) in enumerate(zip(bar, part.labels, strict=True)):
            if isinstance(seen, image_io.UnreadableImage):
                unreadable.append((seen.name, seen.reason))
                continue
            path, *kept = seen
            rows.append((place, label, path or f"{part.name} {index}", (place, index), *kept))
    if not rows:
        raise CheckSkipped(f"no image can be read as RGB; the first: {': '.join(unreadable[0])}")
    splits, labels, titles, places, grey, colours, sides, digests = zip(*rows, strict=True)
    return DatasetSurvey(
        classes=source.classes,
        names=tuple(part.name for part in parts),
        splits=np.array(splits),
        labels=list(labels),
        titles=list(titles),
        places=list(places),
        parts=parts,
        grey=np.stack(grey),
        colours=np.stack(colours),
        sides=np.array(sides),
        digests=list(digests),
        unreadable=tuple(unreadable),
    )


def unreadable(survey):
    """Finds files that are no images or damaged ones."""
    bad = survey.unreadable
    if bad:
        total = len(bad) + len(survey.places)
        names = tuple(f"{name} ({reason})" for name, reason in bad)
        yield Finding(
            "unreadable images",
            LOOK,
            f"{format_count(len(bad), 'file')} of {total:,} cannot be read: " + join_names(names),
            "they are left out of training; delete them or fetch them again",
            names,
        )


def near_constant(survey):
    """Finds images that show nothing: all pixels nearly equal."""
    rough = np.flatnonzero(survey.grey.reshape(len(survey.grey), -1).std(1) < MAX_FLAT_STD)
    # A picture of fine noise, or of colours equally bright, is flat only as seen so far.
    flat = [place for place in rough if _pixel_std(*survey.item(place)) < MAX_FLAT_STD]
    if flat:
        yield Finding(
            "near-constant images",
            LOOK,
            f"{format_count(len(flat), 'image')} of {len(survey.grey):,} show nothing (standard "
            f"deviation of pixels below {MAX_FLAT_STD:g} of 255): "
            + join_names(survey.titles[place] for place in flat),
            "look at them; delete those that are failed downloads, black frames or placeholders",
            tuple(survey.titles[place] for place in flat),
        )


def leaked_duplicates(survey):
    """Finds copies of one picture in two splits."""
    if len(survey.names) < 2:
        raise CheckSkipped("there is one split only")
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
        "delete the copies from one of the splits: what was learnt by heart counts as understood; "
        "pictures of one scene or patient belong into one split too",
        survey.pair_titles(across),
    )


def conflicting_labels(survey):
    """Finds copies of one picture that have different labels."""
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
            "decide for one label, or, if both are true, give a CSV file with several labels",
            survey.pair_titles(differ),
        )


def class_imbalance(survey):
    """Finds classes with far fewer images than others, or hardly any, to learn from."""
    if np.ndim(survey.labels[0]):
        raise CheckSkipped("images have several labels")
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
            "have "
            f"fewer than {MIN_CLASS_IMAGES} images to learn from: "
            + join_names(f"{name} ({size})" for name, size in few),
            "add images, or join or leave out such classes",
            tuple(f"{name} ({size})" for name, size in few),
        )
    (large, most), (small, least) = ranked[0], ranked[-1]
    if most >= MAX_CLASS_RATIO * max(1, least):
        yield Finding(
            "class imbalance",
            LOOK,
            f"{survey.classes[large]} has {most:,} images to learn from, "
            f"{survey.classes[small]} {least:,}: {most / max(1, least):.0f} to 1",
            "train with --class-weight balanced, and judge each class by the confusion matrix, "
            "not by accuracy alone",
        )


def small_images(survey, side):
    """Finds that most images are far smaller than a model's input.

    Args:
        survey: a `Survey`.
        side: shorter side of the images that the model takes, in pixels.
    """
    middle = float(np.median(survey.sides))
    if side >= MAX_UPSCALE * middle:
        yield Finding(
            "small images",
            LOOK,
            f"half of the images have a shorter side of {middle:.0f} pixels or less, which is "
            f"enlarged {side / middle:.1f} times to the model's {side}",
            f"a smaller --image-size, such as {max(32, int(2 * middle))}, or a model for small "
            "images costs far less and sees as much",
        )


def _use_threads(item):
    """Tells whether threads pay: small images in memory would wait for each other's Python."""
    size = item.nbytes if isinstance(item, np.ndarray) else len(item)
    return isinstance(item, str) or size > MIN_THREADED_BYTES


def _scan_image(item, bits):
    """Returns what a `Survey` keeps of one image, its path first, or why it cannot be read."""
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
    """Returns the shorter side of an image that can be read."""
    return min(image_io.image_size(data))


def _pixel_std(item, bits):
    """Returns the standard deviation of an image's pixels, of the channel where it is largest."""
    channels = image_io.num_channels(item)
    pixels = image_io.read_image(item, (None, None, channels), bits=bits)
    return float(pixels.reshape(-1, channels).std(0).max())
