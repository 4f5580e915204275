"""The folder of a run: its name, its lock during training, and cleaning up after errors."""

from __future__ import annotations

import hashlib
import re
import shutil
from contextlib import ExitStack, contextmanager, suppress

from zoo import file_lock
from zoo.errors import UsageError

LOCK, OWNER = ".lock", ".lock.owner"
OWN_FILES = (LOCK, f"{LOCK}ed", OWNER)  # files that may precede the recipe
MAX_NAME_BYTES = 160  # of generated names; file systems allow 255


@contextmanager
def lock_folder(out, saved):
    """Creates a run folder and locks it for this process.

    If the block raises a `UsageError` before anything was saved, the files that it wrote are
    removed again, and the folder too if it is new.

    Args:
        out: A `Path`.
        saved: A function without arguments that returns whether there is a checkpoint to keep.

    Raises:
        UsageError: Another process holds the lock, or the folder cannot be created.
    """
    with ExitStack() as stack:
        with folder_errors(out):
            missing = [path for path in (out, *out.parents) if not path.exists()]
            out.mkdir(parents=True, exist_ok=True)
            stack.callback(_remove_empty, missing)
            before = {path.name for path in out.iterdir()}
            stack.enter_context(file_lock.hold_lock(out / LOCK, lambda: _refuse(out)))
        stack.callback((out / OWNER).unlink, missing_ok=True)
        file_lock.write_owner(out / OWNER)
        try:
            yield
        except UsageError:
            if not saved():
                _remove_new_files(out, {*before, *OWN_FILES})
            raise


@contextmanager
def folder_errors(out):
    """Converts errors of the operating system about a run folder to `UsageError`."""
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
        words: Their characters that are unsuitable for file names are replaced by hyphens.
        digest_of: Text whose digest is appended. Otherwise a digest of the words is appended if
            the name was shortened.
    """
    name = re.sub(r"[^\w.-]+", "-", "-".join(words)).strip("-.")
    short = name.encode()[:MAX_NAME_BYTES].decode(errors="ignore")
    digest_text = digest_of or ("" if short == name else name)
    digest = hashlib.sha256(digest_text.encode()).hexdigest()[:8]
    return f"{short}-{digest}" if digest_text else short


def _refuse(out):
    owner = file_lock.read_owner(out / OWNER)
    name = "process {} on {}".format(*owner) if owner else "another process"
    raise UsageError(
        f"{out} is in use by {name}; wait until it has finished, or choose another --out"
    )


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
