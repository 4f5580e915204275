"""Series in files of NumPy: `.npy`, and `.npz` with labels."""

from __future__ import annotations

import zipfile

from zoo.errors import UsageError
from zoo.lazy import np
from zoo.paths import check_regular

READ_ERRORS = (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile)


def read(path):
    """Reads an array of numbers, and labels if there are some.

    Args:
        path: A `.npy` file of a series, `(steps,)` or `(steps, channels)`; or a `.npz` file: with
            the array `x`, likewise, or with `x`, `(sequences, steps)` or `(sequences, steps,
            channels)`, and the labels `y`, `(sequences,)`.

    Returns:
        float64 values, `(steps,)`, `(steps, channels)` or, with labels, `(sequences, steps,
        channels)`; and a list of labels, or `None`.

    Raises:
        UsageError: The file holds no such arrays.
    """
    check_regular(path)
    try:
        with open(path, "rb") as file:
            found = np.load(file, allow_pickle=False)
            x, y = (found, None) if isinstance(found, np.ndarray) else _members(path, found)
    except UsageError:
        raise
    except READ_ERRORS as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{path} is not an array of numbers: {reason}") from error
    if x.dtype.kind not in "iufb" or x.ndim < 1 or not x.size:
        raise UsageError(f"{path}: expected numbers, got {x.dtype} of shape {x.shape}")
    values = x.astype("float64")
    if not np.isfinite(values).all():
        index = tuple(map(int, np.argwhere(~np.isfinite(values))[0]))
        raise UsageError(f"{path}: {values[index]} at {index}; fill the gaps with numbers")
    if y is None:
        if values.ndim > 2:
            raise UsageError(
                f"{path} has the shape {x.shape}; expected (steps, channels), or an .npz file with "
                "x (sequences, steps, channels) and the labels y"
            )
        return values, None
    if values.ndim not in (2, 3) or y.shape != (len(values),):
        raise UsageError(
            f"{path}: x {x.shape} and y {y.shape}; expected (sequences, steps, channels) and "
            "(sequences,)"
        )
    return values.reshape(*values.shape[:2], -1), [str(label) for label in y.tolist()]


def _members(path, archive):
    if "x" not in archive:
        names = ", ".join(archive.files) or "nothing"
        raise UsageError(f"{path} holds {names}; expected the arrays x and, for labels, y")
    return archive["x"], archive.get("y")
