"""PyTorch files read without PyTorch: valid, damaged and malicious files."""

from __future__ import annotations

import collections
import contextlib
import os
import pickle
import zipfile

import numpy as np
import pytest

from tests.support.torch_save import SAVE, Storage, Tensor, save_zip, tensor
from zoo.errors import UsageError
from zoo.weights import formats, torch_files


@pytest.fixture(params=SAVE)
def save(request):
    return SAVE[request.param]


def sample():
    """Returns a state dict with tensors of all kinds, and the expected arrays."""
    random = np.random.default_rng(0)
    block = random.normal(size=24).astype("float32")
    shared = Storage(block)
    upper = (random.normal(size=6).astype("float32").view("<u4") >> 16).astype("<u2")
    content = collections.OrderedDict(
        plain=Tensor(shared, (4, 6)),
        turned=Tensor(shared, (6, 4), (1, 6)),
        inner=Tensor(shared, (2, 3), (6, 2), offset=7),
        parameter=tensor(random.normal(size=(2, 1, 3)).astype("float32"), parameter=True),
        half=tensor(random.normal(size=5).astype("float16")),
        double=tensor(random.normal(size=5)),
        brain=Tensor(Storage(upper, "BFloat16"), (2, 3)),
        count=tensor(np.array(7)),
        mask=tensor(np.array([True, False])),
        empty=Tensor(Storage(np.zeros(0, "float32")), (0, 4)),
    )
    content._metadata = {"": {"version": 1}}
    rows = block.reshape(4, 6)
    arrays = {
        "plain": rows,
        "turned": rows.T,
        "inner": np.array([[block[7 + 6 * i + 2 * j] for j in range(3)] for i in range(2)]),
        "parameter": content["parameter"].view[0].array.reshape(2, 1, 3),
        "half": content["half"].view[0].array,
        "double": content["double"].view[0].array,
        "brain": (upper.astype("<u4") << 16).view("<f4").reshape(2, 3),
        "count": np.array(7),
        "mask": np.array([True, False]),
        "empty": np.zeros((0, 4), "float32"),
    }
    return content, arrays


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_read_tensors_of_every_dtype(save, protocol, tmp_path):
    content, arrays = sample()
    save(content, tmp_path / "x.pth", protocol)
    found = torch_files.read(tmp_path / "x.pth")
    assert list(found) == list(arrays)
    for name, expected in arrays.items():
        np.testing.assert_array_equal(found[name], expected, err_msg=name)
        assert found[name].dtype == expected.dtype


def test_state_dict_is_found_in_a_checkpoint(save, tmp_path):
    inner, ema = ({"w": tensor(np.full(3, value, "float32"))} for value in (1, 2))
    others = {
        "epoch": 3,
        "best": 0.5,
        "name": "x",
        "done": True,
        "lr": [1e-3, None],
        "shape": (1, 2),
    }
    save(
        {**others, "optimizer": {"state": {0: dict(inner)}}, "state_dict": inner},
        tmp_path / "a.pth",
    )
    assert torch_files.read(tmp_path / "a.pth")["w"].tolist() == [1, 1, 1]
    save({"model": inner, "model_ema": ema, **others}, tmp_path / "b.pth")
    assert torch_files.read(tmp_path / "b.pth")["w"].tolist() == [2, 2, 2]
    save({"epoch": 3, "w": inner["w"]}, tmp_path / "c.pth")
    assert list(torch_files.read(tmp_path / "c.pth")) == ["w"]


def refused(path, match):
    with pytest.raises(UsageError, match=match) as error:
        formats.read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


# Malicious files


class Malicious:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"w": x}, lambda x: {"epoch": [x]}])
def test_malicious_pickle_is_refused_and_not_executed(save, wrap, protocol, tmp_path):
    mark = tmp_path / "mark"
    content = wrap(Malicious(os.system, f"touch {mark}"))
    save(content, tmp_path / "x.pth", protocol)
    what = f"{os.system.__module__}.system, which is refused" if protocol > 1 else ""
    refused(tmp_path / "x.pth", what or "which is refused|opcode DICT")
    (tmp_path / "bare.bin").write_bytes(pickle.dumps(content, protocol))
    refused(tmp_path / "bare.bin", what or "which is refused|opcode DICT")
    assert not mark.exists()
    os.system(f"touch {mark}")  # the call would have had this effect
    assert mark.exists()


