"""Reads the headers of NumPy's `.npy` format, also from several threads at once."""

from __future__ import annotations

from zoo.lazy import np

ATTEMPTS = 10


def read_header(file):
    """Returns the shape, order (`"C"` or `"F"`) and data type; leaves the file at its values.

    NumPy parses a header with `ast.literal_eval`, which CPython 3.11 can fail with "AST constructor
    recursion depth mismatch" while another thread parses too
    (https://github.com/python/cpython/issues/106905). The header is then read again.

    Args:
        file: A seekable binary file at the start of an array.

    Raises:
        ValueError: The header is damaged, or of an unknown version.
    """
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        read = np.lib.format.read_array_header_2_0
    start = file.tell()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            shape, by_column, dtype = read(file)
            return shape, "F" if by_column else "C", dtype
        except SystemError:
            if attempt == ATTEMPTS:
                raise
            file.seek(start)
