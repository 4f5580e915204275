"""Verifies digests of files, and records them so that a large file is hashed only once.

The record of a file has its size and modification time when it was hashed, its SHA-256, and the
digest that it was compared with. Records are stored beside files in the cache, and in
`ZOO_HOME/seen` for other files; if they cannot be written, files are hashed every time. The
`index.json` of a mirror is not trusted as a record: it can only add a digest that a file must have.
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
from zoo.paths import check_regular

INDEX_FILE = "index.json"  # of a mirror: the source and digests of each file, by name
CHUNK_SIZE = 1 << 20  # bytes
SHA256_PATTERN = re.compile("[0-9a-f]{64}")  # in hexadecimal


class DigestMismatchError(UsageError):
    """The digest of a file is not the published one, or not that of its earlier content."""


def sha256(path):
    """Returns the SHA-256 of any file; hashes it only if it has changed since the last time.

    Raises:
        UsageError: the file cannot be read.
    """
    record = _read_own_record(path)
    found = _unchanged_record(path, record) or _hash_file(path)
    if record.get("digest") is None:  # only `verify` changes the record of a published file
        write_record(path, found, None)
    return found["sha256"]


def verify(path, digest="", *, rehash=False):
    """Verifies the digest of a file, records the result and returns its SHA-256.

    Args:
        path: the file.
        digest: MD5 or SHA-256 in hexadecimal, or a prefix of the SHA-256; `""` trusts the first
            content. If there is a record for this digest, the SHA-256 must also be the recorded
            one.
        rehash: whether to hash the file even if its size and time have not changed since.

    Raises:
        DigestMismatchError: the file has another digest.
        UsageError: the file cannot be read.
    """
    known = recorded_sha256(path, digest)
    found = None if rehash or not known else _unchanged_record(path, _read_own_record(path))
    if not found:
        found = hash_and_compare(path, digest, known)
        write_record(path, found, digest)
    return found["sha256"]


def hash_and_compare(path, digest="", known=""):
    """Hashes a file and compares the digests; returns a dict of `sha256`, `bytes`, `mtime_ns`.

    Args:
        path: the file.
        digest: as in `verify`.
        known: the SHA-256 of the file's earlier content, which it must also have; `""` if unknown.

    Raises:
        DigestMismatchError: the file has another digest.
        UsageError: the file cannot be read.
    """
    found = _hash_file(path, md5=len(digest) == 32)
    for expected, origin in ((digest, "the published file"), (known, "its earlier content")):
        name = "md5" if len(expected) == 32 else "sha256"
        if not found[name].startswith(expected.lower()):
            raise DigestMismatchError(
                f"{path} differs from {origin}: its {name} is {found[name]}, expected {expected}"
            )
    return found


def recorded_sha256(path, digest):
    """Returns the SHA-256 recorded when a file was verified against a digest; `""` if none."""
    record = read_record(path)
    return record.get("sha256", "") if record.get("digest") == digest else ""


def digest_kind(digest):
    """Returns the kind of a digest: `sha256`, `sha256 (N digits)`, `md5` or `none`."""
    names = {0: "none", 32: "md5", 64: "sha256"}
    return names.get(len(digest), f"sha256 ({len(digest)} digits)")


def read_record(path):
    """Returns the record of a file, or its entry in a mirror's index; `{}` for neither."""
    return _read_own_record(path) or _read_json_record(
        Path(path).with_name(INDEX_FILE), "files", Path(path).name
    )


def _read_own_record(path):
    """Returns the record of a file that this machine wrote; `{}` if there is none."""
    with suppress(UsageError):
        return _read_json_record(_record_path(path))
    return {}


def _read_json_record(path, *keys):
    """Returns the record at nested keys of a JSON file; `{}` if there is no valid one."""
    with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
        record = json.loads(check_regular(path).read_text(encoding="utf-8"))
        for key in keys:
            record = record[key]
        recorded = record["sha256"]  # before `get`, as it raises an error if this is not a dict
        if SHA256_PATTERN.fullmatch(recorded) and isinstance(record.get("digest"), str | None):
            return dict(record)
    return {}


def write_record(path, found, digest):
    """Writes the record of a file from the result of `hash_and_compare`, if it has changed.

    A folder that cannot be written to is not an error.
    """
    record = {"digest": digest, **{key: found[key] for key in ("sha256", "bytes", "mtime_ns")}}
    if record != _read_own_record(path):
        with suppress(OSError, UsageError), atomic_write(_record_path(path)) as partial:
            partial.write_text(json.dumps(record), encoding="utf-8")


def _unchanged_record(path, record):
    """Returns the record if the file's size and time are still those in it, or `None`."""
    with suppress(OSError):
        return record if record and _stat(path).items() <= record.items() else None
    return None


def _hash_file(path, md5=False):
    hashes = {"sha256": hashlib.sha256()}
    if md5:
        hashes["md5"] = hashlib.md5(usedforsecurity=False)
    try:
        found = _stat(path)  # before reading, so that a change while reading is detected later
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK_SIZE):
                for hasher in hashes.values():
                    hasher.update(chunk)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror or error})") from error
    return {**found, **{name: hasher.hexdigest() for name, hasher in hashes.items()}}


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