GLOBAL = b"cbuiltins\neval\n"
PROGRAMS = {
    "global": b"\x80\x02" + GLOBAL + b"X\x01\x00\x00\x001\x85R.",
    "stack global": b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.",
    "instance": b"(X\x01\x00\x00\x001ibuiltins\neval\n.",
    "object": b"(" + GLOBAL + b"X\x01\x00\x00\x001o.",
    "new object": b"\x80\x02" + GLOBAL + b")\x81.",
    "extension": b"\x80\x02\x82\x01.",
    "attribute of an allowed one": b"\x80\x04\x8c\x05torch\x8c\x10Size.__class__.x\x93.",
    "call of a class": b"\x80\x02ctorch\nFloatStorage\n)R.",
    "call of a number": b"\x80\x02K\x01)R.",
    "arguments in a word": b"\x80\x02ctorch\nSize\nX\x01\x00\x00\x001R.",
    "attributes of a function": b"\x80\x02ctorch\nSize\n}X\x01\x00\x00\x00ac" + GLOBAL[1:] + b"sb.",
    "a buffer from outside": b"\x80\x05\x97.",
    "a large claim": b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x00.",
    "a large place": b"\x80\x02}r\xff\xff\xff\xff.",
    "a mark without end": b"\x80\x02((((.",
    "nothing on the stack": b"\x80\x02R.",
    "a storage of nothing": b"\x80\x02K\x01Q.",
    "tuples too deep to hash": b"\x80\x02})" + b"\x85" * 30_000 + b"K\x01s.",
    "a table in itself": b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s.",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_unsupported_pickle_programs_are_refused(save, program, tmp_path):
    save((PROGRAMS[program], []), tmp_path / "x.pth")
    refused(tmp_path / "x.pth", "cannot be read as weights")


TEN = Storage(np.arange(10, dtype="float32"))
IMPOSSIBLE = {
    "beyond the end": Tensor(TEN, (11,)),
    "beyond by its offset": Tensor(TEN, (5,), offset=6),
    "beyond by its strides": Tensor(TEN, (2, 2), (9, 1)),
    "far beyond": Tensor(TEN, (1 << 40, 1 << 40)),
    "one number many times": Tensor(TEN, (1 << 40,), (0,)),
    "backwards": Tensor(TEN, (3,), (-1,), offset=4),
    "of negative size": Tensor(TEN, (-3, -3)),
    "before the start": Tensor(TEN, (3,), offset=-2),
    "of words": Tensor(TEN, ("a",), (1,)),
    "of truths": Tensor(TEN, (True,), (1,)),
    "of too few strides": Tensor(TEN, (2, 2), (1,)),
    "of many sides": Tensor(TEN, (1,) * 200),
    "of no storage": Tensor("storage", (1,)),
    "of a storage that claims more": Tensor(
        Storage(np.arange(10, dtype="float32"), length=1 << 50), (1 << 50,)
    ),
    "of a storage less than empty": Tensor(Storage(np.zeros(3, "float32"), length=-3), (1,)),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_invalid_tensor_is_refused(save, name, tmp_path):
    save({"w": IMPOSSIBLE[name]}, tmp_path / "x.pth")
    refused(tmp_path / "x.pth", "cannot be read as weights")


@pytest.mark.parametrize("left", [*np.linspace(0, 0.999, 12), "almost"])
def test_truncated_file_is_refused(save, left, tmp_path):
    save(sample()[0], tmp_path / "x.pth")
    whole = (tmp_path / "x.pth").read_bytes()
    keep = len(whole) - 1 if left == "almost" else int(left * len(whole))
    (tmp_path / "x.pth").write_bytes(whole[:keep])
    is_archive = whole.startswith(b"PK") and keep > 4
    reason = "not a complete zip archive" if is_archive else "truncated|fewer than its length"
    refused(tmp_path / "x.pth", reason)


@pytest.mark.parametrize(
    "seed", [*range(8), *(pytest.param(seed, marks=pytest.mark.check) for seed in range(8, 40))]
)
def test_random_damage_raises_only_usage_errors(save, seed, tmp_path):
    save(sample()[0], tmp_path / "x.pth")
    random, content = np.random.default_rng(seed), bytearray((tmp_path / "x.pth").read_bytes())
    start = random.integers(len(content))
    content[start : start + 8] = random.bytes(len(content[start : start + 8]))
    (tmp_path / "x.pth").write_bytes(content)
    with contextlib.suppress(UsageError):  # damaged values in a legacy file are not detected
        formats.read(tmp_path / "x.pth")


def test_compressed_torch_archive_is_refused(tmp_path):
    bomb = {"w": Tensor(Storage(np.zeros(1 << 20, "float32")), (1 << 20,))}
    save_zip(bomb, tmp_path / "x.pth", pack=zipfile.ZIP_DEFLATED)
    refused(
        tmp_path / "x.pth", "data/0 is missing or compressed|byteorder is missing or compressed"
    )


def test_archives_without_tensors_are_refused(save, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused(tmp_path / "x.pt", r"has no data.pkl, so it is not a PyTorch file")
    save({"epoch": 3}, tmp_path / "y.pt")
    refused(tmp_path / "y.pt", "holds no tensors by name")
