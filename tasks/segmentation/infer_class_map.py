"""Infers the classes of masks from their values, where no class list is given.

Values 0, 1, 2, ... are classes, and 0 with one other value is background and object. Anything else
is ambiguous: it might be classes with gaps, instance ids or blurred edges. It is refused with
instructions.
"""

from __future__ import annotations

import shlex
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tasks.data import image_io
from tasks.data.class_folders import THREADS, join_names
from tasks.data.decoding import progress
from tasks.data.geometry import IGNORE_LABEL
from tasks.segmentation import class_map
from tasks.segmentation.threshold_map import BINARY_CLASSES
from zoo.errors import UsageError
from zoo.lazy import np

MIN_INSTANCES = 3  # masks with values 1 to N for different N are refused if N reaches this
EXAMPLE_LINES = "lines such as 'ground,0,0,0' and 'object,255,255,255'"


def infer_class_map(masks, origin, listing, classes=(), flag=""):
    """Returns the `ClassMap` of masks without a class list.

    Args:
        masks: The items of the masks; all are read.
        origin: The folder or data set of the masks, for messages.
        listing: The path where a class list is expected, for messages.
        classes: The class names of a trained model, if there is one.
        flag: The flag that takes the path of the class list, if it is not found automatically.

    Raises:
        UsageError: A mask is color-coded, there is only one class, or the values have gaps, are
            instance ids, or are due to blurred edges.
    """
    if classes and classes == tuple(map(str, range(len(classes)))):
        return class_map.numbered_class_map(len(classes), origin)
    pixels, inner, counts = _count_all(masks, origin)
    values = sorted(pixels)
    if len(values) == 2 and values[0] == 0 and values[1] <= class_map.MAX_VALUE:
        return class_map.ClassMap(BINARY_CLASSES, {0: 0, values[1]: 1}, {}, origin)
    _check_values(origin, (listing, flag), pixels, inner, counts)
    return class_map.numbered_class_map(values[-1 - (IGNORE_LABEL in pixels)] + 1, origin)


def labels_of_pairs(masks, mapping, origin):
    """Returns a class map of two listed classes for masks of 0 and 255, or `mapping` for others.

    A class list without values means 0 and 1; in masks of 0 and 255 alone, 255 would be ignored.

    Args:
        masks: The items of the masks; all are read if the class list has two classes.
        mapping: The `class_map.ClassMap` of the class list.
        origin: The folder of the masks.
    """
    if mapping.values != {0: 0, 1: 1}:
        return mapping
    pixels, _, _ = _count_all(masks, origin)
    if np.setxor1d(list(pixels), [0, 255]).size:
        return mapping
    return class_map.ClassMap(mapping.classes, {0: 0, 255: 1}, {}, mapping.origin)


def _count_all(masks, origin):
    """Returns the pixels of each value, those that are interior, and the `_count_instances`.

    Raises:
        UsageError: No mask can be read.
    """
    pixels, inner, counts, errors = Counter(), Counter(), set(), []
    with ThreadPoolExecutor(THREADS) as pool:
        value_counts = progress(pool.map(_count_values, masks), len(masks), f"reading {origin}")
        for mask_pixels, mask_inner, error in value_counts:
            pixels.update(mask_pixels)
            inner.update(mask_inner)
            counts.add(_count_instances(mask_pixels))
            errors += [error] if error else []
    if errors and not pixels:
        raise UsageError(f"no mask of {origin} can be read; the first: {errors[0]}")
    return pixels, inner, counts


def _check_values(origin, class_list, pixels, inner, counts):
    """Raises `UsageError` if values cannot be classes as they are, with the reason and a fix."""
    values = sorted(set(pixels) - {IGNORE_LABEL})
    if len(values) < 2:
        ignored = f" and {IGNORE_LABEL}, which is ignored" if IGNORE_LABEL in pixels else ""
        raise UsageError(
            f"the masks of {origin} contain only {join_names(values) or 'nothing'}{ignored}; "
            f"expected two classes or more: values 0, 1, ..., or {EXAMPLE_LINES} in "
            f"{_list_location(*class_list)}"
        )
    if None not in counts and len(counts - {0}) > 1 and max(counts) >= MIN_INSTANCES:
        raise UsageError(
            f"the masks of {origin} seem to contain instance ids instead of classes: each has the "
            f"values 1 to N, and N ranges from {min(counts - {0})} to {max(counts)}; for a single "
            f"class set --threshold 0; if the values are classes, "
            f"{_class_list_hint(values, *class_list)}"
        )
    if class_map.is_blurred(pixels, inner):
        raise UsageError(
            f"the masks of {origin} contain {len(values)} values{class_map.BLURRED_HINT}"
        )
    if values[0] < 0 or values[-1] >= class_map.MAX_CLASSES:
        raise UsageError(
            f"the masks of {origin} contain values from {values[0]} to {values[-1]}; classes are 0 "
            f"to {class_map.MAX_CLASSES - 1}, and {IGNORE_LABEL} is ignored; if they are instance "
            "ids, save masks with the class of each object, or set --threshold 0 for a single class"
        )
    if values != list(range(len(values))):
        raise UsageError(
            f"the masks of {origin} contain {len(values)} values with gaps between them, "
            f"{join_names(values)}, and there is no class list; set --threshold for one object, or "
            f"{_class_list_hint(values, *class_list)}"
        )


def _list_location(listing, flag):
    return f"{listing}, passed with {flag}" if flag else str(listing)


def _class_list_hint(values, listing, flag):
    """Returns instructions for a class list, with a command that writes one."""
    lines = "".join(rf"{value},{value}\n" for value in values)
    return (
        f"write the class names and values into {_list_location(listing, flag)} (here the names "
        f"are the values): printf '{lines}' > {shlex.quote(str(listing))}"
    )


def _count_instances(pixels):
    """Returns N of a mask with the values 1 to N besides 0, or `None` for any other mask."""
    values = sorted(set(pixels) - {0})
    return len(values) if values == list(range(1, len(values) + 1)) else None


def _count_values(item):
    """Returns the number of pixels of each value in a mask, of those that are interior, an error.

    A mask that cannot be read is reported again when it is used.
    """
    try:
        values = class_map.read_values(item)
    except image_io.UnreadableImage as error:
        return {}, {}, str(error)
    return _value_counts(values), _value_counts(values[class_map.interior_pixels(values)]), ""


def _value_counts(values):
    if values.dtype == np.uint8:  # many times faster than sorting
        counts = np.bincount(values.reshape(-1))
        present = np.flatnonzero(counts)
        return dict(zip(present.tolist(), counts[present].tolist(), strict=True))
    return dict(zip(*(x.tolist() for x in np.unique(values, return_counts=True)), strict=True))
