"""The reader of safetensors files: all dtypes, and wrong headers."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

import zoo
from zoo import weights
from zoo.errors import UsageError
from zoo.weights import formats, safetensors

NAMES = {"f4": "F32", "f8": "F64", "f2": "F16", "i8": "I64", "i4": "I32", "u1": "U8", "b1": "BOOL"}


def written(path, header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def save(arrays, path, metadata=None):
    header, data = {"__metadata__": metadata} if metadata else {}, b""
    for name, array in arrays.items():
        offsets = [len(data), len(data) + array.nbytes]
        kind = NAMES[array.dtype.str[1:]]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": offsets}
        data += array.tobytes()
    return written(path, header, data)


def sample():
    random = np.random.default_rng(0)
    return {
        "float": random.normal(size=(2, 3)).astype("float32"),
        "double": random.normal(size=4),
        "half": random.normal(size=(1, 2, 3)).astype("float16"),
        "long": np.array([1, -2]),
        "byte": np.arange(3, dtype="uint8"),
        "bool": np.array([True, False]),
        "one": np.array(3, "int32"),
        "none": np.zeros((0, 4), "float32"),
    }


def test_read_tensors_of_every_dtype(tmp_path):
    path = save(sample(), tmp_path / "x.safetensors", {"format": "pt"})
    found = safetensors.read(path)
    assert set(found) == set(sample()) == set(safetensors.names(path))
    for name, expected in sample().items():
        np.testing.assert_array_equal(found[name], expected)
        assert found[name].dtype == expected.dtype
        assert found[name].shape == expected.shape


def test_read_bfloat16_as_float32(tmp_path):
    exact = np.array([1.0, -2.5, 3.140625, 1e30, 0.0], "float32")
    upper = (exact.view("<u4") >> 16).astype("<u2")
    header = {"w": {"dtype": "BF16", "shape": [5], "data_offsets": [0, 10]}}
    found = safetensors.read(written(tmp_path / "x.safetensors", header, upper.tobytes()))["w"]
    np.testing.assert_allclose(found, exact, rtol=2**-7)
    assert found[:3].tolist() == exact[:3].tolist()


def test_read_files_of_the_safetensors_package(tmp_path):
    reference = pytest.importorskip("safetensors.numpy")
    arrays = {name: array for name, array in sample().items() if name != "bool"}
    reference.save_file(arrays, tmp_path / "x.safetensors", {"format": "np"})
    found = safetensors.read(tmp_path / "x.safetensors")
    for name, expected in arrays.items():
        np.testing.assert_array_equal(found[name], expected)


def entry(start=0, stop=8, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


WRONG_HEADERS = {
    "less than its shape": ({"w": entry(shape=(1,))}, 8),
    "more than its shape": ({"w": entry(shape=(1 << 40, 1 << 40))}, 8),
    "beyond the end": ({"w": entry(0, 16, (4,))}, 8),
    "unused bytes": ({"w": entry()}, 12),
    "a hole": ({"a": entry(), "b": entry(12, 20)}, 20),
    "an overlap": ({"a": entry(), "b": entry(4, 12)}, 12),
    "twice the same bytes": ({"a": entry(), "b": entry()}, 8),
    "backwards": ({"w": entry(8, 0)}, 8),
    "negative sides": ({"w": entry(shape=(-1, -2))}, 8),
    "booleans as sides": ({"w": entry(0, 4, (True,))}, 4),
    "strings as sides": ({"w": entry(shape=("2",))}, 8),
    "an unknown kind": ({"w": entry(dtype="F8_E4M3")}, 8),
    "no kind": ({"w": {"shape": [2], "data_offsets": [0, 8]}}, 8),
    "three offsets": ({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8, 8]}}, 8),
    "a list": ([entry()], 8),
    "numbers as entries": ({"w": 3}, 8),
    "no JSON": (b"hello", 8),
    "not UTF-8": (b"\xff\xfe", 8),
    "nothing": (b"", 0),
    "one name twice": (
        b'{"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, '
        b'"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}',
        8,
    ),
    "too deep": (b"[" * 100_000, 0),
}


@pytest.mark.parametrize("case", WRONG_HEADERS)
def test_wrong_headers_are_refused(case, tmp_path):
    header, size = WRONG_HEADERS[case]
    refused(written(tmp_path / "x.safetensors", header, bytes(size)))


def refused(path):
    with pytest.raises(UsageError, match="cannot be read as weights") as error:
        formats.read(path)
    assert "\n" not in str(error.value)


def test_header_longer_than_the_file_is_refused(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", 1 << 62) + b"{}")
    refused(tmp_path / "x.safetensors")


@pytest.mark.parametrize("left", np.linspace(0, 0.999, 17))
def test_truncated_file_is_refused(left, tmp_path):
    path = save(sample(), tmp_path / "x.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(left * len(whole))])
    refused(path)


def test_load_safetensors_with_indexed_names(tmp_path):
    model = zoo.build("lenet5")
    arrays = {
        f"{layer.name}/{index}": np.asarray(array)
        for layer in reversed(model.layers)  # the names count, not their order
        for index, array in enumerate(layer.get_weights())
    }
    path = save(dict(sorted(arrays.items(), reverse=True)), tmp_path / "x.safetensors")
    assert not formats.is_torch_state_dict(path)
    other = zoo.build("lenet5")
    weights.load(other, path, strict=True)
    for found, expected in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_state_dict_is_detected_by_its_names(tmp_path):
    path = save({"fc.weight": np.zeros((2, 3), "float32")}, tmp_path / "x.safetensors")
    assert formats.is_torch_state_dict(path)
    assert formats.is_torch_state_dict("gone.pth")
    assert not formats.is_torch_state_dict(tmp_path / "gone.safetensors")
    assert not formats.is_torch_state_dict("gone.weights.h5")
