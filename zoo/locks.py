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

BEAT = 2.0  # seconds after which an owner refreshes its file
DEAD = 15.0  # seconds of silence after which an owner is believed to be dead
POLL = 0.2  # seconds between two looks of one who waits
# What a system answers whose file system has no locks, such as Lustre without `-o flock`.
UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def held(path, waiting):
    """Holds the lock called `path` as long as the block runs.

    Args:
        path: of a file that stands for the lock, in a folder that exists; it goes away with it.
        waiting: called, once and without arguments, if another process holds the lock. What it
            raises ends the waiting.

    Raises:
        OSError: the folder cannot be written to.
    """
    lock = filelock.FileLock(path, fallback_to_soft=False)
    try:
        _acquire(lock, waiting)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        path.unlink(missing_ok=True)
        name = path.with_name(f"{path.name}ed")
        lock = filelock.SoftFileLease(name, lease_duration=DEAD, heartbeat_interval=BEAT)
        _acquire(lock, waiting)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # before others can have it, who look whether it is still there
        lock.release()


def _acquire(lock, waiting):
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        waiting()
        lock.acquire(poll_interval=POLL)
