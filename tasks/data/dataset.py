"""Data sets: `Source` with its classes and splits, and `Split` with its items and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from weakref import WeakKeyDictionary

from tasks.data.pillow_images import MAX_BITS
from zoo.lazy import np
from zoo.paths import expand_user


@dataclass(frozen=True, eq=False)
class Split:
    """The examples of one split of a data set.

    Attributes:
        name: The name of the split, such as `train`, or an expression such as `train[:80%]`.
        items: The images, as `image_io.read_image` takes them: paths, encoded bytes, or uint8
            arrays.
        labels: int64 `(examples,)`, class indices; multi-label, uint8 `(examples, classes)`, 1
            for each class of the example. For detection, segmentation and captioning, an object
            array `(examples,)` of annotations.
        bits: The bits used by images of more than 8 bits, as in `image_io.read_image`.
        image_stats: The `image_stats.ImageStats` of the images, or `None` if not computed yet.
    """

    name: str
    items: Sequence = field(repr=False)
    labels: np.ndarray = field(repr=False)
    bits: int = MAX_BITS
    image_stats: object = field(default=None, repr=False)

    def __len__(self):
        return len(self.labels)

    def labelled(self, labels):
        """Returns the split with `labels` in place of its own."""
        return Split(self.name, self.items, labels, self.bits, self.image_stats)

    def take(self, indices, name=None):
        """Returns the split of the examples at `indices`, without reading any image."""
        locations = [(self.items, int(index)) for index in indices]
        labels = self.labels[np.asarray(indices, "int64")]
        image_stats = self.image_stats and self.image_stats.take(np.asarray(indices, "int64"))
        return Split(name or self.name, ItemView(locations), labels, self.bits, image_stats)


class ItemView(Sequence):
    """A view of items of other sequences, each looked up when it is indexed.

    Args:
        locations: A pair `(sequence, index)` for each item.
    """

    def __init__(self, locations):
        self._locations = locations

    def __len__(self):
        return len(self._locations)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return ItemView(self._locations[index])
        items, at = self._locations[index]
        return items[at]


def object_array(items):
    """Returns items of any type as an object array `(items,)`."""
    array = np.empty(len(items), object)
    for index, item in enumerate(items):
        array[index] = item
    return array


@dataclass(frozen=True, eq=False)
class Source:
    """A data set.

    Attributes:
        name: The name by which it was loaded.
        classes: The class names; a label is an index into them.
        splits: The splits by name, in order; a source without splits has one, `all`.
        skipped: A pair `(path, reason)` for each file that was skipped.
        licence, citation: As published with the data set, or empty.
        multi_label: Whether an example may have several classes, or none.
        notes: Lines about the data set to be shown before training and in the report.
        columns: For each further column of a table, a dict from image to cell.
    """

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    skipped: tuple[tuple[str, str], ...] = ()
    licence: str = ""
    citation: str = ""
    multi_label: bool = False
    notes: tuple[str, ...] = ()
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)


def short_name(name):
    """Returns a short name of a data set: the last part of an absolute path, else the name."""
    path = expand_user(name)
    return path.name if path.is_absolute() and path.name else name


def cache_per_source(function):
    """Caches the results of a function of a `Source` and hashable arguments, per source.

    Such functions read images, which is slow. The cache is freed with the source.
    """
    cache = WeakKeyDictionary()

    @wraps(function)
    def cached(source, *texts, **named):
        results, arguments = cache.setdefault(source, {}), (texts, tuple(sorted(named.items())))
        if arguments not in results:
            results[arguments] = function(source, *texts, **named)
        return results[arguments]

    return cached
