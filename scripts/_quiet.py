"""Keeps what native libraries write on standard error from those who asked for figures."""

from __future__ import annotations

import os
import sys

SWITCH = "TF_CPP_MIN_LOG_LEVEL"  # TensorFlow's own; who sets it wants to see its lines


def hush():
    """Sends file descriptor 2 to nowhere, and Python's own messages to where it pointed.

    TensorFlow greets every process with a dozen lines about its build and absent GPUs, some
    before its log level is read. Its errors still arrive, as exceptions.
    """
    if SWITCH in os.environ:
        return
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
