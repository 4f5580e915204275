"""The exception for errors of the user, and helpers for error messages."""

from __future__ import annotations

import os
from pathlib import Path

PROJECT_PATHS = tuple(
    f"{Path(__file__).parents[1] / name}{os.sep}" for name in ("zoo", "tasks", "scripts")
)

MAX_LISTED = 40  # names in a message


class UsageError(ValueError):
    """An error of the user; the message states what is wrong and how to fix it, in one line.

    Public functions raise it for arguments of a wrong type or value. The command line prints it
    without a traceback. Any other exception is a bug of this project, and is shown in full.
    """


def unknown_name_error(noun, name, known):
    """Returns the error for an unknown name, with the most similar valid names.

    Args:
        noun: the kind of thing that has the name, such as "model".
        name: the unknown name.
        known: all valid names.
    """
    import difflib  # here, because importing it takes longer than the rest of this file

    known = list(known)
    close = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    shown = [
        *known[:MAX_LISTED],
        *([f"{len(known) - MAX_LISTED} others"] if len(known) > MAX_LISTED else []),
    ]
    hint = f"did you mean {' or '.join(close)}?" if close else f"choose from {', '.join(shown)}"
    return UsageError(f"no {noun} named {name!r:.300}; {hint}")


def raised_by_project(error):
    """Returns whether an exception was raised in the code of this project, not of a library.

    Args:
        error: a caught exception.
    """
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_filename.startswith(PROJECT_PATHS)
