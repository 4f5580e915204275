"""Atomic writes: a file is written completely or not at all."""

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
    """Yields a temporary path to write to, and renames it to `path` if the block succeeds.

    After a power failure, either the old or the new file is there, complete. The target of a
    symbolic link is replaced, not the link; permissions are kept. A special file, such as a device
    or a FIFO, is not replaced: the content is written to it.

    Args:
        path: the final path; its folder is created. The temporary path has the same ending.

    Raises:
        UsageError: the disk is full, or the folder cannot be written to.
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
            f"{path} could not be written ({error.strerror or error}); an earlier file is untouched"
        ) from error


@contextmanager
def _write_to_special_file(target):
    """Yields a temporary path, and writes its content to a device or FIFO after the block."""
    with tempfile.TemporaryDirectory() as folder:
        partial = Path(folder) / target.name
        yield partial
        # A FIFO without a reader is an error; without this flag, `open` would wait for one.
        nonblock = getattr(os, "O_NONBLOCK", 0)
        file = os.open(target, os.O_WRONLY | nonblock)
        if nonblock:
            os.set_blocking(file, True)
        with open(file, "wb") as sink, partial.open("rb") as source:
            shutil.copyfileobj(source, sink)


def fsync_and_replace(partial, path):
    """Renames a complete file to `path` after writing its content to the disk.

    Without `fsync`, a power failure could leave an empty file under the new name. The permissions
    of an existing file are kept.

    Raises:
        OSError: the disk is full, or the folder cannot be written to.
    """
    _fsync(partial, os.O_RDWR)  # before `chmod`, as a read-only file cannot be opened for writing
    with suppress(FileNotFoundError, PermissionError):  # PermissionError: no modes on this disk
        os.chmod(partial, stat.S_IMODE(os.stat(path).st_mode))
    os.replace(partial, path)
    with suppress(OSError):  # the new name; some systems cannot open a folder
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
