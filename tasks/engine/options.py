"""The options of a model's builder, as a flag holds them."""

from __future__ import annotations

from tasks.data import yamls
from zoo.errors import UsageError


def parsed(text, flag="--model-options"):
    """Returns the options that YAML such as `{depth: 2}` names, a dict; none of an empty text.

    Args:
        text: of the flag.
        flag: its name.

    Raises:
        UsageError: it is no such thing.
    """
    try:
        options = yamls.parse(text) or {}
    except ValueError:
        options = None
    if not isinstance(options, dict) or not all(isinstance(key, str) for key in options):
        raise UsageError(f"{flag} takes YAML such as '{{depth: 2}}', not {text!r:.200}")
    return options
