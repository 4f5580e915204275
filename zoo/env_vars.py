"""The folder for what can be had again, such as downloads, and what the environment says of it."""

from __future__ import annotations

import os
from pathlib import Path

from zoo import paths
from zoo.errors import UsageError

FALSE_VALUES = ("", "0", "no", "false", "off")  # values of a switch that is not set


def cache_dir():
    """Returns the folder that `ZOO_HOME` names; by default `keras-zoo` in the user's cache."""
    try:
        if named := os.environ.get("ZOO_HOME"):
            return Path(named).expanduser().absolute()
        caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
        return (caches if caches.is_absolute() else Path.home() / ".cache") / "keras-zoo"
    except RuntimeError as error:  # the user of a container may have none
        raise UsageError("you have no home folder; set ZOO_HOME to a folder of yours") from error


def weights_dir():
    """Returns the folder in it that holds files of weights."""
    return cache_dir() / "weights"


def is_offline():
    """Tells whether `ZOO_OFFLINE` forbids the network."""
    return os.environ.get("ZOO_OFFLINE", "").lower() not in FALSE_VALUES


def weights_mirror():
    """Returns what `ZOO_WEIGHTS` names: the `Path` of a folder, a URL, or `None`.

    Raises:
        UsageError: it is neither.
    """
    named = os.environ.get("ZOO_WEIGHTS")
    if not named:
        return None
    if named.startswith(("http://", "https://")):
        return named.rstrip("/")
    path = paths.expand_user(named).absolute()
    if not path.is_dir():
        raise UsageError(f"ZOO_WEIGHTS must name a folder or a URL (https://...), not {named!r}")
    return path
