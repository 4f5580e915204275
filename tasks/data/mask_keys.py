"""What the numbers or the colours of a mask stand for, and the masks that are read by it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tasks.data import readers
from tasks.data.folders import listed
from tasks.data.geometry import IGNORED
from zoo.errors import UsageError
from zoo.lazy import np
from zoo.paths import regular

VOID = ("void", "ignore", "ignored", "unlabeled", "unlabelled")  # names of what is no class
MOST = 254  # classes
UNKNOWN = 254  # in a table: the label of a number that no class has
BETWEEN = re.compile(r"[,;\t]")  # cells of a line; blanks where there are none of these
NEEDED = "needed: a line for each class, such as 'cat', or 'cat,128,0,64' with its colour"


@dataclass(frozen=True, eq=False)
class Key:
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
            item: what `readers.stored` reads.

        Raises:
            UnreadableImage: it is no image, or a damaged one.
            UsageError: it has a number or a colour that no class has.
        """
        if self.colours:
            return self._of_colours(item)
        numbers = readers.stored(item)
        if numbers.ndim == 3:
            raise UsageError(
                f"{readers.name(item)} is a mask in colours; say what they stand for in a file "
                "classes.csv beside the images, a line such as 'cat,128,0,64' for each class"
            )
        if numbers.dtype == np.uint8:  # faster than an array as index
            labels = np.frombuffer(numbers.tobytes().translate(self._table.tobytes()), "uint8")
            labels = labels.reshape(numbers.shape)
        else:
            outside = (numbers < 0) | (numbers > IGNORED)
            labels = self._table[np.where(outside, 0, numbers)]
            labels[outside] = UNKNOWN
        if (labels == UNKNOWN).any():
            row, column = np.argwhere(labels == UNKNOWN)[0]
            raise UsageError(
                f"{readers.name(item)} has the label {numbers[row, column]} at x {column}, "
                f"y {row}; {self.origin} has {len(self.classes)} classes, labels "
                f"{min(self.values)} to {max(self.values)}, and {IGNORED} for what is ignored"
            )
        return labels

    @cached_property
    def _table(self):
        """Labels by number, 0 to 255."""
        table = np.full(256, UNKNOWN, "uint8")
        table[IGNORED] = IGNORED
        for value, label in self.values.items():
            table[value] = label
        return table

    @cached_property
    def _palette(self):
        """All colours as one number each, in order, and their labels."""
        numbers = np.array([_packed(colour) for colour in self.colours])
        order = np.argsort(numbers)
        return numbers[order], np.array(list(self.colours.values()), "uint8")[order]

    def _of_colours(self, item):
        red, green, blue = np.moveaxis(readers.stored(item, colours=True).astype("int32"), -1, 0)
        colours, labels = self._palette
        found = _packed((red, green, blue))
        places = np.searchsorted(colours, found).clip(max=len(colours) - 1)
        strange = colours[places] != found
        if strange.any():
            row, column = np.argwhere(strange)[0]
            colour = tuple(int(part[row, column]) for part in (red, green, blue))
            raise UsageError(
                f"{readers.name(item)} has the colour {colour} at x {column}, y {row}, which "
                f"{self.origin} does not list; it lists {listed(self.colours)}"
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
    key: Key

    def read(self):
        """Returns the labels, uint8 `(height, width)`, as `Key.labels` does."""
        return self.key.labels(self.item)

    @property
    def name(self):
        """What to call the mask in a message."""
        return readers.name(self.item)


def numbered(count, origin):
    """Returns the key of masks of numbers from 0, whose classes have no names but these."""
    names = tuple(str(value) for value in range(count))
    return Key(names, {value: value for value in range(count)}, {}, origin)


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
        raise UsageError(f"{path}, line {line}: other cells than those of a class; {NEEDED}")
    names = [name for _, name, _ in rows]
    classes = tuple(dict.fromkeys(name for name in names if name.lower() not in VOID))
    if not 2 <= len(classes) <= MOST:
        raise UsageError(f"{path} has {len(classes)} classes; a mask has 2 to {MOST}")
    known = {}
    for place, (line, name, numbers) in enumerate(rows):
        numbers = numbers or (place,)
        if max(numbers) > 255 or numbers in known:
            what = "stands twice" if numbers in known else "is beyond 255"
            raise UsageError(f"{path}, line {line}: {_written(numbers)} {what}")
        known[numbers] = classes.index(name) if name in classes else IGNORED
    if kinds == {3}:
        return Key(classes, {}, known, str(path))
    return Key(classes, {value: label for (value,), label in known.items()}, {}, str(path))


def _rows(path):
    """Returns `(line, name, numbers)` of each class."""
    try:
        lines = regular(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as a list of classes: {error}") from error
    rows = []
    for line, text in enumerate(lines, 1):
        cells = BETWEEN.split(text) if BETWEEN.search(text) else text.split()
        cells = [part for cell in cells for part in _parts(cell.strip())]
        if not cells or cells[0].startswith("#") or (not rows and _is_header(cells)):
            continue
        numbers = tuple(int(cell) for cell in cells if cell.isdecimal())
        words = " ".join(cell for cell in cells if not cell.isdecimal())
        rows.append((line, words, numbers) if words else (line, " ".join(cells), ()))
    if not rows:
        raise UsageError(f"{path} names no class; {NEEDED}")
    return rows


def _parts(cell):
    """Returns what is in a cell: a name as it is, numbers each for itself."""
    return cell.split() if all(part.isdecimal() for part in cell.split()) else [cell]


def _is_header(cells):
    """Tells whether cells are names of columns."""
    words = {cell.lower() for cell in cells}
    return words >= {"r", "g", "b"} or words >= {"red", "green", "blue"} or words <= HEADER


HEADER = {"name", "class", "label", "value", "index", "id"}


def _packed(colour):
    red, green, blue = colour
    return red << 16 | green << 8 | blue


def _written(numbers):
    return f"the colour {numbers}" if len(numbers) == 3 else f"the number {numbers[0]}"
