"""A least-recently-used disk cache of arrays that take long to compute.

An array is a `.npy` file, named by its key, in the folder `features` of `ZOO_HOME`. It is followed
by a checksum, which is verified when a process first opens the file. Rows that are computed go to a
partial file, from which an interrupted process is resumed. `ZOO_FEATURES_GB` limits the total size.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from tasks.inference import checksums
from zoo import atomic_files, env_vars, file_lock
from zoo.errors import UsageError
from zoo.lazy import np

DEFAULT_LIMIT_GB = 10.0  # of all arrays, unless `ZOO_FEATURES_GB` is set
ARRAY_SUFFIX, PARTIAL_SUFFIX = ".npy", ".partial"
ROW_COUNT_SUFFIX, LOCK_SUFFIX = ".rows", ".lock"
PROGRESS_INTERVAL_SECONDS = 1.0  # between updates of the row count
STALE_SECONDS = 3600.0  # without a new row, after which a partial file is unused
MAX_MEMORY_FRACTION = 0.3  # of free memory, for arrays that cannot be stored
DEFAULT_FREE_MEMORY = 2**31  # bytes, where the system does not report it

log = logging.getLogger("zoo")
_opened_paths = set()  # paths of the arrays that this process has opened


class StoreFullError(Exception):
    """The folder cannot store an array; the message has the reason."""


def find(key):
    """Returns the array of a key, memory-mapped, or `None` if it is missing or damaged.

    A damaged file is deleted with a warning.
    """
    path = folder() / f"{key}{ARRAY_SUFFIX}"
    try:
        if path not in _opened_paths and not checksums.verify_checksum(path):
            log.warning("the cached features in %s are damaged: they are computed again", path)
            path.unlink()
            return None
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        return None
    except ValueError:  # a truncated file
        with suppress(OSError):
            path.unlink()
        return None
    with suppress(OSError):  # a read-only folder
        os.utime(path)
    _opened_paths.add(path)
    return found


def get_or_compute(key, shape, dtype, rows):
    """Returns the array of a key, computing the rows that are missing.

    If several processes need it at once, one computes it and the others wait. An interrupted
    computation is resumed.

    Args:
        key: A unique key of letters, digits and hyphens.
        shape, dtype: Shape and dtype of the array.
        rows: A function of the number of existing rows that yields arrays of the following rows.

    Returns:
        A read-only `np.memmap`.

    Raises:
        StoreFullError: The array exceeds the size limit, or the folder is not writable.
    """
    path = folder() / f"{key}{ARRAY_SUFFIX}"
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size > max_bytes():
        raise StoreFullError(
            f"they need {size / 1e9:.1f} GB and ZOO_FEATURES_GB is {max_bytes() / 1e9:g}"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        waiting = "waiting for another process that computes the same features"
        with file_lock.hold_lock(path.with_suffix(LOCK_SUFFIX), lambda: log.info(waiting)):
            if find(key) is None:
                _PartialArray(path, shape, dtype).fill(rows)
                _opened_paths.add(path)
    except OSError as error:
        raise StoreFullError(f"{path.parent}: {error.strerror or error}") from error
    found = find(key)
    if found is None or found.shape != tuple(shape):
        raise StoreFullError(f"{path} is not what was written")
    return found


def compute_uncached(shape, dtype, rows):
    """Returns an array for this process only: in memory, or in an anonymous file.

    Args:
        shape, dtype, rows: As in `get_or_compute`.

    Raises:
        UsageError: There is no space for it.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size <= _free_memory() * MAX_MEMORY_FRACTION:
        array = np.empty(shape, dtype)
    else:
        array = _temporary_memmap(shape, dtype, size)
    done = 0
    for block in rows(0):
        array[done : done + len(block)] = block
        done += len(block)
    return array


def max_bytes():
    """Returns the size limit of all arrays in bytes.

    Raises:
        UsageError: `ZOO_FEATURES_GB` is not a number.
    """
    text = os.environ.get("ZOO_FEATURES_GB", "") or str(DEFAULT_LIMIT_GB)
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise UsageError(f"ZOO_FEATURES_GB takes a number of gigabytes such as 20, not {text!r}")
    return int(number * 1e9)


def folder():
    """Returns the folder of the arrays."""
    return env_vars.cache_dir() / "features"


