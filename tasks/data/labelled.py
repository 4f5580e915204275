"""A data set of labelled images as a task wants it: in three splits, decoded."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from tasks.data import sources, splits
from tasks.data.decoding import Augmented, Examples, decode
from zoo.errors import UsageError


@dataclass(frozen=True)
class Data:
    """What a run learns from.

    Attributes:
        source: the `sources.Source`, for its classes and what it skipped.
        train, validation, test: `decoding.Examples`; validation may be `None`.
        image_shape: `(height, width, channels)` of every image.
    """

    source: sources.Source
    train: Examples
    validation: Examples | None
    test: Examples
    image_shape: tuple[int, int, int]

    @property
    def parts(self):
        """The splits that there are."""
        return [part for part in (self.train, self.validation, self.test) if part]

    def skipped(self):
        """Returns a line for each file or image that was passed over."""
        bad = [*self.source.skipped, *(pair for part in self.parts for pair in part.dropped)]
        return [f"skipped {path}: {reason}" for path, reason in bad]


def load(source, names, shape, resize):
    """Returns the `Data` of a source.

    Args:
        source: a `sources.Source`.
        names: slices to learn from, to choose by and to judge on, as `splits.plan` takes them.
        shape: `(height, width, channels)` that every image becomes.
        resize: how: `stretch`, `crop` or `pad`.
    """
    parts = [part and decode(part, shape, resize) for part in splits.plan(source, *names)]
    return Data(source, *parts, shape)


def check_classes(source, expected):
    """Raises `UsageError` for a source of another number of classes than expected, if not 0."""
    if expected not in (0, len(source.classes)):
        raise UsageError(f"{source.name} has {len(source.classes)} classes, not {expected}")


def versions(examples, seed, count, drawn):
    """Returns some versions of examples, each changed at random once and for all, and its name.

    Args:
        examples: `decoding.Examples`.
        seed: of the changes.
        count: how many versions; without any change to make there is one.
        drawn: what `augment.draw` is asked for.
    """
    if drawn["mix"] != "none":  # which depends on what else is in a batch
        return []
    if drawn["augment"] == "none" and not drawn["erase"]:
        return [(examples, "")]
    return [
        (
            dataclasses.replace(examples, pixels=Augmented(examples, seed, view, drawn)),
            f"view {view} of {drawn}, seed {seed}",
        )
        for view in range(count)
    ]
