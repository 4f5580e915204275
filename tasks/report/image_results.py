"""Results of a model on each image of a split, stored as `predictions/DIGEST.csv` in the run.

The file is named by the digest of the split, so that two runs were evaluated on the same images if
both have a file of the same name.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.report.csv_cells import escape_row
from zoo.atomic_files import atomic_write
from zoo.errors import UsageError
from zoo.paths import check_regular

FOLDER = "predictions"
LEADING = ("index", "image")  # columns
# Columns whose mean over the images is a figure; all others are text.
FIGURES = (
    *("accuracy", "exact_match", "loss"),
    *("image_miou", "image_pixel_accuracy", "image_f1", "rouge_l", "cider"),
)
DIGEST_PATTERN = re.compile(r"\d+ examples, digest ([0-9a-f]{16})")
MAX_BYTES = 2**29  # of a file that is read


@dataclass(frozen=True)
class ImageResults:
    """Results of a model on the images of a split.

    Attributes:
        indices: The index of each image in the split.
        images: Titles of the images, such as their file names.
        columns: Values by column, one per image: numbers for `FIGURES`, text for others.
    """

    indices: Sequence[int]
    images: Sequence[str]
    columns: Mapping[str, Sequence]

    def __len__(self):
        return len(self.indices)

    @property
    def figures(self):
        """The names of the columns whose mean is a figure."""
        return [name for name in self.columns if name in FIGURES]


def of_examples(examples, columns):
    """Returns the `ImageResults` of decoded examples.

    Args:
        examples: `decoding.Examples`.
        columns: Values by column, in the order of the examples.
    """
    item_indices = examples.item_indices
    indices = range(len(examples)) if item_indices is None else map(int, item_indices)
    titles = [examples.title(index) for index in range(len(examples))]
    columns = {name: getattr(each, "tolist", lambda x=each: x)() for name, each in columns.items()}
    return ImageResults(list(indices), titles, columns)


def write(out, results, split_digest):
    """Writes results into a run folder.

    Args:
        out: The run folder, a `Path`.
        results: `ImageResults`, or `None` to write nothing.
        split_digest: The text of `data_fingerprint.split_digest` of the split.
    """
    found = DIGEST_PATTERN.fullmatch(split_digest or "")
    if results is None or not found:
        return
    with (
        atomic_write(out / FOLDER / f"{found[1]}.csv") as partial,
        partial.open("w", newline="", encoding="utf-8", errors="replace") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*LEADING, *results.columns])
        rows = zip(results.indices, results.images, *results.columns.values(), strict=True)
        writer.writerows(escape_row(map(_cell, row)) for row in rows)


def digests(out):
    """Returns the digests of the splits that a run folder has results of."""
    return {path.stem for path in (out / FOLDER).glob("*.csv") if path.is_file()}


def read(out, digest):
    """Returns the `ImageResults` of a run on the split with a digest.

    Raises:
        UsageError: The file is damaged.
    """
    path = out / FOLDER / f"{digest}.csv"
    try:
        if check_regular(path).stat().st_size > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES:,} bytes")
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        if tuple(header[:2]) != LEADING or len(set(header)) < len(header):
            raise ValueError(f"its columns are {', '.join(header)[:80]}")
        table = dict(zip(header, zip(*rows, strict=True), strict=True))
        numbers = {name: [*map(_number, table[name])] for name in header if name in FIGURES}
        indices = [int(index) for index in table.pop("index")]
        if len(set(indices)) < len(indices) or min(indices) < 0:
            raise ValueError("its indices are negative or repeated")
        return ImageResults(indices, table.pop("image"), {**table, **numbers})
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(
            f"{path} cannot be read ({error}); delete it, and `zoo evaluate {out}` writes it again"
        ) from error


def _cell(value):
    """Returns a number with 6 significant digits, text unchanged; NaN is an empty cell."""
    if not isinstance(value, float):
        return int(value) if isinstance(value, bool) else value
    return "" if math.isnan(value) else f"{value:.6g}"


def _number(text):
    return float(text) if text else math.nan
