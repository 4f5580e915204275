"""Downloads weights files into a cache, and finds those that are on this machine.

Environment variables: `ZOO_HOME` is the folder of the cache, `ZOO_WEIGHTS` a folder or a URL that
replaces the publishers' (a mirror), and `ZOO_OFFLINE=1` forbids network access.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from zoo import env_vars, file_lock
from zoo.atomic_files import atomic_write, fsync_and_replace
from zoo.errors import UsageError
from zoo.lazy import LazyModule
from zoo.paths import check_regular
from zoo.weights import digests
from zoo.weights.digests import INDEX_FILE, DigestMismatchError

formats = LazyModule("zoo.weights.formats")
# Importing the modules for the network takes longer than all of `import zoo`.
downloader = LazyModule("zoo.weights.download")

CACHE, MIRROR, KERAS = "cache", "mirror", "keras"  # locations of files on this machine

log = logging.getLogger("zoo")


@dataclass(frozen=True)
class RemoteFile:
    """A weights file on a publisher's server.

    Attributes:
        source: its URL.
        digest: MD5 or SHA-256 in hexadecimal, or a prefix of the SHA-256. With `""`, because no
            digest is published, the first content that can be read as weights is trusted, and
            later content must be the same (trust on first use).
    """

    source: str
    digest: str = ""

    @property
    def name(self) -> str:
        """The last part of the URL's path."""
        return re.split("[?#]", self.source)[0].rpartition("/")[2]

    @property
    def cache_name(self) -> str:
        """The file name in the cache and in mirrors, unique among files of the same `name`."""
        prefix = self.digest or hashlib.sha256(self.source.encode()).hexdigest()
        return f"{prefix[:8]}-{re.sub('[^A-Za-z0-9._+-]', '_', self.name)}"


def fetch(file: RemoteFile, owner: str) -> Path:
    """Returns the path of a file, verified; downloads it into the cache if needed.

    Args:
        file: the file.
        owner: what the file is, for messages: `the weights of vgg16.imagenet`.

    Raises:
        UsageError: the file cannot be downloaded, its digest is wrong, or the cache cannot be
            written to.
    """
    return find_local(file) or fetch_to(file, env_vars.weights_dir() / file.cache_name, owner)


def find_local(file: RemoteFile, *, rehash: bool = False) -> Path | None:
    """Returns the path of a verified copy on this machine, or `None`.

    Args:
        file: the file.
        rehash: whether to hash a copy even if its size and time have not changed since the last
            time.

    Raises:
        DigestMismatchError: the copy has another digest. In the cache it was renamed.
        UsageError: the copy cannot be read.
    """
    for location, path in existing_copies(file):
        try:
            digests.verify(path, file.digest, rehash=rehash)
            return path
        except UsageError as error:
            if location == KERAS:  # Keras may keep another version there
                continue
            if location == CACHE and isinstance(error, DigestMismatchError):
                raise DigestMismatchError(f"{error}; {_quarantine(path)}, so try again") from error
            raise
    return None


def existing_copies(file):
    """Returns the `(location, path)` pairs where a file of that name exists; not verified."""
    return [(location, path) for location, path in candidate_paths(file) if os.path.isfile(path)]


def candidate_paths(file):
    """Yields the `(location, path)` pairs where a file may be, in the order of preference."""
    mirror = env_vars.weights_mirror()
    if isinstance(mirror, Path):
        yield MIRROR, mirror / file.cache_name
        yield MIRROR, mirror / file.name
    yield CACHE, env_vars.weights_dir() / file.cache_name
    if file.digest:  # without a digest, any file could have that name
        keras_home = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
        yield KERAS, Path(keras_home) / "models" / file.name


def fetch_to(file, target, owner):
    """Downloads a file to `target`, which does not exist yet; returns `target`.

    If several processes do so at once, one downloads the file and the others wait for it.

    Raises:
        UsageError: as `fetch`.
    """
    url = _allowed_url(file, owner)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = target.with_name(f"{target.name}.lock")
        waiting = f"waiting for another process that downloads {file.name}"
        with file_lock.hold_lock(lock, lambda: log.info(waiting)):
            if not target.is_file():
                _download(file, url, target, owner)
        digests.verify(target, file.digest)
        return target
    except OSError as error:
        in_cache = target.parent == env_vars.weights_dir()
        hint = "; set ZOO_HOME to a writable folder with enough space" if in_cache else ""
        raise UsageError(
            f"{file.name} cannot be written to {target.parent} ({_os_error_message(error)}){hint}"
        ) from error


def discard_unreadable(path):
    """Removes an unreadable file from the cache, if no digest of it is published.

    Returns:
        The end of an error message that reports the removal; `""` if the file was not removed.
    """
    path = Path(path)
    if path.parent != env_vars.weights_dir() or digests.read_record(path).get("digest") != "":
        return ""
    for each in (path, path.with_name(f"{path.name}.json")):
        with suppress(OSError):
            each.unlink()
    return "; it was removed from the cache, so try again"


