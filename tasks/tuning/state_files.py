"""JSON files of a search, each with a checksum of its content."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager

from zoo import atomic_files
from zoo.errors import UsageError
from zoo.paths import check_regular

CHECKSUM = "sha256"  # missing in files of earlier versions


def write(path, content):
    """Writes a dict atomically."""
    atomic_files.write_text(path, json.dumps({**content, CHECKSUM: _checksum(content)}, indent=1))


def read(path, **kinds):
    """Returns the dict in a file.

    Args:
        path: Its `Path`.
        **kinds: The type of the value of each key that it must have, or a tuple of types.

    Raises:
        UsageError: The file cannot be read, its content has changed, or has other keys or values.
    """
    with reported_damage(path):
        content = json.loads(check_regular(path).read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it is not a JSON object")
        if content.pop(CHECKSUM, None) not in (None, _checksum(content)):
            raise ValueError("its content does not match its checksum")
        for key, kind in kinds.items():
            if not isinstance(content.get(key), kind):
                raise ValueError(f"its {key!r} is missing or has another type")
    return content


@contextmanager
def reported_damage(path):
    """Converts the errors of reading a file, or of using its content, into a `UsageError`."""
    try:
        yield
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} is damaged ({error}); delete the folder of the search, or choose another --out"
        ) from error


def _checksum(content):
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
