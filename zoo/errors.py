"""The one exception a user is meant to see, and the one line that reads like it."""

from __future__ import annotations

import difflib

SHOWN = 40  # names that a message lists


class UsageError(ValueError):
    """The caller asked for what cannot be done; the message says what can.

    The command line prints it without a traceback. Any other exception is a bug in
    this project, and is shown in full.
    """


def unknown(noun, name, known):
    """Returns the error for a `name` that is none of `known`, with the nearest ones.

    Args:
        noun: what a name stands for, such as "model".
        name: what the caller wrote.
        known: every name there is.
    """
    known = list(known)
    close = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    shown = [*known[:SHOWN], *([f"{len(known) - SHOWN} others"] if len(known) > SHOWN else [])]
    hint = f"did you mean {' or '.join(close)}?" if close else f"choose from {', '.join(shown)}"
    return UsageError(f"no {noun} named {name!r:.300}; {hint}")
