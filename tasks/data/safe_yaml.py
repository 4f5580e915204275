"""Safe loading of YAML from untrusted files, with limits on size, depth and references."""

from __future__ import annotations

from zoo.errors import UsageError
from zoo.lazy import LazyModule
from zoo.paths import check_regular

yaml = LazyModule("yaml")

MAX_BYTES = 2**20
MAX_DEPTH = 50  # of nested collections


def read(path, what):
    """Returns the content of a YAML file in UTF-8.

    Args:
        path: The path of the file.
        what: What the file should be, for messages, such as `a recipe`.

    Raises:
        UsageError: The file cannot be read, or is not YAML that `parse` accepts.
    """
    try:
        with check_regular(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} cannot be read as {what}: it is not in UTF-8 ({error.reason} at byte "
            f"{error.start}); save it as UTF-8"
        ) from error
    except (OSError, ValueError, TypeError) as error:  # TypeError if it is not a path
        raise UsageError(f"{path} cannot be read as {what}: {error}") from error
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"{path} cannot be read as {what}: {error}") from error


def parse(text):
    """Returns the object that YAML text describes.

    Raises:
        ValueError: The text is not YAML, is too long or nested too deeply, or has references,
            with which a few lines can expand to billions of values.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES:,} bytes")
    try:
        _check(yaml.parse(text, Loader=yaml.SafeLoader))
        return yaml.load(text, Loader=yaml.SafeLoader)
    # PyYAML raises other errors for values that do not fit a tag such as !!int.
    except (yaml.YAMLError, LookupError, AttributeError, ArithmeticError, TypeError) as error:
        raise ValueError(" ".join(str(error).split())) from error


def _check(events):
    depth = 0
    for event in events:
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it has references (*), which are not supported; write each value out")
