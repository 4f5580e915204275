"""Classes with few images, which are left out of a data set on request."""

from __future__ import annotations

import dataclasses
import re

from tasks.data.class_folders import join_names
from zoo.errors import UsageError
from zoo.lazy import np


def without_small_classes(source, text):
    """Returns a source without the classes that have few images, which its notes list.

    Args:
        source: A `dataset.Source` with one class per image.
        text: The smallest number of images of a class in all splits together.

    Raises:
        UsageError: The text is no number from 1, the images have several classes, or fewer than
            two classes are left.
    """
    if not re.fullmatch("[1-9][0-9]{0,8}", text):
        raise UsageError(f"--min-per-class takes a number from 1, not {text!r:.60}")
    if source.multi_label:
        raise UsageError(f"--min-per-class: images of {source.name} may have several classes")
    labels = [part.labels for part in source.splits.values()]
    counts = np.bincount(np.concatenate(labels), minlength=len(source.classes))
    kept = np.flatnonzero(counts >= int(text))
    small = [f"{source.classes[n]} ({counts[n]})" for n in np.flatnonzero(counts < int(text))]
    if not small:
        return source
    if len(kept) < 2:
        raise UsageError(
            f"{source.name} has {len(kept)} classes of {text} images or more; the largest has "
            f"{counts.max()}"
        )
    new = np.full(len(counts), -1)
    new[kept] = np.arange(len(kept))
    splits = {}
    for name, part in source.splits.items():
        rows = np.flatnonzero(new[part.labels] >= 0)
        if len(rows):
            splits[name] = part.take(rows).labelled(new[part.labels[rows]])
    return dataclasses.replace(
        source,
        classes=tuple(source.classes[n] for n in kept),
        splits=splits,
        notes=(
            *source.notes,
            f"classes of fewer than {text} images, left out: {join_names(small)}",
        ),
    )
