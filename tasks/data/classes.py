"""Classes by name: the labels of one data set as those of a model that was taught by another."""

from __future__ import annotations

from zoo.errors import UsageError
from zoo.lazy import np


def relabelled(split, classes, known):
    """Returns a split whose labels are positions in `known`, found by the names of classes.

    Args:
        split: a `sources.Split`.
        classes: the names that its labels stand for.
        known: the names that a model was taught, in the order of its logits.

    Raises:
        UsageError: an example has a class that is not known.
    """
    labels = np.asarray(split.labels)
    several = labels.ndim == 2
    present = np.flatnonzero(labels.any(axis=0)) if several else np.unique(labels)
    strange = [classes[label] for label in present if classes[label] not in known]
    if strange:
        raise UsageError(
            f"{split.name} has classes that the model was not taught: {', '.join(strange)}; "
            f"it knows {', '.join(known)}"
        )
    places = np.array([known.index(name) if name in known else -1 for name in classes])
    if not several:
        return split.labelled(places[labels])
    columns = np.zeros((len(labels), len(known)), labels.dtype)
    columns[:, places[present]] = labels[:, present]
    return split.labelled(columns)
