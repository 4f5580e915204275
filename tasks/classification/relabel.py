"""Classes by name: the labels of one data set as those of a model that was taught by another."""

from __future__ import annotations

from zoo.errors import UsageError
from zoo.lazy import np


def relabel(split, classes, model_classes):
    """Returns a split whose labels are positions in `model_classes`, found by the names of classes.

    Args:
        split: a `sources.Split`.
        classes: the names that its labels stand for.
        model_classes: the names that a model was taught, in the order of its logits.

    Raises:
        UsageError: an example has a class that is not known.
    """
    labels = np.asarray(split.labels)
    multi_label = labels.ndim == 2
    present = np.flatnonzero(labels.any(axis=0)) if multi_label else np.unique(labels)
    unknown_classes = [classes[label] for label in present if classes[label] not in model_classes]
    if unknown_classes:
        raise UsageError(
            f"{split.name} has classes that the model was not taught: "
            f"{', '.join(unknown_classes)}; "
            f"it knows {', '.join(model_classes)}"
        )
    label_map = np.array(
        [model_classes.index(name) if name in model_classes else -1 for name in classes]
    )
    if not multi_label:
        return split.labelled(label_map[labels])
    columns = np.zeros((len(labels), len(model_classes)), labels.dtype)
    columns[:, label_map[present]] = labels[:, present]
    return split.labelled(columns)
