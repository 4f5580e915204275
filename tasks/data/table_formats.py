"""Tables as rows of text: CSV with any delimiter, Parquet, and JSON lines."""

from __future__ import annotations

import csv
import io
import json
import math
import re

from zoo.errors import UsageError
from zoo.lazy import LazyModule
from zoo.paths import read_text

parquet = LazyModule("pyarrow.parquet")

DELIMITERS = (",", ";", "\t")
SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")
SEPARATOR_LINE = re.compile("sep=.", re.IGNORECASE)
LIST_SEPARATOR = "|"  # between the items of a list in a cell


def read(path, path_column):
    """Returns the column names, and a pair `(line number, row)` for each row that is not blank.

    Args:
        path: The `Path` of a file with one of `SUFFIXES`.
        path_column: The name of the column of images, by which the delimiter is found.

    Raises:
        UsageError: The file is damaged, or a library is missing.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _read_parquet(path)
    if suffix in (".jsonl", ".ndjson"):
        return _read_json_lines(path)
    return _read_csv(path, path_column)


def _read_csv(path, path_column):
    content = read_text(path)
    skipped, content = _without_separator_line(content)
    delimiter = _delimiter(content, path_column)
    options = {"skipinitialspace": True, "strict": True, "delimiter": delimiter}
    try:
        reader = csv.DictReader(io.StringIO(content, newline=""), restval="", **options)
        reader.fieldnames = [(name or "").strip().lower() for name in reader.fieldnames or ()]
        rows = [(reader.line_num + skipped, row) for row in reader]
    except csv.Error as error:
        raise UsageError(f"{path} is not a CSV file: {error}") from error
    _check_columns(path, [name for name in reader.fieldnames if name])
    rows = [
        (line, _strip_cells(row, f"{path}, line {line}", reader.fieldnames)) for line, row in rows
    ]
    return reader.fieldnames, [(line, row) for line, row in rows if any(row.values())]


def _without_separator_line(content):
    """Returns the number of lines `sep=;`, as Excel writes them, and the content without them."""
    first, _, rest = content.partition("\n")
    return (1, rest) if SEPARATOR_LINE.fullmatch(first.strip().strip('"')) else (0, content)


def _check_columns(path, names):
    """Raises `UsageError` if two columns have the same name."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"{path} has several columns named {twice[0]!r:.60}; rename one of them")


def _read_parquet(path):
    try:
        _ = parquet.read_table
    except ModuleNotFoundError as error:
        raise UsageError(f"{path} needs pyarrow: pip install 'keras-zoo[embed]'") from error
    try:
        names = [name.strip().lower() for name in parquet.read_schema(path).names]
        unique = len({*names}) == len(names)
        table = parquet.read_table(path) if unique else None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not a Parquet file, or damaged: {error}") from error
    _check_columns(path, names)
    columns = [[_to_text(value) for value in column.to_pylist()] for column in table.columns]
    rows = enumerate(zip(*columns, strict=True), start=1)
    return names, [(number, dict(zip(names, row, strict=True))) for number, row in rows]


def _read_json_lines(path):
    names, rows = {}, []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path}, line {number} is not JSON: {error}") from error
        if not isinstance(found, dict):
            raise UsageError(f"{path}, line {number} is not a JSON object: {line!r:.100}")
        row = {str(name).strip().lower(): _to_text(value) for name, value in found.items()}
        names |= dict.fromkeys(row)
        rows.append((number, row))
    return list(names), [(n, {**dict.fromkeys(names, ""), **row}) for n, row in rows]


def _to_text(value):
    """Returns a value as the text of a cell; lists are joined by `LIST_SEPARATOR`."""
    if isinstance(value, list):
        return LIST_SEPARATOR.join(map(str, value))
    is_missing = value is None or (isinstance(value, float) and math.isnan(value))
    return "" if is_missing else str(value).strip()


def _delimiter(content, path_column):
    """Returns the delimiter found in the first line of a table; a comma if in doubt."""
    head = content.lstrip().partition("\n")[0].lower()
    for sign in DELIMITERS:
        if path_column in [name.strip(' "\r') for name in head.split(sign)]:
            return sign
    return DELIMITERS[0]


def _strip_cells(row, location, names):
    """Returns a row with stripped cells, without empty cells beyond the header.

    Raises:
        UsageError: A cell beyond the header is not empty.
    """
    if extra := [cell for cell in row.pop(None, ()) if cell.strip()]:
        raise UsageError(
            f"{location} has more cells than the header ({len(names)}), such as {extra[0]!r:.60}; "
            "quote a cell that contains the separator"
        )
    return {name: cell.strip() for name, cell in row.items()}