def add_to_mirror(file, folder, owner):
    """Adds a verified file to a mirror, a folder that `ZOO_WEIGHTS` can name.

    Args:
        file: the file; copied if it is on this machine, downloaded if not.
        folder: the mirror; its `index.json` lists the files in it.
        owner: what the file is, for messages.

    Returns:
        The path of the file in the mirror.

    Raises:
        UsageError: as `fetch`.
    """
    target = Path(os.path.abspath(folder)) / file.cache_name
    if not target.is_file():
        found = find_local(file)
        if found:
            with atomic_write(target) as partial:
                shutil.copyfile(found, partial)
        else:
            fetch_to(file, target, owner)
    try:
        sha256 = digests.verify(target, file.digest)
    except DigestMismatchError as error:
        raise DigestMismatchError(f"{error}; {_quarantine(target)}, so try again") from error
    _add_to_index(file, target, sha256)
    return target


def _allowed_url(file, owner):
    """Returns the URL to download a file from; raises `UsageError` if that is not allowed."""
    mirror = env_vars.weights_mirror()
    candidates = ", ".join(str(path) for _, path in candidate_paths(file))
    if isinstance(mirror, Path):
        raise UsageError(
            f"{owner} are not in the folder that ZOO_WEIGHTS names (looked for {candidates}); "
            f"unset ZOO_WEIGHTS and run `zoo weights mirror {mirror}` to download them from "
            f"{file.source}"
        )
    url = f"{mirror}/{file.cache_name}" if mirror else file.source
    if env_vars.is_offline():
        raise UsageError(
            f"{owner} are not on this machine (looked for {candidates}) and ZOO_OFFLINE forbids "
            f"downloading {url}; put that file there, or pass it as weights=FILE"
        )
    return url


def _download(file, url, target, owner):
    """Downloads a file to `target`, whose lock is held."""
    partial = target.with_name(f"{target.name}.partial")
    log.info("fetching %s to %s", url, target.parent)
    try:
        found = _download_and_verify(
            file, url, partial, digests.recorded_sha256(target, file.digest)
        )
        fsync_and_replace(partial, target)
        digests.write_record(target, found, file.digest)
    except downloader.DownloadError as error:
        raise UsageError(
            f"{owner} cannot be downloaded ({error}); pass a file as weights=FILE, set "
            "ZOO_WEIGHTS to a mirror, or start from weights='random'"
        ) from error
    except OSError:  # such as a full disk: a partial file would take up its space
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def _download_and_verify(file, url, partial, known):
    """Downloads the rest of a partial file; returns its record by `digests.hash_and_compare`."""
    while True:
        resumed = downloader.download(url, partial, file.name, resume=bool(file.digest))
        try:
            found = digests.hash_and_compare(partial, file.digest, known)
            if not file.digest:  # the server may have sent a login page in place of the file
                formats.read(partial, file.name)
            return found
        except DigestMismatchError as error:
            quarantined = _quarantine(partial)
            if not resumed:  # otherwise the first part may have been of another file: try again
                raise DigestMismatchError(f"{error}; it came from {url}; {quarantined}") from error
        except formats.UnreadableWeightsError as error:
            with suppress(OSError):
                partial.unlink()
            raise UsageError(f"the content of {url} is not a weights file: {error}") from error


def _quarantine(path):
    """Renames a file with a wrong digest; returns the part of a message with its new name."""
    new_name = f"{path.name}.bad-{time.strftime('%Y%m%d-%H%M%S')}"
    try:
        os.replace(path, path.with_name(new_name))
    except OSError as error:
        return f"it cannot be renamed ({_os_error_message(error)}): remove it"
    return f"it was renamed to {new_name}"


def _add_to_index(file, path, sha256):
    """Adds a file to the index of its mirror."""
    index = path.with_name(INDEX_FILE)
    entry = {"source": file.source, "digest": file.digest, "sha256": sha256}
    try:
        with file_lock.hold_lock(index.with_name(f"{INDEX_FILE}.lock"), lambda: None):
            files = _read_index(index)
            entry["bytes"] = path.stat().st_size
            if files.get(path.name) != entry:
                with atomic_write(index) as partial:
                    files = dict(sorted({**files, path.name: entry}.items()))
                    partial.write_text(json.dumps({"files": files}, indent=1), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{index} cannot be written ({_os_error_message(error)})") from error


def _read_index(index):
    """Returns the entries of a mirror's index by file name; `{}` if it cannot be read."""
    with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
        return dict(json.loads(check_regular(index).read_text(encoding="utf-8"))["files"])
    return {}


def _os_error_message(error):
    return error.strerror or error
