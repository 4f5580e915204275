"""Files that are written completely or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

from zoo.errors import UsageError


@contextmanager
def atomic_write(path):
    """Gives another path to write to, and renames it to `path` when that went well.

    Losing power leaves the old file or the new one, whole. Of a symbolic link the file that it
    leads to is replaced; permissions are kept. What is no regular file, such as a device or a
    FIFO, is not replaced: the content is written to it.

    Args:
        path: the final name, whose folder is made; the other one has the same ending.

    Raises:
        UsageError: the disk is full or the folder cannot be written to.
    """
    try:
        target = Path(os.path.realpath(path))
        if target.exists() and not (target.is_file() or target.is_dir()):
            with _write_to_special_file(target) as partial:
                yield partial
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"partial-{secrets.token_hex(4)}-{target.name}")
        try:
            yield partial
            fsync_and_replace(partial, target)
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            f"{path} could not be written ({error.strerror or error}); what was there before is "
            "untouched"
        ) from error


@contextmanager
def _write_to_special_file(target):
    """Gives a path to write to, and writes what is there to a device or a FIFO that is read."""
    with tempfile.TemporaryDirectory() as folder:
        partial = Path(folder) / target.name
        yield partial
        quick = getattr(os, "O_NONBLOCK", 0)  # an error, not a wait, where nobody reads a FIFO
        file = os.open(target, os.O_WRONLY | quick)
        if quick:
            os.set_blocking(file, True)
        with open(file, "wb") as sink, partial.open("rb") as source:
            shutil.copyfileobj(source, sink)


def fsync_and_replace(partial, path):
    """Renames a complete file to `path`, having made sure that its content is on the disk.

    Without that, a power cut could leave the new name with nothing in it. The permissions of what
    was there are kept.

    Raises:
        OSError: the disk is full, or the folder cannot be written to.
    """
    _fsync(partial, os.O_RDWR)  # first: what is read-only cannot be opened so
    with suppress(FileNotFoundError, PermissionError):  # PermissionError: a disk without modes
        os.chmod(partial, stat.S_IMODE(os.stat(path).st_mode))
    os.replace(partial, path)
    with suppress(OSError):  # the name; not every system opens folders
        _fsync(Path(path).parent, os.O_RDONLY)


def _fsync(path, mode):
    file = os.open(path, mode | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(file)
    finally:
        os.close(file)


def write_text(path, text):
    """Writes a small file in one step."""
    with atomic_write(path) as partial:
        partial.write_text(text)
