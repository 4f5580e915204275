"""The one exception a user is meant to see, and the one line that reads like it."""

from __future__ import annotations

import os
from pathlib import Path

PROJECT_PATHS = tuple(
    f"{Path(__file__).parents[1] / name}{os.sep}" for name in ("zoo", "tasks", "scripts")
)

MAX_LISTED = 40  # names that a message lists


class UsageError(ValueError):
    """The caller asked for what cannot be done; the message says what can.

    A wrong argument of a public function is one, whether its type or its value is wrong.

    The command line prints it without a traceback. Any other exception is a bug in
    this project, and is shown in full.
    """


def unknown_name_error(noun, name, known):
    """Returns the error for a `name` that is none of `known`, with the nearest ones.

    Args:
        noun: what a name stands for, such as "model".
        name: what the caller wrote.
        known: every name there is.
    """
    import difflib  # here, as it costs more than the rest of this file

    known = list(known)
    close = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    shown = [
        *known[:MAX_LISTED],
        *([f"{len(known) - MAX_LISTED} others"] if len(known) > MAX_LISTED else []),
    ]
    hint = f"did you mean {' or '.join(close)}?" if close else f"choose from {', '.join(shown)}"
    return UsageError(f"no {noun} named {name!r:.300}; {hint}")


def raised_by_project(error):
    """Tells whether an exception was raised by a line of this project, not by one of a library.

    Args:
        error: an exception that was caught.
    """
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_filename.startswith(PROJECT_PATHS)
