"""The three decoded splits of a data set, and notes on their labels."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass, field

from tasks.data import image_stats, sources, splits
from tasks.data.class_folders import join_names
from tasks.data.decoding import AugmentedImages, Examples, decode
from zoo.errors import UsageError
from zoo.lazy import np

MAX_REASONS = 5  # in the line on skipped files
MIN_TRAIN_IMAGES = 10  # a class with fewer training images is reported


@dataclass(frozen=True)
class DataSplits:
    """The training, validation and test examples of a run.

    Attributes:
        source: The `dataset.Source`, with its classes and skipped files.
        train, validation, test: `decoding.Examples`; validation may be `None`.
        image_shape: `(height, width, channels)` of all images.
        findings: What was found in the images before they were decoded.
    """

    source: sources.Source
    train: Examples
    validation: Examples | None
    test: Examples
    image_shape: tuple[int, int, int]
    findings: image_stats.SplitFindings = field(
        default_factory=image_stats.SplitFindings, kw_only=True
    )

    @property
    def parts(self):
        """The splits that exist."""
        return [part for part in (self.train, self.validation, self.test) if part]

    def notes(self):
        """Returns lines about the data to be shown before training."""
        return [line for line, _ in self.warnings()]

    def warnings(self):
        """Returns pairs of a line about the data and the names of the images that it counts."""
        found = [(line, ()) for line in (*self.source.notes, *self.findings.notes)]
        if len(copies := self.copies):
            share = f"{len(copies):,} of {len(self.test):,}"
            names = [self.test.title(index) for index in copies]
            found.append(
                (f"test images that are near duplicates of training images: {share}", names)
            )
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
        """Indices of the test examples that are near duplicates of training images."""
        indices = self.test.item_indices
        indices = np.arange(len(self.test)) if indices is None else np.asarray(indices)
        return np.flatnonzero(np.isin(indices, self.findings.copies))


def load(source, names, shape, resize, bits=0, decode_split=decode):
    """Returns the decoded `DataSplits` of a source.

    Args:
        source: A `dataset.Source`.
        names: Slice expressions of the training, validation and test examples, as in
            `splits.train_val_test_split`.
        shape: `(height, width, channels)` to which images are resized.
        resize: `stretch`, `crop` or `pad`.
        bits: The bits used by 16-bit images, as in `image_stats.inspect_splits`.
        decode_split: A function of a `dataset.Split`, a shape and a way to resize that returns
            the decoded `Examples`.

    Raises:
        UsageError: A slice is invalid, or no image of a split can be read.
    """
    parts, findings = image_stats.inspect_splits(splits.train_val_test_split(source, *names), bits)
    parts = [part and decode_split(part, shape, resize) for part in parts]
    return DataSplits(source, *parts, shape, findings=findings)


def class_notes(data):
    """Returns lines about classes with few training images or without test images."""
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
    """Returns the accuracy of always predicting the most frequent class, as a line in a list."""
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
    """Raises `UsageError` if a source has another number of classes than `expected`, if not 0."""
    if expected not in (0, len(source.classes)):
        raise UsageError(f"{source.name} has {len(source.classes)} classes, not {expected}")


def augmented_versions(examples, seed, count, params):
    """Returns augmented versions of examples that are the same in each epoch.

    Args:
        examples: `decoding.Examples`.
        seed: The seed of the augmentation.
        count: The number of versions; without augmentation there is one.
        params: Keyword arguments of `augment.sample_params`.

    Returns:
        Pairs of `Examples` and a text that identifies the version; empty if images are mixed,
        which depends on the other images of a batch.
    """
    if params["mix"] != "none":
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
