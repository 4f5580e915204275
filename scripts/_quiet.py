"""What a person sees on standard error: our lines, and not those of native libraries."""

from __future__ import annotations

import logging
import os
import sys

SWITCH = "TF_CPP_MIN_LOG_LEVEL"  # TensorFlow's own; who sets it wants to see its lines


def speak():
    """Sends what the zoo has to say, such as which weights fitted, to standard error as it is."""
    log = logging.getLogger("zoo")
    log.addHandler(logging.StreamHandler(sys.stderr))
    log.setLevel(logging.INFO)
    log.propagate = False


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
