"""Reading headers of `.npy` files."""

import io

import numpy as np
import pytest

from zoo import npy_headers


def npy(array, version=None):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version)
    file.seek(0)
    return file


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_header_is_read_up_to_the_values(version, order):
    array = np.arange(24, dtype="int16").reshape(2, 3, 4).copy(order)
    file = npy(array, version)
    assert npy_headers.read_header(file) == ((2, 3, 4), order, array.dtype)
    assert np.array_equal(np.frombuffer(file.read(), "int16").reshape(2, 3, 4, order=order), array)


def failing(read, times):
    """Returns `read`, but its first calls fail half-way, as in CPython's issue 106905."""
    left = iter(range(times))

    def read_header(file):
        if next(left, None) is not None:
            file.read(40)
            raise SystemError("AST constructor recursion depth mismatch (before=45, after=41)")
        return read(file)

    return read_header


def test_a_header_is_read_again_after_another_thread_disturbed_the_parser(monkeypatch):
    read = np.lib.format.read_array_header_1_0
    monkeypatch.setattr(np.lib.format, "read_array_header_1_0", failing(read, 3))
    file = npy(np.arange(6, dtype="int16"))
    assert npy_headers.read_header(file) == ((6,), "C", np.dtype("int16"))
    assert len(file.read()) == 12


def test_a_parser_that_always_fails_is_an_error(monkeypatch):
    monkeypatch.setattr(np.lib.format, "read_array_header_1_0", failing(None, 100))
    with pytest.raises(SystemError):
        npy_headers.read_header(npy(np.arange(6)))
