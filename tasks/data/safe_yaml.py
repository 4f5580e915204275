"""YAML from elsewhere, read with limits: a short file can stand for more than memory holds."""

from __future__ import annotations

from zoo.errors import UsageError
from zoo.lazy import LazyModule
from zoo.paths import check_regular

yaml = LazyModule("yaml")

MAX_BYTES = 2**20  # bytes
MAX_DEPTH = 50  # collections in one another


def read(path, what):
    """Returns what a file in UTF-8 holds.

    Args:
        path: of the file.
        what: it should be, such as `a recipe`.

    Raises:
        UsageError: it cannot be read, or holds no YAML that `parse` takes.
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
    except (OSError, ValueError, TypeError) as error:  # TypeError of what is no path
        raise UsageError(f"{path} cannot be read as {what}: {error}") from error
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"{path} cannot be read as {what}: {error}") from error


def parse(text):
    """Returns what YAML text stands for.

    Raises:
        ValueError: it is no YAML, or too long, too deep, or refers to parts of itself, by which a
            few lines can stand for billions.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
    try:
        _check(yaml.parse(text, Loader=yaml.SafeLoader))
        return yaml.load(text, Loader=yaml.SafeLoader)
    # PyYAML lets other errors pass for what a tag such as !!int does not fit.
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
            raise ValueError("it has references (*), which are not taken; write each value out")
