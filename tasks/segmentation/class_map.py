"""What the numbers or the colours of a mask stand for, and the masks that are read by it."""

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

VOID_NAMES = ("void", "ignore", "ignored", "unlabeled", "unlabelled")  # names of what is no class
MAX_CLASSES = 254  # classes
UNKNOWN_LABEL = 254  # in a table: the label of a number that no class has
MAX_VALUE = 65535  # largest number that a class may have
MIN_INTERIOR_SHARE = (
    0.05  # least share of a class's pixels that lie inside its regions, not at their edges
)
MAX_THIN_CLASSES = 16  # as many classes may be at edges only
MIN_BLURRED_VALUES = 3  # numbers that are at edges only, from which on masks are taken for blurred
BLURRED_HINT = (
    ", most of them only at the edges of regions: antialiasing, smooth resizing or JPEG mixed the "
    "labels; save masks anew without it (resize by nearest neighbour, as PNG), or set a threshold, "
    "such as 255 * (mask > 127)"
)
SEPARATORS = re.compile(r"[,;\t]")  # cells of a line; blanks where there are none of these
EXPECTED_FORMAT = "needed: a line for each class, such as 'cat', or 'cat,128,0,64' with its colour"


@dataclass(frozen=True, eq=False)
class ClassMap:
    """What the pixels of masks stand for.

    Attributes:
        classes: their names; a label is a position in them.
        values: the label of each number, or of none.
        colours: the label of each `(red, green, blue)`; if there are any, masks are in colours.
        origin: where this is said, for messages.
    """

    classes: tuple[str, ...]
    values: Mapping[int, int]
    colours: Mapping[tuple[int, int, int], int]
    origin: str

    def labels(self, item):
        """Returns the labels of a mask, uint8 `(height, width)`, `IGNORED` for what has none.

        The number 255 is ignored unless a class has it.

        Args:
            item: what `image_io.read_stored` reads.

        Raises:
            UnreadableImage: it is no image, or a damaged one.
            UsageError: it has a number or a colour that no class has.
        """
        if self.colours:
            return self._labels_from_colours(item)
        stored = numbers(item)
        if stored.dtype == np.uint8:  # faster than an array as index
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
                f"y {row}; {self.origin} has {len(self.classes)} classes, labels "
                f"{min(self.values)} to {max(self.values)}, and {IGNORE_LABEL} for what is ignored"
            )
        return labels

    @cached_property
    def _table(self):
        """Labels by number, from 0 to 255 or more."""
        table = np.full(max(IGNORE_LABEL, *self.values) + 1, UNKNOWN_LABEL, "uint8")
        table[IGNORE_LABEL] = IGNORE_LABEL
        for value, label in self.values.items():
            table[value] = label
        return table

    @cached_property
    def _palette(self):
        """All colours as one number each, in order, and their labels."""
        numbers = np.array([_pack_rgb(colour) for colour in self.colours])
        order = np.argsort(numbers)
        return numbers[order], np.array(list(self.colours.values()), "uint8")[order]

    def _labels_from_colours(self, item):
        red, green, blue = np.moveaxis(
            image_io.read_stored(item, colours=True).astype("int32"), -1, 0
        )
        colours, labels = self._palette
        found = _pack_rgb((red, green, blue))
        places = np.searchsorted(colours, found).clip(max=len(colours) - 1)
        unknown = colours[places] != found
        if unknown.any():
            _check_blurred(item, found, unknown)
            row, column = np.argwhere(unknown)[0]
            colour = tuple(int(part[row, column]) for part in (red, green, blue))
            raise UsageError(
                f"{image_io.item_name(item)} has the colour {colour} at x {column}, y {row}, which "
                f"{self.origin} does not list; it lists {join_names(self.colours)}"
            )
        return labels[places]


@dataclass(frozen=True, eq=False)
class Mask:
    """The mask of one image, read when asked for.

    Attributes:
        item: path of a file, encoded bytes, or an array.
        key: what its pixels stand for.
    """

    item: object
    class_map: ClassMap

    def read(self):
        """Returns the labels, uint8 `(height, width)`, as `Key.labels` does."""
        return self.class_map.labels(self.item)

    @property
    def name(self):
        """What to call the mask in a message."""
        return image_io.item_name(self.item)


def numbered_class_map(count, origin):
    """Returns the key of masks of numbers from 0, whose classes have no names but these."""
    names = tuple(str(value) for value in range(count))
    return ClassMap(names, {value: value for value in range(count)}, {}, origin)


def numbers(item):
    """Returns the numbers of a mask `(height, width)`; raises `UsageError` for one in colours."""
    stored = image_io.read_stored(item)
    if stored.ndim == 3:
        raise UsageError(
            f"{image_io.item_name(item)} is a mask in colours; say what they stand for in a file "
            "classes.csv beside the images, a line such as 'cat,128,0,64' for each class"
        )
    return stored