class _PartialArray:
    """An array that is being written, and a file with the number of its rows on disk."""

    def __init__(self, path, shape, dtype):
        self.path, self.shape, self.dtype = path, tuple(shape), np.dtype(dtype)
        self.partial, self.count = (
            path.with_suffix(PARTIAL_SUFFIX),
            path.with_suffix(ROW_COUNT_SUFFIX),
        )
        self.row = int(np.prod(self.shape[1:])) * self.dtype.itemsize

    def fill(self, rows):
        """Writes all missing rows, and renames the file."""
        done = self._open()
        last_note = time.monotonic()
        try:
            for block in rows(done):
                self._write(np.ascontiguousarray(block, self.dtype), done)
                done += len(block)
                if time.monotonic() - last_note > PROGRESS_INTERVAL_SECONDS:
                    self._write_row_count(done)
                    last_note = time.monotonic()
            if done < self.shape[0]:
                raise OSError(f"{done} rows came, not {self.shape[0]}")
        except OSError:  # such as a full disk, whose space a partial file would occupy
            self.partial.unlink(missing_ok=True)
            raise
        except BaseException:  # also after Ctrl-C, before it is passed on
            with suppress(OSError):
                self._write_row_count(done)
            raise
        finally:
            os.close(self.file)
        checksums.append_checksum(self.partial, self.start + self.row * self.shape[0])
        atomic_files.fsync_and_replace(self.partial, self.path)
        with suppress(OSError):
            self.count.unlink()

    def _open(self):
        """Opens the partial file, a new one unless its header matches; returns its row count."""
        header = _npy_header(self.shape, self.dtype)
        self.start = len(header)
        done = 0
        with suppress(OSError, ValueError):
            with open(self.partial, "rb") as file:
                same = file.read(len(header)) == header
            done = min(int(self.count.read_text()), self.shape[0]) if same else 0
        if not done:
            with suppress(FileNotFoundError):
                self.partial.unlink()
            _evict(self.row * self.shape[0], self.path)
        mode = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
        self.file = os.open(self.partial, mode, 0o666)
        try:
            if not done:
                self._reserve(header)
        except BaseException:  # also after Ctrl-C, before it is passed on
            os.close(self.file)
            self.partial.unlink(missing_ok=True)
            raise
        return done

    def _reserve(self, header):
        """Allocates the file, so that a full disk is noticed before anything is computed."""
        with suppress(OSError):
            self.count.unlink()
        size = self.start + self.row * self.shape[0]
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self.file, 0, size)
        os.ftruncate(self.file, size)
        _write_all(self.file, header, 0)

    def _write(self, block, done):
        _write_all(self.file, block.reshape(-1).view("uint8").data, self.start + done * self.row)

    def _write_row_count(self, done):
        """Stores the number of rows that are on disk, and would survive a power failure."""
        os.fsync(self.file)
        new_file = self.count.with_name(f"{self.count.name}.new")
        new_file.write_text(str(done))
        os.replace(new_file, self.count)


def _write_all(file, data, offset):
    data = memoryview(data)
    while data:
        os.lseek(file, offset, os.SEEK_SET)
        written = os.write(file, data)
        data, offset = data[written:], offset + written


def _npy_header(shape, dtype):
    """Returns the header of a `.npy` file."""
    with tempfile.SpooledTemporaryFile() as file:
        about = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
        np.lib.format.write_array_header_1_0(file, {**about, "shape": shape})
        file.seek(0)
        return file.read()


def _evict(size, path):
    """Deletes the least recently used files until `size` more bytes fit."""
    now, found = time.time(), []
    for entry in path.parent.iterdir():
        with suppress(OSError):
            about = entry.stat()
            working = entry.suffix == PARTIAL_SUFFIX and now - about.st_mtime < STALE_SECONDS
            found.append((about.st_mtime, about.st_size, entry, working or entry in _opened_paths))
    total = sum(bytes_ for _, bytes_, _, _ in found)
    for _, bytes_, entry, busy in sorted(found):
        if total + size <= max_bytes():
            return
        if entry.suffix in (ARRAY_SUFFIX, PARTIAL_SUFFIX) and not busy:
            entry.unlink()  # processes that have it mapped are not affected
            entry.with_suffix(ROW_COUNT_SUFFIX).unlink(missing_ok=True)
            total -= bytes_
    if total + size > max_bytes():
        raise StoreFullError(
            f"{total / 1e9:.1f} GB of ZOO_FEATURES_GB ({max_bytes() / 1e9:g}) are in use"
        )


def _temporary_memmap(shape, dtype, size):
    try:
        with tempfile.TemporaryFile() as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, dtype, "w+", shape=tuple(shape))
    except OSError as error:
        raise UsageError(
            f"features of {size / 1e9:.1f} GB fit neither in memory nor in "
            f"{Path(tempfile.gettempdir())} ({error.strerror or error}); give TMPDIR or ZOO_HOME a "
            "larger disk, or use fewer or smaller images"
        ) from error


def _free_memory():
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return DEFAULT_FREE_MEMORY
