"""Environment variables: the cache folder, the mirror of weights, the offline switch."""

from __future__ import annotations

import os
from pathlib import Path

from zoo import paths
from zoo.errors import UsageError

FALSE_VALUES = ("", "0", "no", "false", "off")  # of a switch


def cache_dir():
    """Returns the cache folder: `ZOO_HOME`, by default `keras-zoo` in the user's cache folder.

    Raises:
        UsageError: the user has no home folder, and `ZOO_HOME` is not set.
    """
    try:
        if value := os.environ.get("ZOO_HOME"):
            return Path(value).expanduser().absolute()
        caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
        return (caches if caches.is_absolute() else Path.home() / ".cache") / "keras-zoo"
    except RuntimeError as error:  # in containers, the user may have no home folder
        raise UsageError("there is no home folder; set ZOO_HOME to a writable folder") from error


def weights_dir():
    """Returns the folder of weights files in the cache."""
    return cache_dir() / "weights"


def is_offline():
    """Returns whether `ZOO_OFFLINE` forbids network access."""
    return os.environ.get("ZOO_OFFLINE", "").lower() not in FALSE_VALUES


def weights_mirror():
    """Returns the value of `ZOO_WEIGHTS`: the `Path` of a folder, a URL string, or `None`.

    Raises:
        UsageError: it is neither a folder nor a URL.
    """
    value = os.environ.get("ZOO_WEIGHTS")
    if not value:
        return None
    if value.startswith(("http://", "https://")):
        return value.rstrip("/")
    path = paths.expand_user(value).absolute()
    if not path.is_dir():
        raise UsageError(f"ZOO_WEIGHTS must name a folder or a URL (https://...), not {value!r}")
    return path
