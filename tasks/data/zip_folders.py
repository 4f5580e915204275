"""Zip archives of class folders, whose images are read where they are."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath

from tasks.data import archives, image_io
from tasks.data.class_folders import SPLIT_FOLDERS
from zoo import zip_archives
from zoo.errors import UsageError

MAX_EXPANDED_BYTES = 2**26  # of an image that is stored in a small fraction of its bytes
ENCRYPTED = 1  # the bit of the flags of a member of a zip archive
UTF8 = 0x800  # the bit that says that the name of a member is in UTF-8
NOT_UTF8 = (
    "names in {path} that are not in UTF-8 are read in code page 437; if they are wrong, state "
    "their encoding, as in {path}#encoding=gbk"
)


class ZipMembers(Sequence):
    """Images in a zip archive, as bytes.

    Args:
        path: The path of the archive.
        names: The names of its members.
    """

    def __init__(self, path, names):
        self._path, self._names = path, names

    def __len__(self):
        return len(self._names)

    def __getitem__(self, index):
        try:
            return zip_archives.read_member(_open_zip(self._path), self._names[index])
        except ValueError:
            return b""  # damaged: reported as an image that cannot be read


def read_zip(path, encoding=""):
    """Returns the `Listing` of a zip archive of class folders, with or without split folders.

    Folders inside a class folder belong to that class.

    Args:
        path: The `Path` of the archive.
        encoding: That of names that are not marked as UTF-8; by default UTF-8 if they are valid as
            that, else code page 437.

    Raises:
        UsageError: The archive is damaged, or has another layout or encoding.
    """
    try:
        members = _open_zip(str(path)).infolist()
    except ValueError as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    images, skipped, guessed = [], [], 0
    for member in members:
        name, certain = _readable_name(path, member, encoding)
        guessed += not certain
        parts = PurePosixPath(name.replace("\\", "/")).parts  # some programs write backslashes
        hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
        if member.is_dir() or hidden or not parts:
            continue
        if not image_io.is_image(parts[-1]):
            skipped.append((f"{path}/{member.filename}", "not an image by its suffix"))
            continue
        if member.flag_bits & ENCRYPTED:
            raise UsageError(f"{path}: {member.filename} is encrypted; unpack it into a folder")
        limit = max(MAX_EXPANDED_BYTES, zip_archives.MAX_EXPANSION * member.compress_size)
        if member.file_size > min(limit, archives.MAX_BYTES):
            raise UsageError(
                f"{path}: {member.filename} claims {member.file_size:,} bytes and stores "
                f"{member.compress_size:,}; remove it from the archive"
            )
        images.append((member.filename, parts))
    found, outside = _class_folders(images)
    skipped += [(f"{path}/{name}", "not in a class folder") for name in outside]
    notes = (f"{NOT_UTF8.format(path=path)} ({guessed:,})",) if guessed else ()
    return archives.listing(path, found, lambda names: ZipMembers(str(path), names), skipped, notes)


def _readable_name(path, member, encoding):
    """Returns the name of a member of a zip archive, and whether its encoding is certain.

    `zip` on Linux writes UTF-8 without its flag, and Python takes it for code page 437.
    """
    if member.flag_bits & UTF8:
        return member.filename, True
    try:
        return member.filename.encode("cp437").decode(encoding or "utf-8"), True
    except LookupError as error:
        raise UsageError(
            f"{path}#encoding={encoding:.60}: Python has no encoding of this name; expected one "
            "such as gbk, cp932 or cp1252"
        ) from error
    except UnicodeDecodeError as error:
        if encoding:
            raise UsageError(f"{path}: {member.filename!r:.100} is not in {encoding}") from error
        return member.filename, False
    except UnicodeEncodeError:  # from the extra field of a Unicode path
        return member.filename, True


def _class_folders(images):
    """Returns `(name, class)` of images by split, and the names of those in no class folder.

    Args:
        images: `(name, parts of the path)` of each image.
    """
    splits = {
        name: next((n for n, part in enumerate(parts[:-2]) if part.lower() in SPLIT_FOLDERS), None)
        for name, parts in images
    }
    has_splits = any(at is not None for at in splits.values())
    levels = zip(*(parts[:-1] for _, parts in images), strict=False)
    common = len([*takewhile(lambda names: len({*names}) == 1, levels)])
    if all(len(parts) == common + 1 for _, parts in images):  # of a single class
        common = max(0, common - 1)
    found, outside = {}, []
    for name, parts in images:
        at = splits[name]
        if at is None and (has_splits or len(parts) < common + 2):
            outside.append(name)
            continue
        split = parts[at].lower() if has_splits else "all"
        found.setdefault(split, []).append((name, parts[at + 1 if has_splits else common]))
    return found, outside


_lock = threading.Lock()


def _open_zip(path):
    with _lock:
        return _cached_zip(path, Path(path).stat().st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _cached_zip(path, changed):
    return zip_archives.open_zip(path, None)
