"""A lock that processes share: one does the work, the others wait for it.

Where the operating system locks files the lock ends with its owner, whatever ended that.
Elsewhere (Windows, some network disks) a file stands for the lock and its owner touches it every
few seconds; one that nobody touches was left behind by a process that died.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager, suppress

try:
    import fcntl
except ImportError:
    fcntl = None

BEAT = 2.0  # seconds after which an owner touches its file again
DEAD = 15.0  # seconds of silence after which an owner is believed to be dead
POLL = 0.2  # seconds between two looks of one who waits


@contextmanager
def held(path, waiting):
    """Holds the lock called `path` as long as the block runs.

    Args:
        path: of a file that stands for the lock, in a folder that exists; it goes away with it.
        waiting: called, once and without arguments, if another process holds the lock.

    Raises:
        OSError: the folder cannot be written to.
    """
    told = []

    def tell():
        if not told:
            told.append(True)
            waiting()

    file = _locked(path, tell)
    try:
        if file is None:
            with _touched(path.with_name(f"{path.name}ed"), tell):
                yield
        else:
            yield
    finally:
        if file is not None:
            with suppress(OSError):
                path.unlink()  # before others can have it, who look whether it is still there
            os.close(file)


def _locked(path, tell):
    """Returns the descriptor of a file that the system has locked for us, `None` if it cannot."""
    while fcntl:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                tell()
                fcntl.flock(file, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), path.stat()):
                    return file
        except OSError:  # this file system knows no locks
            os.close(file)
            path.unlink(missing_ok=True)
            return None
        except BaseException:
            os.close(file)
            raise
        os.close(file)
    return None


@contextmanager
def _touched(path, tell):
    """Holds a lock that is a file which exists and is touched again and again."""
    seen = since = None
    while not _made(path):
        tell()
        with suppress(FileNotFoundError):
            last = path.stat().st_mtime_ns
            # Only our own clock is asked: that of a file server may be another.
            if last != seen:
                seen, since = last, time.monotonic()
            elif time.monotonic() - since > DEAD:
                path.unlink()
        time.sleep(POLL)
    stop = threading.Event()
    beat = threading.Thread(target=_keep_touching, args=(path, stop), daemon=True)
    beat.start()
    try:
        yield
    finally:
        stop.set()
        beat.join()
        with suppress(OSError):
            path.unlink()


def _made(path):
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except FileExistsError:
        return False
    return True


def _keep_touching(path, stop):
    while not stop.wait(BEAT):
        with suppress(OSError):
            os.utime(path)
