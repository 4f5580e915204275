"""Options in the name of a data set, after a `#`: `scans#pages=all,min-per-class=3`."""

from __future__ import annotations

from zoo.errors import UsageError
from zoo.paths import expand_user

PAGES, MIN_PER_CLASS, ENCODING = "pages", "min-per-class", "encoding"
NAMES = (PAGES, MIN_PER_CLASS, ENCODING)


def split_name(name):
    """Returns the path of a data set, the text of its columns, and its options, a dict.

    Args:
        name: The name, such as `table.csv#path=file,pages=all`. A file or folder may itself have
            a `#` in its name.
    """
    path = expand_user(name)
    if "#" not in name or path.exists():
        return path, "", {}
    path, _, text = name.rpartition("#")
    parts = [part.partition("=") for part in text.split(",")]
    options = {key: value for key, _, value in parts if key in NAMES}
    columns = ",".join("".join(part) for part in parts if part[0] not in NAMES)
    return expand_user(path), columns, options


def check_absent(name, texts):
    """Raises `UsageError` if the name of a data set has options that it cannot have.

    Args:
        name: The name.
        texts: The options that it cannot have; those that are not passed are empty.
    """
    if found := [text for text in texts if text]:
        raise UsageError(
            f"{name}: {found[0]!r:.60} is not an option of this data set; a folder of images takes "
            f"{PAGES}=all, first or a number; that of class folders and a table also "
            f"{MIN_PER_CLASS}=N, a table path=COLUMN,label=COLUMN, and a .zip {ENCODING}=gbk"
        )
