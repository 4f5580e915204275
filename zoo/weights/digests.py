"""Digests of files, and notes of them, so that a large file is hashed once and not at each start.

A note says what a file was when it was hashed: size, time of last change, SHA-256, and the digest
that it had been compared with. Notes lie beside files in the cache, and in `ZOO_HOME/seen` for
files elsewhere; where they cannot be written, files are hashed each time. The index of a mirror is
no such note: it can only ask for one more digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import suppress
from pathlib import Path

from zoo import env_vars
from zoo.atomic_files import atomic_write
from zoo.errors import UsageError

INDEX_FILE = "index.json"  # what a mirror says of its files, by name
CHUNK = 1 << 20  # bytes
SHA256_PATTERN = re.compile("[0-9a-f]{64}")  # a SHA-256 in hexadecimal


class DigestMismatchError(UsageError):
    """A file is not the one that was published, or not the one that was there before."""


def sha256(path):
    """Returns the SHA-256 of any file, such as one given by hand; reads it once until it changes.

    Raises:
        UsageError: it cannot be read.
    """
    note = _read_own_record(path)
    found = _unchanged_record(path, note) or _hash_file(path)
    if note.get("digest") is None:  # a note of an official file is only for `check` to change
        write_record(path, found, None)
    return found["sha256"]


def verify(path, digest="", *, anew=False):
    """Returns the SHA-256 of a file if it is the one that a digest says, and notes that.

    Args:
        path: the file.
        digest: MD5 or SHA-256 in hexadecimal, or the beginning of the latter; `""` believes the
            first content. It must be that of the note, too, if there is one for this digest.
        anew: whether to hash it even if it seems unchanged since that was done last.

    Raises:
        WrongDigest: it is another one.
        UsageError: it cannot be read.
    """
    known = recorded_sha256(path, digest)
    found = None if anew or not known else _unchanged_record(path, _read_own_record(path))
    if not found:
        found = hash_and_compare(path, digest, known)
        write_record(path, found, digest)
    return found["sha256"]


def hash_and_compare(path, digest="", known=""):
    """Hashes a file; returns `sha256`, `bytes` and `mtime_ns`.

    Args:
        path: the file.
        digest: as in `check`.
        known: a SHA-256 that it also must have.

    Raises:
        WrongDigest: it has others.
        UsageError: it cannot be read.
    """
    found = _hash_file(path, md5=len(digest) == 32)
    for wanted, was in ((digest, "published"), (known, "there before")):
        name = "md5" if len(wanted) == 32 else "sha256"
        if not found[name].startswith(wanted.lower()):
            raise DigestMismatchError(
                f"{path} is not the file that was {was}: its {name} is {found[name]}, not {wanted}"
            )
    return found


def recorded_sha256(path, digest):
    """Returns the SHA-256 that was noted of a file when it had a digest; `""` for none."""
    note = read_record(path)
    return note.get("sha256", "") if note.get("digest") == digest else ""


def digest_kind(digest):
    """Returns what a digest is: `sha256`, `sha256 (N digits)`, `md5` or `none`."""
    names = {0: "none", 32: "md5", 64: "sha256"}
    return names.get(len(digest), f"sha256 ({len(digest)} digits)")


def read_record(path):
    """Returns the note of a file, or what a mirror's index says of it; `{}` for neither."""
    return _read_own_record(path) or _read_json_record(
        Path(path).with_name(INDEX_FILE), "files", Path(path).name
    )


def _read_own_record(path):
    """Returns the note that this machine wrote of a file; `{}` for none."""
    with suppress(UsageError):
        return _read_json_record(_record_path(path))
    return {}


def _read_json_record(path, *keys):
    """Returns the note at some keys of a file of JSON; `{}` if there is none, or no sound one."""
    with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
        note = json.loads(path.read_text(encoding="utf-8"))
        for key in keys:
            note = note[key]
        if SHA256_PATTERN.fullmatch(note["sha256"]) and isinstance(note.get("digest"), str | None):
            return dict(note)
    return {}


def write_record(path, found, digest):
    """Notes of a file what `compare` found, if that is new and can be written."""
    note = {"digest": digest, **{key: found[key] for key in ("sha256", "bytes", "mtime_ns")}}
    if note != _read_own_record(path):
        with suppress(OSError, UsageError), atomic_write(_record_path(path)) as partial:
            partial.write_text(json.dumps(note), encoding="utf-8")


def _unchanged_record(path, note):
    """Returns a note if the file seems to be as it was then, or `None`."""
    with suppress(OSError):
        return note if note and _stat(path).items() <= note.items() else None
    return None


def _hash_file(path, md5=False):
    hashes = {"sha256": hashlib.sha256()}
    if md5:
        hashes["md5"] = hashlib.md5(usedforsecurity=False)
    try:
        found = _stat(path)  # before: a change meanwhile shows
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                for one in hashes.values():
                    one.update(chunk)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror or error})") from error
    return {**found, **{name: one.hexdigest() for name, one in hashes.items()}}


def _stat(path):
    found = os.stat(path)
    return {"bytes": found.st_size, "mtime_ns": found.st_mtime_ns}


def _record_path(path):
    path = Path(os.path.abspath(path))
    if path.parent == env_vars.weights_dir():
        return path.with_name(f"{path.name}.json")
    return (
        env_vars.cache_dir() / "seen" / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}.json"
    )
