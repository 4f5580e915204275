"""Forms in which the name of a file is written in tables and annotations."""

from __future__ import annotations

import unicodedata

FORMS = ("NFC", "NFD")  # composed and decomposed; macOS decomposes accented letters


def forms(name):
    """Returns the forms of a name to look for, without repetition, the given one first.

    Backslashes may separate folders, and accented letters may be composed or decomposed.

    Args:
        name: A relative path.
    """
    names = [name, name.replace("\\", "/")]
    names += [unicodedata.normalize(form, names[-1]) for form in FORMS if not name.isascii()]
    return list(dict.fromkeys(names))


def find_file(folder, name):
    """Returns the path of a file below a folder, or where it is expected if it is missing."""
    paths = [folder / each for each in forms(name)]
    if len(paths) == 1:  # most names: the file system is not asked once more per image
        return paths[0]
    return next((path for path in paths if path.is_file()), folder / name.replace("\\", "/"))
