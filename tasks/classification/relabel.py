"""Maps labels of one data set to the classes of a model, by class name."""

from __future__ import annotations

from zoo.errors import UsageError
from zoo.lazy import np


def relabel(split, classes, model_classes):
    """Returns a split whose labels are indices into `model_classes`, matched by class name.

    Args:
        split: A `sources.Split`.
        classes: The class names that the labels of the split index.
        model_classes: The class names of the model, in the order of its logits.

    Returns:
        A `sources.Split` with the same items.

    Raises:
        UsageError: The split has a class that the model does not have.
    """
    labels = np.asarray(split.labels)
    multi_label = labels.ndim == 2
    present = np.flatnonzero(labels.any(axis=0)) if multi_label else np.unique(labels)
    unknown_classes = [classes[label] for label in present if classes[label] not in model_classes]
    if unknown_classes:
        raise UsageError(
            f"{split.name} has classes that the model was not trained on: "
            f"{', '.join(unknown_classes)}; its classes are {', '.join(model_classes)}"
        )
    label_map = np.array(
        [model_classes.index(name) if name in model_classes else -1 for name in classes]
    )
    if not multi_label:
        return split.labelled(label_map[labels])
    columns = np.zeros((len(labels), len(model_classes)), labels.dtype)
    columns[:, label_map[present]] = labels[:, present]
    return split.labelled(columns)
