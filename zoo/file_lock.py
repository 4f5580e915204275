"""A lock that processes share: one does the work, the others wait for it.

Where the operating system locks files (`flock`, also over NFS) the lock ends with its owner,
whatever ended that. On file systems without such locks a file with the owner's name stands for the
lock and the owner refreshes it; one that nobody refreshes was left behind by a process that died.
"""

from __future__ import annotations

import errno
from contextlib import contextmanager, suppress

from zoo.lazy import LazyModule

filelock = LazyModule("filelock")

HEARTBEAT_INTERVAL = 2.0  # seconds after which an owner refreshes its file
LEASE_DURATION = 15.0  # seconds of silence after which an owner is believed to be dead
POLL_INTERVAL = 0.2  # seconds between two looks of one who waits
# What a system answers whose file system has no locks, such as Lustre without `-o flock`.
UNSUPPORTED_ERRNOS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def hold_lock(path, on_wait):
    """Holds the lock called `path` as long as the block runs.

    Args:
        path: of a file that stands for the lock, in a folder that exists; it goes away with it.
        on_wait: called, once and without arguments, if another process holds the lock. What it
            raises ends the waiting.

    Raises:
        OSError: the folder cannot be written to.
    """
    lock = filelock.FileLock(path, fallback_to_soft=False)
    try:
        _acquire(lock, on_wait)
    except OSError as error:
        if error.errno not in UNSUPPORTED_ERRNOS:
            raise
        path.unlink(missing_ok=True)
        name = path.with_name(f"{path.name}ed")
        lock = filelock.SoftFileLease(
            name, lease_duration=LEASE_DURATION, heartbeat_interval=HEARTBEAT_INTERVAL
        )
        _acquire(lock, on_wait)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # before others can have it, who look whether it is still there
        lock.release()


def _acquire(lock, on_wait):
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        on_wait()
        lock.acquire(poll_interval=POLL_INTERVAL)
