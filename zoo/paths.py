"""Reads regular files only: reading a named pipe or a device might never end."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from zoo.errors import UsageError

FILE_TYPES = {  # by the type in the mode, except regular files
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def special_file_type(path):
    """Returns the type of a path that is not a regular file, such as `a named pipe`.

    Symbolic links are followed.

    Args:
        path: any path.

    Returns:
        A description of the type. `""` for a regular file, and if the path does not exist or
        cannot be accessed.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return ""
    return "" if stat.S_ISREG(mode) else FILE_TYPES.get(stat.S_IFMT(mode), "a special file")


def expand_user(path):
    """Expands `~` and `~USER` in a path; returns it unchanged if there is no such home folder."""
    return Path(os.path.expanduser(path))


class NotARegularFileError(OSError, UsageError):
    """A path is not a regular file, so that reading it might never end."""

    def __init__(self, path, kind):
        super().__init__(errno.EINVAL, f"{kind}, not a regular file", str(path))

    def __str__(self):
        return f"{self.filename} is {self.strerror}"


def check_regular(path):
    """Returns a path as a `Path` if it is a regular file, a folder, or does not exist.

    Raises:
        NotARegularFileError: it is anything else. The error is also an `OSError`.
    """
    kind = special_file_type(path)
    if kind and not os.path.isdir(path):
        raise NotARegularFileError(path, kind)
    return Path(path)


def read_text(path):
    """Returns the text of a regular file in UTF-8, without a byte order mark.

    Raises:
        UsageError: the file cannot be read, or has another encoding.
    """
    try:
        return check_regular(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} is not encoded in UTF-8 (byte {error.object[error.start]:#x} at position "
            f"{error.start}); save it as UTF-8, in Excel as 'CSV UTF-8'"
        ) from error
    except NotARegularFileError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', error)}") from error
