"""Standard streams of a command: encoding, logging, and streams that are closed or full."""

from __future__ import annotations

import contextlib
import os
import sys

from zoo import terminal

LOG_FLAG = "--tensorflow-log"
LOG_VARIABLE = "ZOO_TENSORFLOW_LOG"  # passes the flag to child processes


def ensure_utf8():
    """Restarts this process in Python's UTF-8 mode if the file system encoding is not UTF-8."""
    if os.name == "posix" and sys.getfilesystemencoding() != "utf-8":
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def setup_streams(words):
    """Opens, silences and wraps the streams; returns the arguments without `LOG_FLAG`."""
    if words[:1] == [LOG_FLAG]:
        os.environ[LOG_VARIABLE], words = "1", words[1:]
    _open_closed_streams()
    if LOG_VARIABLE not in os.environ:
        _silence_native_stderr()
    sys.stdout = sys.__stdout__ = terminal.wrap_stream(sys.stdout)
    sys.stderr = sys.__stderr__ = terminal.wrap_stream(sys.stderr, messages=True)
    return words


def setup_logging():
    """Sends log records of the zoo, such as which weights were loaded, to standard error."""
    import logging  # here, because `zoo --help` does not need it

    log = logging.getLogger("zoo")
    log.addHandler(logging.StreamHandler(sys.stderr))
    log.setLevel(logging.INFO)
    log.propagate = False


def stdout_failed():
    """Returns whether a write to standard output has failed."""
    return getattr(sys.stdout, "failure", None) is not None


def flush_stdout(status):
    """Flushes standard output; returns the exit status, 1 if the output cannot be written."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    if not stdout_failed():
        return status
    devnull = os.open(os.devnull, os.O_WRONLY)  # gets the rest of the buffer
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)
    error = sys.stdout.failure
    if isinstance(error, BrokenPipeError):  # the reader, such as `head`, has closed the pipe
        return status
    print(f"zoo: standard output cannot be written: {error.strerror}", file=sys.stderr)
    return 1


def _open_closed_streams():
    """Opens the standard streams that are closed.

    Writing to a closed standard output then fails; standard error is discarded.
    """
    for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(
                os.devnull, flags
            )  # takes the lowest free descriptor, that of the closed stream
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", buffering=1, closefd=False)  # noqa: SIM115


def _silence_native_stderr():
    """Discards file descriptor 2, but keeps Python's own standard error.

    TensorFlow logs a dozen lines about its build and missing GPUs in every process, some before
    it reads its log level. Its errors are still raised, as exceptions.
    """
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 2)
    os.close(devnull)
