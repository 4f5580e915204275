"""Class maps: the mapping from the values or the colors of a mask to class labels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tasks.data import image_io
from tasks.data.class_folders import join_names
from tasks.data.geometry import IGNORE_LABEL
from zoo.errors import UsageError
from zoo.lazy import np
from zoo.paths import read_text

VOID_NAMES = ("void", "ignore", "ignored", "unlabeled", "unlabelled")  # their pixels are ignored
MAX_CLASSES = 254
UNKNOWN_LABEL = 254  # in a lookup table: no class has this value
MAX_VALUE = 65535  # largest value of a class in a mask
MIN_INTERIOR_SHARE = 0.05  # smallest share of the pixels of a class inside regions, not at edges
MAX_THIN_CLASSES = 16  # up to this number of classes, all of them may be at edges only
MIN_BLURRED_VALUES = 3  # values at edges only from which a mask is considered blurred
BLURRED_HINT = (
    ", most of them only at the edges of regions: antialiasing, smooth resizing or JPEG mixed the "
    "labels; save the masks again without it (nearest-neighbor resizing, PNG), or, of background "
    "and one object, set --threshold 127"
)
SEPARATORS = re.compile(r"[,;\t]")  # of the cells of a line; spaces if there are none of these
EXPECTED_FORMAT = "expected one line per class, such as 'cat', or 'cat,128,0,64' with its color"
HEADER_WORDS = {"name", "class", "label", "value", "index", "id"}


@dataclass(frozen=True, eq=False)
class ClassMap:
    """The mapping from mask values or colors to labels.

    Attributes:
        classes: The class names. A label is an index into them.
        values: The label of each mask value; empty for color-coded masks.
        colors: The label of each `(red, green, blue)`; empty for masks of values.
        origin: The file or data set that defines the classes, for messages.
    """

    classes: tuple[str, ...]
    values: Mapping[int, int]
    colours: Mapping[tuple[int, int, int], int]
    origin: str

    def labels(self, item):
        """Returns the labels of a mask, uint8 `(height, width)`, with `IGNORE_LABEL` for void.

        The value 255 is void unless a class has it.

        Args:
            item: A path, encoded bytes or an array, as in `image_io.read_stored`.

        Raises:
            UnreadableImage: The mask is not an image, or is damaged.
            UsageError: The mask has a value or a color that no class has.
        """
        if self.colours:
            return self._labels_from_colours(item)
        stored = read_values(item)
        if stored.dtype == np.uint8:  # faster than indexing an array
            table = self._table[: IGNORE_LABEL + 1].tobytes()
            labels = np.frombuffer(stored.tobytes().translate(table), "uint8")
            labels = labels.reshape(stored.shape)
        else:
            outside = (stored < 0) | (stored >= len(self._table))
            labels = self._table[np.where(outside, 0, stored)]
            labels[outside] = UNKNOWN_LABEL
        if (labels == UNKNOWN_LABEL).any():
            _check_blurred(item, stored, labels == UNKNOWN_LABEL)
            row, column = np.argwhere(labels == UNKNOWN_LABEL)[0]
            raise UsageError(
                f"{image_io.item_name(item)} has the label {stored[row, column]} at x {column}, "
                f"y {row}{_shares(stored, labels == UNKNOWN_LABEL)}; {self.origin} has "
                f"{len(self.classes)} classes, labels "
                f"{min(self.values)} to {max(self.values)}, and {IGNORE_LABEL} for ignored pixels"
            )
        return labels

    @cached_property
    def _table(self):
        """The lookup table from values, 0 to 255 or more, to labels."""
        table = np.full(max(IGNORE_LABEL, *self.values) + 1, UNKNOWN_LABEL, "uint8")
        table[IGNORE_LABEL] = IGNORE_LABEL
        for value, label in self.values.items():
            table[value] = label
        return table

    @cached_property
    def _palette(self):
        """The packed colors, sorted, and their labels."""
        packed = np.array([_pack_rgb(colour) for colour in self.colours])
        order = np.argsort(packed)
        return packed[order], np.array(list(self.colours.values()), "uint8")[order]

    def _labels_from_colours(self, item):
        red, green, blue = np.moveaxis(
            image_io.read_stored(item, colours=True).astype("int32"), -1, 0
        )
        colours, labels = self._palette
        packed = _pack_rgb((red, green, blue))
        indices = np.searchsorted(colours, packed).clip(max=len(colours) - 1)
        unknown = colours[indices] != packed
        if unknown.any():
            _check_blurred(item, packed, unknown)
            row, column = np.argwhere(unknown)[0]
            colour = tuple(int(channel[row, column]) for channel in (red, green, blue))
            raise UsageError(
                f"{image_io.item_name(item)} has the color {colour} at x {column}, y {row}, which "
                f"{self.origin} does not list; it lists {join_names(self.colours)}"
                f"{_shares(packed, unknown, _unpack_rgb)}"
            )
        return labels[indices]


@dataclass(frozen=True, eq=False)
class Mask:
    """The mask of one image, read on demand.

    Attributes:
        item: A path, encoded bytes or an array.
        class_map: The mapping from its pixels to labels.
    """

    item: object
    class_map: ClassMap

    def read(self):
        """Returns the labels, uint8 `(height, width)`, see `ClassMap.labels`."""
        return self.class_map.labels(self.item)

    @property
    def name(self):
        """The name of the mask in messages."""
        return image_io.item_name(self.item)


def numbered_class_map(count, origin):
    """Returns the class map of values 0 to `count` - 1, whose names are the values."""
    names = tuple(str(value) for value in range(count))
    return ClassMap(names, {value: value for value in range(count)}, {}, origin)


def read_values(item):
    """Returns the values of a mask `(height, width)`.

    Raises:
        UsageError: The mask is color-coded.
    """
    stored = image_io.read_stored(item)
    if stored.ndim == 3:
        raise UsageError(
            f"{image_io.item_name(item)} is a color-coded mask; list the classes in a file "
            "classes.csv next to the images, one line per class, such as 'cat,128,0,64'"
        )
    return stored


def interior_pixels(values):
    """Returns which pixels equal all four neighbors, bool of the same shape."""
    interior = np.zeros(values.shape, bool)
    centre = values[1:-1, 1:-1]
    neighbours = (values[:-2, 1:-1], values[2:, 1:-1], values[1:-1, :-2], values[1:-1, 2:])
    interior[1:-1, 1:-1] = np.logical_and.reduce([centre == other for other in neighbours])
    return interior


def is_blurred(pixels, inner):
    """Returns whether most values are at the edges of regions only, as after antialiasing.

    Up to `MAX_THIN_CLASSES` thin classes with consecutive values are accepted, and ignored pixels
    do not count.

    Args:
        pixels: The number of pixels of each value.
        inner: The number of these that are `interior_pixels`.
    """
    values = [value for value in pixels if value != IGNORE_LABEL]
    edges = [value for value in values if inner.get(value, 0) < MIN_INTERIOR_SHARE * pixels[value]]
    suspicious = len(values) > MAX_THIN_CLASSES or max(values) >= len(values)
    return suspicious and len(values) > len(edges) > max(MIN_BLURRED_VALUES - 1, len(values) / 2)


def read(path):
    """Reads a class map from a file.

    The file has one line per class, in the order of the labels: its name alone, where the value in
    masks is the index of the line, from 0; its name and a value; or its name and a color as red,
    green and blue from 0 to 255. Cells are separated by commas, semicolons, tabs or else spaces.
    The first line may be a header. Lines that begin with `#` are comments. A name on several lines
    is one class with several values or colors. Pixels of `void`, `ignore` and `unlabeled` are
    ignored.

    Args:
        path: The path of the file.

    Returns:
        A `ClassMap`.

    Raises:
        UsageError: The format differs, or there are fewer than 2 or more than `MAX_CLASSES`
            classes.
    """
    rows = _rows(Path(path))
    kinds = {len(numbers) for _, _, numbers in rows}
    if len(kinds) > 1 or not kinds <= {0, 1, 3}:
        line = next((line for line, _, found in rows if len(found) != len(rows[0][2])), rows[0][0])
        raise UsageError(
            f"{path}, line {line}: not the same cells as in the other lines; {EXPECTED_FORMAT}"
        )
    names = [name for _, name, _ in rows]
    classes = tuple(dict.fromkeys(name for name in names if name.lower() not in VOID_NAMES))
    if not 2 <= len(classes) <= MAX_CLASSES:
        raise UsageError(f"{path} has {len(classes)} classes; expected 2 to {MAX_CLASSES}")
    labels = {}
    for index, (line, name, numbers) in enumerate(rows):
        numbers = numbers or (index,)
        if max(numbers) > 255 or numbers in labels:
            problem = "is listed twice" if numbers in labels else "is above 255"
            raise UsageError(f"{path}, line {line}: {_describe_value(numbers)} {problem}")
        labels[numbers] = classes.index(name) if name in classes else IGNORE_LABEL
    if kinds == {3}:
        return ClassMap(classes, {}, labels, str(path))
    return ClassMap(classes, {value: label for (value,), label in labels.items()}, {}, str(path))


def _rows(path):
    """Returns `(line number, class name, numbers)` of each class."""
    rows = []
    for line, text in enumerate(read_text(path).splitlines(), 1):
        cells = SEPARATORS.split(text) if SEPARATORS.search(text) else text.split()
        cells = [part for cell in cells for part in _split_cell(cell.strip())]
        if not cells or cells[0].startswith("#") or (not rows and _is_header(cells)):
            continue
        numbers = tuple(int(cell) for cell in cells if cell.isdecimal())
        name = " ".join(cell for cell in cells if not cell.isdecimal())
        if not name and len(cells) in (2, 4):  # a name that is a number
            name, numbers = cells[0], numbers[1:]
        rows.append((line, name, numbers) if name else (line, " ".join(cells), ()))
    if not rows:
        raise UsageError(f"{path} lists no class; {EXPECTED_FORMAT}")
    return rows


def _split_cell(cell):
    """Returns the cell, or its numbers if it has nothing else."""
    return cell.split() if all(part.isdecimal() for part in cell.split()) else [cell]


def _is_header(cells):
    """Returns whether cells are column names."""
    words = {cell.lower() for cell in cells}
    return words >= {"r", "g", "b"} or words >= {"red", "green", "blue"} or words <= HEADER_WORDS


def _pack_rgb(colour):
    """Returns a color as one integer."""
    red, green, blue = colour
    return red << 16 | green << 8 | blue


def _unpack_rgb(packed):
    """Returns the color of an integer of `_pack_rgb`."""
    return packed >> 16, packed >> 8 & 255, packed & 255


def _shares(values, unknown, name=int):
    """Returns the number of unknown values of a mask and their shares of its pixels, as text."""
    found, pixels = np.unique(values[unknown], return_counts=True)
    order = np.argsort(-pixels, kind="stable")
    each = [f"{name(int(found[i]))} {pixels[i] / values.size:.2%}" for i in order]
    return f" ({len(found)} such: {join_names(each)})"


def _describe_value(numbers):
    return f"the color {numbers}" if len(numbers) == 3 else f"the number {numbers[0]}"


def _check_blurred(item, values, unknown):
    """Raises `UsageError` if most unknown values of a mask are due to blurred edges."""
    found, pixels = np.unique(values[unknown], return_counts=True)
    around = values[unknown & interior_pixels(values)]
    inner = dict(zip(*np.unique(around, return_counts=True), strict=True))
    edges = [
        v
        for v, count in zip(found, pixels, strict=True)
        if inner.get(v, 0) < MIN_INTERIOR_SHARE * count
    ]
    if len(edges) >= max(MIN_BLURRED_VALUES, len(found) / 2) and interior_pixels(values).any():
        raise UsageError(
            f"{image_io.item_name(item)} has {len(found)} values or colors of no "
            f"class{BLURRED_HINT}"
        )
