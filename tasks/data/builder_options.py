"""The options of a model's builder, as a flag holds them."""

from __future__ import annotations

from tasks.data import safe_yaml
from zoo.errors import UsageError

RESERVED_OPTIONS = {  # what `zoo.build` takes besides options of a builder: what sets it in a task
    "name": "--model does",
    "input_shape": "--image-size and --channels do",
    "num_classes": "the data do",
    "classes": "the data do",
    "weights": "--weights does",
}


def parse_model_options(text):
    """Returns the options for a model's builder that `--model-options` names.

    Raises:
        UsageError: it is no YAML of options, or names what another flag or the data decide.
    """
    found = parse_options(text)
    if taken := [name for name in found if name in RESERVED_OPTIONS]:
        raise UsageError(f"--model-options cannot set {taken[0]}: {RESERVED_OPTIONS[taken[0]]}")
    return found


def parse_options(text, flag="--model-options"):
    """Returns the options that YAML such as `{depth: 2}` names, a dict; none of an empty text.

    Args:
        text: the YAML.
        flag: that holds it, for messages.

    Raises:
        UsageError: it is no such thing.
    """
    try:
        options = safe_yaml.parse(text) or {}
    except ValueError:
        options = None
    if not isinstance(options, dict) or not all(isinstance(key, str) for key in options):
        raise UsageError(f"{flag} takes YAML such as '{{depth: 2}}', not {text!r:.200}")
    return options
