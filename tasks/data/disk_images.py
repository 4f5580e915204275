"""Images in a temporary file that is read, not mapped into memory."""

from __future__ import annotations

import contextlib
import copy
import errno
import os
import tempfile
import threading

from zoo.lazy import np


class UnnamedFile:
    """A temporary file without a name; it is deleted when the process ends, however it ends.

    Args:
        folder: Where it is made; by default the one of the system.
    """

    def __init__(self, folder=None):
        self._file = tempfile.TemporaryFile(buffering=0, dir=folder)  # noqa: SIM115
        self._lock = threading.Lock()

    def __del__(self):
        with contextlib.suppress(AttributeError):  # it could not be made
            self._file.close()

    def write(self, data, offset):
        """Writes bytes or an array; raises `OSError` if the disk is full."""
        with self._lock:
            self._file.seek(offset)
            if self._file.write(data) != memoryview(data).nbytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), tempfile.gettempdir())

    def read(self, buffer, offset):
        """Reads into a bytearray or an array, as many bytes as it holds."""
        if hasattr(os, "preadv"):  # processes that are forked share the position in the file
            found = os.preadv(self._file.fileno(), [buffer], offset)
        else:
            with self._lock:
                self._file.seek(offset)
                found = self._file.readinto(buffer)
        if found != memoryview(buffer).nbytes:
            raise OSError(errno.EIO, "a temporary file was cut off", tempfile.gettempdir())


class DiskImages:
    """uint8 images in a temporary file, which are read whenever they are indexed.

    Unlike those of a memory map, they take no address space, so that they may exceed the limit of
    `ulimit -v`. An index, or an array of indices, reads images; a slice is a view, and
    `numpy.asarray` reads all images of a view.

    Args:
        shape: `(count, ...)`.
        folder: Where the file is made.
    """

    dtype = property(lambda self: np.dtype("uint8"))
    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: int(np.prod(self.shape)))

    def __init__(self, shape, folder=None):
        self.shape, self._first, self._file = tuple(shape), 0, UnnamedFile(folder)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, indices):
        if isinstance(indices, slice):
            return self._view(*indices.indices(len(self)))
        indices = np.asarray(indices)
        images = np.empty((indices.size, *self.shape[1:]), "uint8")
        for image, index in zip(images, indices.flat, strict=True):
            self._file.read(image, self._offset(index))
        return images.reshape(*indices.shape, *self.shape[1:])

    def __setitem__(self, index, image):
        self._file.write(np.ascontiguousarray(image, "uint8"), self._offset(index))

    def __array__(self, dtype=None, copy=None):
        return self[np.arange(len(self))].astype(dtype or "uint8", copy=False)

    def _offset(self, index):
        if not -len(self) <= index < len(self):
            raise IndexError(f"there is no image {index} of {len(self)}")
        return (self._first + int(index) % len(self)) * int(np.prod(self.shape[1:]))

    def _view(self, start, stop, step):
        if step != 1:
            raise IndexError("a slice of images on disk has the step 1")
        view = copy.copy(self)
        view._first, view.shape = self._first + start, (max(0, stop - start), *self.shape[1:])
        return view
