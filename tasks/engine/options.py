"""The options of a model's builder, as a flag holds them."""

from __future__ import annotations

from zoo.errors import UsageError
from zoo.lazy import LazyModule

yaml = LazyModule("yaml")


def parsed(text, flag="--model-options"):
    """Returns the options that YAML such as `{depth: 2}` names, a dict; none of an empty text.

    Args:
        text: the YAML.
        flag: that holds it, for messages.

    Raises:
        UsageError: it is no such thing.
    """
    try:
        options = yaml.safe_load(text) or {}
    except yaml.YAMLError:
        options = None
    if not isinstance(options, dict):
        raise UsageError(f"{flag} takes YAML such as '{{depth: 2}}', not {text!r}")
    return options
