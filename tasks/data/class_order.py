"""The order and the names of classes: those of a weights file, or of a model."""

from __future__ import annotations

import dataclasses
import logging

from tasks.data import tfds_source
from tasks.data.class_folders import join_names
from zoo import builder, model_files

log = logging.getLogger("zoo")


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


def named_as(source, names):
    """Returns a source with the class names of a model if it has none, but as many classes.

    Metadata of TFDS that were not written by its builder may lack the names of labels, which then
    are numbers. A log record says that they are taken to be in the order of the model.

    Args:
        source: A `dataset.Source`.
        names: The class names of the model.

    Returns:
        The source itself if it has names, or another number of classes.
    """
    names = tuple(names)
    numbers = tuple(map(str, range(len(names))))
    if not source.name.startswith(tfds_source.PREFIX) or source.classes != numbers:
        return source
    if names != numbers:
        log.warning(
            "%s has no class names; its classes 0 to %d are taken for those of the model: %s",
            *(source.name, len(names) - 1, join_names(names)),
        )
    return dataclasses.replace(source, classes=names)
