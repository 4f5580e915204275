"""What a data set is: its classes, its splits, and where each image is."""

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
    """Some examples of a data set.

    Attributes:
        name: such as `train`, or an expression such as `train[:80%]`.
        items: what `image_io.read_image` reads: paths, encoded bytes, or uint8 arrays.
        labels: int64 `(examples,)`, positions in the classes of the source; where an example may
            have several, uint8 `(examples, classes)`, 1 for each that it has. Of a task that asks
            where things are, an array of objects `(examples,)`, each of which tells that.
        bits: how many an image of more than 8 uses, as `image_io.read_image` takes them.
        looks: what `image_stats.with_stats` found, or `None`.
    """

    name: str
    items: Sequence = field(repr=False)
    labels: np.ndarray = field(repr=False)
    bits: int = MAX_BITS
    image_stats: object = field(default=None, repr=False)

    def __len__(self):
        return len(self.labels)

    def labelled(self, labels):
        """Returns the split with other labels."""
        return Split(self.name, self.items, labels, self.bits, self.image_stats)

    def take(self, indices, name=None):
        """Returns the split of the examples at `indices`; no image is read."""
        places = [(self.items, int(index)) for index in indices]
        labels = self.labels[np.asarray(indices, "int64")]
        image_stats = self.image_stats and self.image_stats.take(np.asarray(indices, "int64"))
        return Split(name or self.name, ItemView(places), labels, self.bits, image_stats)


class ItemView(Sequence):
    """Items of other sequences, each looked up when asked for.

    Args:
        places: `(sequence, index)` of each item.
    """

    def __init__(self, places):
        self._places = places

    def __len__(self):
        return len(self._places)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return ItemView(self._places[index])
        items, at = self._places[index]
        return items[at]


def object_array(items):
    """Returns items, whatever they are, as an array of objects `(items,)`."""
    array = np.empty(len(items), object)
    for index, item in enumerate(items):
        array[index] = item
    return array


@dataclass(frozen=True, eq=False)
class Source:
    """A data set.

    Attributes:
        name: as it was asked for.
        classes: their names; a label is a position in them.
        splits: by name, in order; a source without splits has one, `all`.
        skipped: `(path, reason)` of each file that was passed over.
        licence, citation: as the maker states them, or empty.
        multi_label: whether an example may have several classes, or none.
    """

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    skipped: tuple[tuple[str, str], ...] = ()
    licence: str = ""
    citation: str = ""
    multi_label: bool = False


def short_name(name):
    """Returns what to call a data set: of an absolute path the last part, else its name."""
    path = expand_user(name)
    return path.name if path.is_absolute() and path.name else name


def cache_per_source(function):
    """Lets a function of a `Source` and texts compute the same only once, which reads images."""
    cache = WeakKeyDictionary()

    @wraps(function)
    def cached(source, *texts, **named):
        results, arguments = cache.setdefault(source, {}), (texts, tuple(sorted(named.items())))
        if arguments not in results:
            results[arguments] = function(source, *texts, **named)
        return results[arguments]

    return cached
