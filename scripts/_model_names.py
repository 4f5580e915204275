"""Names of pretrained models from patterns, and their weights files."""

from __future__ import annotations

import zoo
from zoo.errors import UsageError


def model_names(text, files):
    """Returns the names of the models to evaluate: those with a file, and the matches of patterns.

    Without patterns these are all models whose weights are on this machine.
    """
    patterns = [word.strip() for word in text.split(",") if word.strip()]
    known = zoo.names(kind="classifier", weights=True)
    if not patterns:
        patterns = [name for name in known if zoo.spec(name).weights.is_local]
    found = list(files)
    for pattern in patterns:
        exact = [name for name in (*files, *known) if name == pattern]
        names = exact or zoo.names(pattern, kind="classifier", weights=True)
        if not names:
            zoo.spec(pattern)  # raises with the nearest name if there is no such model
            raise UsageError(f"{pattern} has no pretrained weights; see `zoo list --weights TAG`")
        found += names
    return list(dict.fromkeys(found))


def parse_weights(text):
    """Returns the name and the file of `MODEL=FILE`."""
    name, sign, path = text.partition("=")
    if not sign:
        raise UsageError(f"--weights takes MODEL=FILE, not {text!r}")
    return zoo.spec(name).name, path
