"""Folders that are filled under another name, and get their own when they are complete.

The other name holds the host and the process. If the process was killed, the next one that writes
into the same parent removes what it left.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
from contextlib import contextmanager, suppress
from pathlib import Path

REPLACED = "replaced-"  # before the name of a folder that is about to be removed
NAME_PATTERN = re.compile(r"partial-(?P<host>.+)-(?P<process>\d+)-[0-9a-f]{8}-(?P<name>.+)")


@contextmanager
def partial_folder(folder):
    """Yields a folder that replaces `folder`, a `Path`, if the block succeeds; else is removed.

    Parents that are missing are created, and removed if the block fails.
    """
    missing = [path for path in (folder.parent, *folder.parent.parents) if not path.exists()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(folder.parent)
    partial = folder.with_name(partial_name(folder.name))
    try:
        partial.mkdir()
        yield partial
        if folder.exists():
            old = folder.with_name(partial_name(f"{REPLACED}{folder.name}"))
            os.replace(folder, old)
            os.replace(partial, folder)
            shutil.rmtree(old)
        else:
            os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        for path in missing:
            with suppress(OSError):  # it is not empty
                path.rmdir()


def partial_name(name):
    """Returns a new temporary name of this process for a folder called `name`."""
    return f"partial-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}-{name}"


def remove_abandoned(parent):
    """Removes the folders in `parent` of processes of this host that have ended.

    A folder that such a process was about to replace gets its name back if there is no other.
    """
    for path in Path(parent).glob("partial-*"):
        found = NAME_PATTERN.fullmatch(path.name)
        if not found or found["host"] != socket.gethostname() or _is_alive(int(found["process"])):
            continue
        own = path.with_name(found["name"].removeprefix(REPLACED))
        with suppress(OSError):
            if found["name"].startswith(REPLACED) and not own.exists():
                os.replace(path, own)
            else:
                shutil.rmtree(path)


def _is_alive(process):
    try:
        os.kill(process, 0)
    except PermissionError:  # a process of another user
        return True
    except (OSError, OverflowError):
        return False
    return True
