"""The memory of this machine, and what a step needs at the least."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path

from zoo.errors import UsageError

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")  # of a container
MAX_ESTIMATED_BATCH = (
    16  # images that a batch has at the most in an estimate: the split may have no more
)
BYTES_PER_PIXEL_VALUE = (
    2 * 4
)  # bytes for each value of an image: it, and a feature map as large, in float32
BYTES_PER_WEIGHT = 3 * 4  # bytes for each weight: it, its gradient and a moment, in float32


def available_bytes():
    """Returns the bytes that this process can still have, infinity if nobody says."""
    found = [math.inf]
    with suppress(OSError, ValueError, IndexError):
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    with suppress(OSError, ValueError):
        limit, used = ((CGROUP / f"memory.{name}").read_text() for name in ("max", "current"))
        found.append(int(limit) - int(used))
    return min(found)


def check_images(shape, batch_size):
    """Refuses images of which not even a batch and one feature map fit into memory.

    Args:
        shape: `(height, width, channels)`.
        batch_size: images in a step.

    Raises:
        UsageError: they do not.
    """
    count = min(batch_size, MAX_ESTIMATED_BATCH)
    required, free = math.prod(shape) * count * BYTES_PER_PIXEL_VALUE, available_bytes()
    if required > free:
        height, width, _ = shape
        raise UsageError(
            f"{count} images of {height} x {width} pixels and one feature map as large take "
            f"{_format_gigabytes(required)}, and {_format_gigabytes(free)} are available; take a "
            "smaller "
            "--image-size or --batch-size"
        )


def check_weights(model, shape):
    """Refuses a model, outlined without values, whose weights do not fit into memory.

    Raises:
        UsageError: they do not.
    """
    required = sum(math.prod(weight.shape) for weight in model.weights) * BYTES_PER_WEIGHT
    free = available_bytes()
    if required > free:
        height, width, _ = shape
        raise UsageError(
            f"the weights of {model.name} for images of {height} x {width} pixels take "
            f"{_format_gigabytes(required)} while it learns, and {_format_gigabytes(free)} are "
            "available; take a "
            "smaller --image-size"
        )


def _format_gigabytes(count):
    return f"{count / 1e9:,.1f} GB"