def interior_pixels(numbers):
    """Returns which pixels have the number of all four neighbours, bool of the same shape."""
    found = np.zeros(numbers.shape, bool)
    middle = numbers[1:-1, 1:-1]
    around = (numbers[:-2, 1:-1], numbers[2:, 1:-1], numbers[1:-1, :-2], numbers[1:-1, 2:])
    found[1:-1, 1:-1] = np.logical_and.reduce([middle == other for other in around])
    return found


def is_blurred(pixels, inner):
    """Tells whether most numbers of masks are at edges only, as antialiasing leaves them.

    A few thin classes without gaps between their numbers, and what is ignored, are not meant.

    Args:
        pixels: how many pixels have each number.
        inner: how many of these are `inside` a region.
    """
    values = [value for value in pixels if value != IGNORE_LABEL]
    edges = [value for value in values if inner.get(value, 0) < MIN_INTERIOR_SHARE * pixels[value]]
    some = len(values) > MAX_THIN_CLASSES or max(values) >= len(values)
    return some and len(values) > len(edges) > max(MIN_BLURRED_VALUES - 1, len(values) / 2)


def read(path):
    """Reads a key from a file.

    It has a line for each class, in order: its name alone, if a mask holds the number of the
    line, counted from 0; its name and a number; or its name and a colour, red, green and blue
    from 0 to 255. Cells are separated by commas, semicolons, tabs or else blanks, a first line may
    name them, and lines that begin with `#` are passed over. A name that stands twice is one
    class with two numbers or colours; `void`, `ignore` and `unlabeled` are no class.

    Raises:
        UsageError: the file is something else, or has less than two classes or more than `MOST`.
    """
    rows = _rows(Path(path))
    kinds = {len(numbers) for _, _, numbers in rows}
    if len(kinds) > 1 or not kinds <= {0, 1, 3}:
        line = next((line for line, _, found in rows if len(found) != len(rows[0][2])), rows[0][0])
        raise UsageError(
            f"{path}, line {line}: other cells than those of a class; {EXPECTED_FORMAT}"
        )
    names = [name for _, name, _ in rows]
    classes = tuple(dict.fromkeys(name for name in names if name.lower() not in VOID_NAMES))
    if not 2 <= len(classes) <= MAX_CLASSES:
        raise UsageError(f"{path} has {len(classes)} classes; a mask has 2 to {MAX_CLASSES}")
    known = {}
    for place, (line, name, numbers) in enumerate(rows):
        numbers = numbers or (place,)
        if max(numbers) > 255 or numbers in known:
            what = "stands twice" if numbers in known else "is beyond 255"
            raise UsageError(f"{path}, line {line}: {_describe_value(numbers)} {what}")
        known[numbers] = classes.index(name) if name in classes else IGNORE_LABEL
    if kinds == {3}:
        return ClassMap(classes, {}, known, str(path))
    return ClassMap(classes, {value: label for (value,), label in known.items()}, {}, str(path))


def _rows(path):
    """Returns `(line, name, numbers)` of each class."""
    rows = []
    for line, text in enumerate(read_text(path).splitlines(), 1):
        cells = SEPARATORS.split(text) if SEPARATORS.search(text) else text.split()
        cells = [part for cell in cells for part in _split_cell(cell.strip())]
        if not cells or cells[0].startswith("#") or (not rows and _is_header(cells)):
            continue
        numbers = tuple(int(cell) for cell in cells if cell.isdecimal())
        words = " ".join(cell for cell in cells if not cell.isdecimal())
        if not words and len(cells) in (2, 4):  # a name that is a number
            words, numbers = cells[0], numbers[1:]
        rows.append((line, words, numbers) if words else (line, " ".join(cells), ()))
    if not rows:
        raise UsageError(f"{path} names no class; {EXPECTED_FORMAT}")
    return rows


def _split_cell(cell):
    """Returns what is in a cell: a name as it is, numbers each for itself."""
    return cell.split() if all(part.isdecimal() for part in cell.split()) else [cell]


def _is_header(cells):
    """Tells whether cells are names of columns."""
    words = {cell.lower() for cell in cells}
    return words >= {"r", "g", "b"} or words >= {"red", "green", "blue"} or words <= HEADER_WORDS


HEADER_WORDS = {"name", "class", "label", "value", "index", "id"}


def _pack_rgb(colour):
    red, green, blue = colour
    return red << 16 | green << 8 | blue


def _describe_value(numbers):
    return f"the colour {numbers}" if len(numbers) == 3 else f"the number {numbers[0]}"


def _check_blurred(item, numbers, unknown):
    """Raises `UsageError` where most strange numbers of a mask come from blurred edges."""
    values, pixels = np.unique(numbers[unknown], return_counts=True)
    around = numbers[unknown & interior_pixels(numbers)]
    inner = dict(zip(*np.unique(around, return_counts=True), strict=True))
    edges = [
        v
        for v, count in zip(values, pixels, strict=True)
        if inner.get(v, 0) < MIN_INTERIOR_SHARE * count
    ]
    if len(edges) >= max(MIN_BLURRED_VALUES, len(values) / 2) and interior_pixels(numbers).any():
        raise UsageError(
            f"{image_io.item_name(item)} has {len(values)} numbers or colours of no "
            f"class{BLURRED_HINT}"
        )
