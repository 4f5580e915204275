"""Which paths may be read: regular files, for a named pipe or a device may never end."""

from __future__ import annotations

import os
import stat

KINDS = {  # of what is not a regular file, by the type in its mode
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def irregular(path):
    """Returns what a path is if it is there and not a regular file, such as `a named pipe`.

    Links are followed.

    Args:
        path: any path.

    Returns:
        `""` for a regular file, and for a path where nothing is or that cannot be looked at.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return ""
    return "" if stat.S_ISREG(mode) else KINDS.get(stat.S_IFMT(mode), "a special file")
