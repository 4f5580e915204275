"""Command lines of child processes, which import nothing from the current folder."""

from __future__ import annotations

import sys
from pathlib import Path

PACKAGE_ROOT = str(Path(__file__).parents[2])  # the folder of the packages, also of a checkout


def python_command(code, *words):
    """Returns the command line of a Python process that runs `code`, with `words` in `sys.argv`.

    `python -m` and `python -c` put the current folder first on the path, where a `tasks.py` or
    a folder `scripts` of the user would be imported instead of ours; `-P` leaves it out.
    """
    found = f"import sys; {PACKAGE_ROOT!r} in sys.path or sys.path.insert(0, {PACKAGE_ROOT!r})"
    return [sys.executable, "-P", "-c", f"{found}; {code}", *words]
