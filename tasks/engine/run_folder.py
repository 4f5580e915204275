"""The folder of a run: its name, its lock while a process trains in it, what a refusal leaves."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
from contextlib import ExitStack, contextmanager, suppress

from zoo import file_lock
from zoo.errors import UsageError

LOCK, OWNER = ".lock", ".lock.owner"
OWN_FILES = (LOCK, f"{LOCK}ed", OWNER)  # names that a folder may hold before it is a run's
MAX_NAME_BYTES = 160  # bytes of a name that we make up; file systems take 255


@contextmanager
def lock_folder(out, saved):
    """Holds a run's folder, which is made, for this process alone.

    Where the block ends by a `UsageError` before anything was saved, what it left there goes again,
    the folder too if it was not there before.

    Args:
        out: a `Path`.
        saved: a function without arguments that returns whether something worth keeping is there.

    Raises:
        UsageError: another process holds it, or it cannot be made.
    """
    with ExitStack() as stack:
        with folder_errors(out):
            missing = [path for path in (out, *out.parents) if not path.exists()]
            out.mkdir(parents=True, exist_ok=True)
            stack.callback(_remove_empty, missing)
            before = {path.name for path in out.iterdir()}
            stack.enter_context(file_lock.hold_lock(out / LOCK, lambda: _refuse(out)))
        stack.callback((out / OWNER).unlink, missing_ok=True)
        with suppress(OSError):
            (out / OWNER).write_text(f"process {os.getpid()} on {socket.gethostname()}")
        try:
            yield
        except UsageError:
            if not saved():
                _remove_new_files(out, {*before, *OWN_FILES})
            raise


@contextmanager
def folder_errors(out):
    """Says what is wrong with a folder that the system does not let us look into or make."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a NUL character
        if isinstance(error, UsageError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"--out {_shortened(out)} cannot be used: {reason}; choose another"
        ) from error


def file_name(words, digest_of=""):
    """Returns a file name made of words.

    Args:
        words: of which characters that file names should not have become hyphens.
        digest_of: text whose digest follows, or that of the words if the name had to be cut.
    """
    name = re.sub(r"[^\w.-]+", "-", "-".join(words)).strip("-.")
    short = name.encode()[:MAX_NAME_BYTES].decode(errors="ignore")
    digest_text = digest_of or ("" if short == name else name)
    digest = hashlib.sha256(digest_text.encode()).hexdigest()[:8]
    return f"{short}-{digest}" if digest_text else short


def _refuse(out):
    try:
        owner = (out / OWNER).read_text(errors="replace")[:200]
    except OSError:
        owner = "another process"
    raise UsageError(f"{out} is in use: {owner} trains in it; wait for it, or choose another --out")


def _remove_new_files(out, kept):
    for path in out.iterdir():
        if path.name in kept:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _remove_empty(folders):
    for path in folders:
        with suppress(OSError):  # it holds something
            path.rmdir()


def _shortened(out):
    text = str(out)
    return text if len(text) <= 100 else f"{text[:80]}... ({len(text)} characters)"
