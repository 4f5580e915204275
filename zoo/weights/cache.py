"""Files of weights: where they may be, and how they get there over the network.

`ZOO_HOME` names the folder of the cache, `ZOO_WEIGHTS` a folder or a URL to take files from in
place of their publishers, and `ZOO_OFFLINE=1` forbids the network.
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
from zoo.weights import digests
from zoo.weights.digests import INDEX_FILE, DigestMismatchError

formats = LazyModule("zoo.weights.formats")
downloader = LazyModule(
    "zoo.weights.download"
)  # the modules of the network take longer than all of `import zoo`

CACHE, MIRROR, KERAS = "cache", "mirror", "keras"  # places where files may be

log = logging.getLogger("zoo")


@dataclass(frozen=True)
class RemoteFile:
    """A file as its maker publishes it.

    Attributes:
        source: its URL.
        digest: MD5 or SHA-256 in hexadecimal, or the beginning of the latter; `""` if nobody
            says, and the first content that arrives and can be read as weights is believed from
            then on.
    """

    source: str
    digest: str = ""

    @property
    def name(self):
        """The end of the URL."""
        return re.split("[?#]", self.source)[0].rpartition("/")[2]

    @property
    def stored(self):
        """The name in the cache and in mirrors, which tells apart files of one name."""
        mark = self.digest or hashlib.sha256(self.source.encode()).hexdigest()
        return f"{mark[:8]}-{re.sub('[^A-Za-z0-9._+-]', '_', self.name)}"


def fetch(file, owner):
    """Returns the path of a `Published` file, verified, fetching it into the cache if need be.

    Args:
        file: what is wanted.
        owner: what it is, for messages: `the weights of vgg16.imagenet`.

    Raises:
        UsageError: it is not to be had, its digest is wrong, or the cache cannot be written to.
    """
    return find_local(file) or fetch_to(file, env_vars.weights_dir() / file.stored, owner)


def find_local(file, *, anew=False):
    """Returns the path of a `Published` file that need not be fetched, verified; or `None`.

    Args:
        file: what is wanted.
        anew: whether to hash it even if it seems unchanged since that was done last.

    Raises:
        WrongDigest: what is there is something else; in our cache it was renamed.
        UsageError: it cannot be read.
    """
    for place, path in existing_copies(file):
        try:
            digests.verify(path, file.digest, anew=anew)
            return path
        except UsageError as error:
            if place == KERAS:  # which may keep there what it wants
                continue
            if place == CACHE and isinstance(error, DigestMismatchError):
                raise DigestMismatchError(f"{error}; {_quarantine(path)}, so try again") from error
            raise
    return None


def existing_copies(file):
    """Returns where something under a `Published` file's name is: pairs of place and path."""
    return [(place, path) for place, path in candidate_paths(file) if os.path.isfile(path)]


def candidate_paths(file):
    """Yields where a `Published` file may be: pairs of place and path, the first the best."""
    named = env_vars.weights_mirror()
    if isinstance(named, Path):
        yield MIRROR, named / file.stored
        yield MIRROR, named / file.name
    yield CACHE, env_vars.weights_dir() / file.stored
    if file.digest:  # without one, anything could be under that name
        keras_home = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
        yield KERAS, Path(keras_home) / "models" / file.name


def fetch_to(file, target, owner):
    """Fetches a `Published` file over the network to `target`, where nothing is yet.

    Of several processes that do so at once, one fetches and the others wait for it.

    Raises:
        UsageError: as `fetch`.
    """
    url = _allowed_url(file, owner)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = target.with_name(f"{target.name}.lock")
        waiting = f"waiting for another process that fetches {file.name}"
        with file_lock.hold_lock(lock, lambda: log.info(waiting)):
            if not target.is_file():
                _download(file, url, target, owner)
        digests.verify(target, file.digest)
        return target
    except OSError as error:
        ours = target.parent == env_vars.weights_dir()
        hint = "; set ZOO_HOME to a folder that can take it" if ours else ""
        raise UsageError(
            f"{file.name} cannot be written to {target.parent} ({_os_error_message(error)}){hint}"
        ) from error


