"""The streams of a command: what a person sees, and what becomes of a stream that is not there."""

from __future__ import annotations

import contextlib
import os
import sys

from zoo import terminal

LOG_FLAG = "--tensorflow-log"
LOG_VARIABLE = "ZOO_TENSORFLOW_LOG"  # by which child processes know of the flag


def ensure_utf8():
    """Starts this process again in Python's UTF-8 mode where names of files are not UTF-8."""
    if os.name == "posix" and sys.getfilesystemencoding() != "utf-8":
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def setup_streams(words):
    """Opens, hushes and wraps the streams; returns the words of the command without `FLAG`."""
    if words[:1] == [LOG_FLAG]:
        os.environ[LOG_VARIABLE], words = "1", words[1:]
    _open_closed_streams()
    if LOG_VARIABLE not in os.environ:
        _silence_native_stderr()
    sys.stdout = sys.__stdout__ = terminal.wrap_stream(sys.stdout)
    sys.stderr = sys.__stderr__ = terminal.wrap_stream(sys.stderr)
    return words


def setup_logging():
    """Sends what the zoo has to say, such as which weights fitted, to standard error as it is."""
    import logging  # here, as `zoo --help` has nothing to say by it

    log = logging.getLogger("zoo")
    log.addHandler(logging.StreamHandler(sys.stderr))
    log.setLevel(logging.INFO)
    log.propagate = False


def stdout_failed():
    """Tells whether standard output could not be written."""
    return getattr(sys.stdout, "failure", None) is not None


def flush_stdout(status):
    """Writes what standard output still holds; returns the exit status, that of a failure if
    nobody can write there."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    if not stdout_failed():
        return status
    nowhere = os.open(os.devnull, os.O_WRONLY)  # which gets what is still held
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    error = sys.stdout.failure
    if isinstance(error, BrokenPipeError):  # the reader, such as `head`, has seen enough
        return status
    print(f"zoo: standard output cannot be written: {error.strerror}", file=sys.stderr)
    return 1


def _open_closed_streams():
    """Opens the standard streams that are closed: who writes to standard output finds that it
    cannot be written, and what goes to standard error goes nowhere."""
    for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # which gets the lowest number that is free
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", buffering=1, closefd=False)  # noqa: SIM115


def _silence_native_stderr():
    """Sends file descriptor 2 to nowhere, and Python's own messages to where it pointed.

    TensorFlow greets every process with a dozen lines about its build and absent GPUs, some
    before its log level is read. Its errors still arrive, as exceptions.
    """
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
