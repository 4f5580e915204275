"""Parsing of model builder options in flags such as `--model-options`."""

from __future__ import annotations

from tasks.data import safe_yaml
from zoo.errors import UsageError

RESERVED_OPTIONS = {  # arguments of `zoo.build` that are set elsewhere: what sets them in a task
    "name": "--model does",
    "input_shape": "--image-size and --channels do",
    "num_classes": "the data do",
    "classes": "the data do",
    "weights": "--weights does",
}


def parse_model_options(text):
    """Returns the options of a model builder in the value of `--model-options`.

    Args:
        text: YAML such as `{depth: 2}`.

    Raises:
        UsageError: The text is not a YAML mapping, or has an option that another flag or the data
            set.
    """
    found = parse_options(text)
    if taken := [name for name in found if name in RESERVED_OPTIONS]:
        raise UsageError(f"--model-options cannot set {taken[0]}: {RESERVED_OPTIONS[taken[0]]}")
    return found


def parse_options(text, flag="--model-options"):
    """Returns the options in YAML such as `{depth: 2}`, a dict; empty for an empty text.

    Args:
        text: The YAML text.
        flag: The flag that holds it, for messages.

    Raises:
        UsageError: The text is not a YAML mapping with names as keys.
    """
    try:
        options = safe_yaml.parse(text) or {}
    except ValueError:
        options = None
    if not isinstance(options, dict) or not all(isinstance(key, str) for key in options):
        raise UsageError(f"{flag} takes YAML such as '{{depth: 2}}', not {text!r:.200}")
    return options
