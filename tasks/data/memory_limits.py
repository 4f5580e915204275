"""Available memory, and lower bounds on the memory of a training step."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path

from zoo.errors import UsageError
from zoo.lazy import keras

MEMINFO = Path("/proc/meminfo")
STATM = Path("/proc/self/statm")  # pages of this process
CGROUP = Path("/sys/fs/cgroup")  # limits of a container
MAX_ESTIMATED_BATCH = 16  # images of a batch in an estimate, as the split may have no more
BYTES_PER_PIXEL_VALUE = 2 * 4  # of a value of an image and a feature map as large, in float32
BYTES_PER_WEIGHT = 3 * 4  # of a weight, its gradient and one moment, in float32


def available_bytes():
    """Returns the memory available to this process in bytes, infinity if unknown."""
    found = [address_space_left()]
    with suppress(OSError, ValueError, IndexError):
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    with suppress(OSError, ValueError):
        limit, used = ((CGROUP / f"memory.{name}").read_text() for name in ("max", "current"))
        found.append(int(limit) - int(used))
    return min(found)


def address_space_left():
    """Returns the bytes that `ulimit -v` leaves to this process, infinity without a limit.

    Memory maps of files count, too.
    """
    with suppress(ImportError, OSError, ValueError):  # Unix only
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            pages = int(STATM.read_text().split()[0])
            return max(0, limit - pages * resource.getpagesize())
    return math.inf


def check_images(shape, batch_size, *, limit=MAX_ESTIMATED_BATCH):
    """Checks that a batch of images and one feature map of the same size fit into memory.

    Args:
        shape: `(height, width, channels)`.
        batch_size: The number of images per batch.
        limit: The largest number of images to count; `None` for all.

    Raises:
        UsageError: They do not fit.
    """
    count = min(batch_size, limit or batch_size)
    required, free = math.prod(shape) * count * BYTES_PER_PIXEL_VALUE, available_bytes()
    if required > free:
        height, width, _ = shape
        raise UsageError(
            f"{count} images of {height} x {width} pixels and one feature map as large take "
            f"{_format_gigabytes(required)}, but {_format_gigabytes(free)} are available; use a "
            "smaller --image-size or --batch-size"
        )


def check_weights(build, shape):
    """Checks that the weights of a model fit into memory for training.

    Dense layers may grow with the image size.

    Args:
        build: A function that builds the model, called where variables have no values.
        shape: `(height, width, channels)` of its input.

    Raises:
        UsageError: They do not fit.
    """
    with keras.StatelessScope(initialize_variables=False):
        model = build()
    required = sum(math.prod(weight.shape) for weight in model.weights) * BYTES_PER_WEIGHT
    free = available_bytes()
    if required > free:
        height, width, _ = shape
        raise UsageError(
            f"the weights of {model.name} for images of {height} x {width} pixels take "
            f"{_format_gigabytes(required)} in training, but {_format_gigabytes(free)} are "
            "available; use a smaller --image-size"
        )


def _format_gigabytes(count):
    return f"{count / 1e9:,.1f} GB"
