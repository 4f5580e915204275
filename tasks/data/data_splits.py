"""A data set of labelled images as a task wants it: in three splits, decoded."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass, field

from tasks.data import image_stats, sources, splits
from tasks.data.class_folders import join_names
from tasks.data.decoding import AugmentedImages, Examples, decode
from zoo.errors import UsageError
from zoo.lazy import np

MAX_REASONS = 5  # in a line on what was skipped
MIN_TRAIN_IMAGES = 10  # training images of a class below which it is named


@dataclass(frozen=True)
class DataSplits:
    """What a run learns from.

    Attributes:
        source: the `sources.Source`, for its classes and what it skipped.
        train, validation, test: `decoding.Examples`; validation may be `None`.
        image_shape: `(height, width, channels)` of every image.
        seen: what was found of the splits before they were decoded.
    """

    source: sources.Source
    train: Examples
    validation: Examples | None
    test: Examples
    image_shape: tuple[int, int, int]
    seen: image_stats.SplitFindings = field(default_factory=image_stats.SplitFindings, kw_only=True)

    @property
    def parts(self):
        """The splits that there are."""
        return [part for part in (self.train, self.validation, self.test) if part]

    def notes(self):
        """Returns lines on the data that a person should read before the training."""
        return [line for line, _ in self.warnings()]

    def warnings(self):
        """Returns pairs of a line on the data, and names to look up where it counts some."""
        found = [(line, ()) for line in self.seen.notes]
        if len(copies := self.copies):
            many = f"{len(copies):,} of {len(self.test):,}"
            names = [self.test.title(index) for index in copies]
            found.append((f"test images that are near copies of training images: {many}", names))
        bad = [*self.source.skipped, *(pair for part in self.parts for pair in part.dropped)]
        if bad:
            reasons = Counter(reason for _, reason in bad).most_common()
            counts = "; ".join(f"{count:,} {reason}" for reason, count in reasons[:MAX_REASONS])
            more = (
                f"; {len(reasons) - MAX_REASONS:,} other reasons"
                if len(reasons) > MAX_REASONS
                else ""
            )
            names = [f"{path}: {reason}" for path, reason in bad]
            found.append((f"skipped {_count_files(len(bad))}: {counts}{more}", names))
        return found

    @property
    def copies(self):
        """Positions among the test examples of near copies of training images."""
        places = self.test.places
        places = np.arange(len(self.test)) if places is None else np.asarray(places)
        return np.flatnonzero(np.isin(places, self.seen.copies))


def load(source, names, shape, resize, bits=0):
    """Returns the `Data` of a source.

    Args:
        source: a `sources.Source`.
        names: slices to learn from, to choose by and to judge on, as `splits.train_val_test_split`
        takes them.
        shape: `(height, width, channels)` that every image becomes.
        resize: how: `stretch`, `crop` or `pad`.
        bits: as `image_stats.inspect_splits` takes them.
    """
    parts, seen = image_stats.inspect_splits(splits.train_val_test_split(source, *names), bits)
    parts = [part and decode(part, shape, resize) for part in parts]
    return DataSplits(source, *parts, shape, seen=seen)


def class_notes(data):
    """Returns lines on classes that have few images to train on, or none to test on."""
    classes, lines = data.source.classes, []
    train, test = (_class_counts(part.labels, len(classes)) for part in (data.train, data.test))
    if few := [f"{classes[n]} ({train[n]})" for n in np.flatnonzero(train < MIN_TRAIN_IMAGES)]:
        lines.append(
            f"classes with fewer than {MIN_TRAIN_IMAGES} training images: {join_names(few)}"
        )
    if none := [classes[n] for n in np.flatnonzero(test == 0)]:
        lines.append(f"classes without a test image: {join_names(none)}")
    return lines


def majority_baseline(data):
    """Returns a line on the share of the most frequent class, beside which accuracy is read."""
    if data.source.multi_label:
        return []
    shares = []
    for name, part in (("validation", data.validation), ("test", data.test)):
        if part:
            counts = _class_counts(part.labels, len(data.source.classes))
            share = counts.max() / counts.sum()
            shares.append(f"{share:.1%} of {name} ({data.source.classes[counts.argmax()]})")
    return [f"accuracy of always predicting the most frequent class: {', '.join(shares)}"]


def _class_counts(labels, count):
    return np.bincount(labels, minlength=count) if labels.ndim == 1 else labels.sum(0, "int64")


def _count_files(count):
    return f"{count:,} file{'s' * (count != 1)}"


def check_classes(source, expected):
    """Raises `UsageError` for a source of another number of classes than expected, if not 0."""
    if expected not in (0, len(source.classes)):
        raise UsageError(f"{source.name} has {len(source.classes)} classes, not {expected}")


def augmented_versions(examples, seed, count, params):
    """Returns some versions of examples, each changed at random once and for all, and its name.

    Args:
        examples: `decoding.Examples`.
        seed: of the changes.
        count: how many versions; without any change to make there is one.
        params: what `augment.sample_params` is asked for.
    """
    if params["mix"] != "none":  # which depends on what else is in a batch
        return []
    if params["augment"] == "none" and not params["erase"]:
        return [(examples, "")]
    return [
        (
            dataclasses.replace(examples, pixels=AugmentedImages(examples, seed, view, params)),
            f"view {view} of {params}, seed {seed}",
        )
        for view in range(count)
    ]
