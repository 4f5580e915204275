"""What the numbers of masks must mean where no list of classes gives their names.

Numbers 0, 1, 2, ... are classes, and 0 with one other number is background and object. Anything
else might be classes with gaps, numbered objects or blurred edges, none of which can be trained
on as it is: it is refused with what to do.
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
from zoo.errors import UsageError
from zoo.lazy import np

BINARY_CLASSES = ("background", "object")
MIN_INSTANCES = 3  # masks that hold 1 to N, N differing, are asked about from this N on
EXAMPLE_LINES = "lines such as 'ground,0,0,0' and 'object,255,255,255'"


def infer_class_map(masks, origin, listing, classes=(), flag=""):
    """Returns the `Key` of masks that hold numbers without names.

    Args:
        masks: their items; all are read.
        origin: where they are, for messages.
        listing: path where a list of classes would be looked for, for messages.
        classes: names that a trained model has for such numbers, where there is one.
        flag: that must name the list, where it is not found by itself.

    Raises:
        UsageError: a mask is in colours, there is one class only, or the numbers have gaps, count
            objects, or come from blurred edges.
    """
    if classes and classes == tuple(map(str, range(len(classes)))):
        return class_map.numbered_class_map(len(classes), origin)
    with ThreadPoolExecutor(THREADS) as pool:
        found = progress(pool.map(_count_values, masks), len(masks), f"looking at {origin}")
        pixels, inner, counts = Counter(), Counter(), set()
        for every, inside in found:
            pixels.update(every)
            inner.update(inside)
            counts.add(_count_instances(every))
    values = sorted(pixels)
    if len(values) == 2 and values[0] == 0 and values[1] <= class_map.MAX_VALUE:
        return class_map.ClassMap(BINARY_CLASSES, {0: 0, values[1]: 1}, {}, origin)
    _check_numbers(origin, (listing, flag), pixels, inner, counts)
    return class_map.numbered_class_map(values[-1 - (IGNORE_LABEL in pixels)] + 1, origin)


def _check_numbers(origin, place, pixels, inner, counts):
    """Refuses numbers that cannot be classes as they are, with the reason and what to do."""
    values = sorted(set(pixels) - {IGNORE_LABEL})
    if len(values) < 2:
        also = f" and {IGNORE_LABEL}, which is ignored" if IGNORE_LABEL in pixels else ""
        raise UsageError(
            f"the masks of {origin} hold only {join_names(values) or 'nothing'}{also}; needed are "
            "two "
            f"classes or more: numbers 0, 1, ..., or {EXAMPLE_LINES} in {_list_location(*place)}"
        )
    if None not in counts and len(counts - {0}) > 1 and max(counts) >= MIN_INSTANCES:
        raise UsageError(
            f"the masks of {origin} seem to number objects (instances) and not classes: each holds "
            f"1 to N, and N differs from {min(counts - {0})} to {max(counts)}; for one class of "
            f"objects save them as 0 and 1, such as (mask > 0); if the numbers are classes, "
            f"{_class_list_hint(values, *place)}"
        )
    if class_map.is_blurred(pixels, inner):
        raise UsageError(
            f"the masks of {origin} hold {len(values)} numbers{class_map.BLURRED_HINT}"
        )
    if values[0] < 0 or values[-1] >= class_map.MAX_CLASSES:
        raise UsageError(
            f"the masks of {origin} hold numbers from {values[0]} to {values[-1]}; classes are 0 "
            f"to {class_map.MAX_CLASSES - 1}, and {IGNORE_LABEL} is ignored; if they number "
            "objects "
            "(instances), save masks with the number of each object's class"
        )
    if values != list(range(len(values))):
        raise UsageError(
            f"the masks of {origin} hold {len(values)} numbers with gaps between them, "
            f"{join_names(values)}, and no list of classes explains them; "
            f"{_class_list_hint(values, *place)}"
        )


def _list_location(listing, flag):
    return f"{listing}, which {flag} names" if flag else str(listing)


def _class_list_hint(values, listing, flag):
    """Returns how to write a list of classes, ready to be run; the first cell is a name."""
    lines = "".join(rf"{value},{value}\n" for value in values)
    return (
        f"write their names and numbers into {_list_location(listing, flag)} (here the names are "
        "the "
        f"numbers): printf '{lines}' > {shlex.quote(str(listing))}"
    )


def _count_instances(pixels):
    """Returns N of a mask that holds 1 to N besides 0, or `None` for any other."""
    values = sorted(set(pixels) - {0})
    return len(values) if values == list(range(1, len(values) + 1)) else None


def _count_values(item):
    """Returns how many pixels of a mask have each number, and how many of them inside a region."""
    try:
        numbers = class_map.numbers(item)
    except image_io.UnreadableImage:  # reported when the mask is used
        return {}, {}
    return _value_counts(numbers), _value_counts(numbers[class_map.interior_pixels(numbers)])


def _value_counts(numbers):
    if numbers.dtype == np.uint8:  # many times faster than to sort them
        counts = np.bincount(numbers.reshape(-1))
        values = np.flatnonzero(counts)
        return dict(zip(values.tolist(), counts[values].tolist(), strict=True))
    return dict(zip(*(x.tolist() for x in np.unique(numbers, return_counts=True)), strict=True))
