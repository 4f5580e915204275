"""A lock between processes.

If the file system supports `flock` (also over NFS), the operating system releases the lock when its
process ends for any reason. On other file systems, a lease file names the owner, who refreshes it
regularly; a lease that is not refreshed has expired, because its process died.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from contextlib import contextmanager, suppress

from zoo.lazy import LazyModule
from zoo.paths import check_regular

filelock = LazyModule("filelock")

HEARTBEAT_INTERVAL = 2.0  # seconds between refreshes of a lease
LEASE_DURATION = 15.0  # seconds without refresh after which a lease expires
POLL_INTERVAL = 0.2  # seconds between attempts of a waiting process
OWNER = re.compile(r"process (\d{1,9}) on (.+)")
# Errors of file systems without locks, such as Lustre without `-o flock`.
UNSUPPORTED_ERRNOS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def hold_lock(path, on_wait):
    """Holds a lock while the block runs.

    Args:
        path: a file that represents the lock, in an existing folder; removed at the end.
        on_wait: function without arguments, called once if another process holds the lock. If it
            raises an exception, the lock is not awaited.

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
            path.unlink()  # before releasing it: the next owner checks that the file exists
        lock.release()


def write_owner(path):
    """Writes the process that holds a lock to a file."""
    with suppress(OSError):
        path.unlink(missing_ok=True)  # a FIFO of this name would block the process
        path.write_text(f"process {os.getpid()} on {socket.gethostname()}")


def read_owner(path):
    """Returns the `(number, host name)` of the process in a file, or `None`."""
    try:
        found = OWNER.fullmatch(check_regular(path).read_text(errors="replace")[:200])
    except OSError:
        return None
    return found and (int(found[1]), found[2])


def _acquire(lock, on_wait):
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        on_wait()
        lock.acquire(poll_interval=POLL_INTERVAL)