def discard_unreadable(path):
    """Removes a file that cannot be read from the cache, if nobody published its digest.

    Returns:
        Words that say so, for a message; `""` if it stays.
    """
    path = Path(path)
    if path.parent != env_vars.weights_dir() or digests.read_record(path).get("digest") != "":
        return ""
    for one in (path, path.with_name(f"{path.name}.json")):
        with suppress(OSError):
            one.unlink()
    return "; it was removed from the cache, so try again"


def add_to_mirror(file, folder, owner):
    """Puts a `Published` file, verified, into a folder that `ZOO_WEIGHTS` can name.

    Args:
        file: what is wanted; taken from this machine, or else fetched.
        folder: where to; its `index.json` says what is in it.
        owner: what it is, for messages.

    Returns:
        The path of the file in the folder.

    Raises:
        UsageError: as `fetch`.
    """
    target = Path(os.path.abspath(folder)) / file.stored
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
    """Returns the URL to fetch a file from, if one may."""
    named = env_vars.weights_mirror()
    looked = ", ".join(str(path) for _, path in candidate_paths(file))
    if isinstance(named, Path):
        raise UsageError(
            f"{owner} are not in the folder that ZOO_WEIGHTS names (looked for {looked}); with "
            f"ZOO_WEIGHTS unset, `zoo weights mirror {named}` gets them from {file.source}"
        )
    url = f"{named}/{file.stored}" if named else file.source
    if env_vars.is_offline():
        raise UsageError(
            f"{owner} are not on this machine (looked for {looked}) and ZOO_OFFLINE forbids to "
            f"fetch {url}; put that file there, or give it with weights=FILE"
        )
    return url


def _download(file, url, target, owner):
    """Brings a file from the network to `target`, whose lock is held."""
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
            f"{owner} are not to be had ({error}); give a file with weights=FILE, a mirror "
            "with ZOO_WEIGHTS, or weights='random' to start without"
        ) from error
    except OSError:  # such as a full disk, which half a file only makes fuller
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def _download_and_verify(file, url, partial, known):
    """Downloads what `partial` lacks of a file; returns what `digests.hash_and_compare` finds."""
    while True:
        resumed = downloader.download(url, partial, file.name, resume=bool(file.digest))
        try:
            found = digests.hash_and_compare(partial, file.digest, known)
            if not file.digest:  # a page that asks to log in may have come in place of the file
                formats.read(partial, file.name)
            return found
        except DigestMismatchError as error:
            aside = _quarantine(partial)
            if not resumed:  # else the beginning may have been another file's
                raise DigestMismatchError(f"{error}; it came from {url}; {aside}") from error
        except formats.UnreadableWeightsError as error:
            with suppress(OSError):
                partial.unlink()
            raise UsageError(f"what came from {url} is no weights file: {error}") from error


def _quarantine(path):
    """Renames a file that is not what it should be; returns words that say to what."""
    aside = f"{path.name}.bad-{time.strftime('%Y%m%d-%H%M%S')}"
    try:
        os.replace(path, path.with_name(aside))
    except OSError as error:
        return f"it cannot be renamed ({_os_error_message(error)}): remove it"
    return f"it was set aside as {aside}"


def _add_to_index(file, path, sha256):
    """Enters a file into the index of the mirror that it is in."""
    index = path.with_name(INDEX_FILE)
    about = {"source": file.source, "digest": file.digest, "sha256": sha256}
    try:
        with file_lock.hold_lock(index.with_name(f"{INDEX_FILE}.lock"), lambda: None):
            known = _read_index(index)
            entry = {**about, "bytes": path.stat().st_size}
            if known.get(path.name) != entry:
                with atomic_write(index) as partial:
                    known = dict(sorted({**known, path.name: entry}.items()))
                    partial.write_text(json.dumps({"files": known}, indent=1), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{index} cannot be written ({_os_error_message(error)})") from error


def _read_index(index):
    """Returns the files of a mirror's index, by name; `{}` if there is none to be read."""
    with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
        return dict(json.loads(index.read_text(encoding="utf-8"))["files"])
    return {}


def _os_error_message(error):
    return error.strerror or error
