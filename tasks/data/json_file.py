"""Reading of JSON files with annotations."""

from __future__ import annotations

import json

from zoo.errors import UsageError
from zoo.paths import read_text


def read_json(path):
    """Returns the content of a JSON file.

    Raises:
        UsageError: The file cannot be read, or is not a JSON file in UTF-8.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not a JSON file: {error}") from error
