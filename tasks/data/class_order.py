"""The order of classes: that of a weights file with the same classes."""

from __future__ import annotations

import dataclasses

from tasks.data.class_folders import join_names
from zoo import builder, model_files


def match_weights(source, weights, relabel):
    """Returns a source whose classes are in the order of a weights file, which its head has.

    Args:
        source: A `dataset.Source`.
        weights: The path of a weights file, or another value of the flag `weights`.
        relabel: A function of a `dataset.Split`, its classes and other ones that returns the split
            with indices of the latter.

    Returns:
        The source itself if the file has no class names, the same order, or other classes.
    """
    names = model_files.read_class_names(weights)
    if names == source.classes or not builder.same_classes(names, source.classes):
        return source
    splits = {key: relabel(split, source.classes, names) for key, split in source.splits.items()}
    note = f"classes are in the order of {weights}: {join_names(names)}"
    return dataclasses.replace(source, classes=names, splits=splits, notes=(*source.notes, note))
