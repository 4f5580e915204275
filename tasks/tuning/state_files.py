"""JSON files of a search, each with a checksum of its content."""

from __future__ import annotations

import hashlib
import json

from zoo import atomic_files
from zoo.errors import UsageError
from zoo.paths import check_regular

CHECKSUM = "sha256"  # missing in files of earlier versions


def write(path, content):
    """Writes a dict atomically."""
    atomic_files.write_text(path, json.dumps({**content, CHECKSUM: _checksum(content)}, indent=1))


def read(path):
    """Returns the dict in a file.

    Raises:
        UsageError: The file cannot be read, or its content has changed.
    """
    try:
        content = json.loads(check_regular(path).read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it is not a JSON object")
        if content.pop(CHECKSUM, None) not in (None, _checksum(content)):
            raise ValueError("its content does not match its checksum")
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{path} is damaged ({error}); delete the folder of the search, or choose another --out"
        ) from error
    return content


def _checksum(content):
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
