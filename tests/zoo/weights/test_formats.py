"""Damaged and malicious weights files: one-line errors, without excessive memory or time."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest

from tests.support.paths import ROOT
from zoo.errors import UsageError
from zoo.weights import formats


def refused(path, match=""):
    with pytest.raises(UsageError, match=match) as error:
        formats.read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


# PyTorch


NESTED = b"\x8c\x01a\x94" + b"".join(b"h" + bytes([n]) + b"\x86\x94" for n in range(60))
PICKLES = {
    "a module name that doubles": b"\x80\x04" + NESTED + b"\x8c\x01b\x93.",
    "a persistent id that doubles": b"\x80\x04" + NESTED + b"Q.",
    "an argument that doubles": b"\x80\x04ctorch\nSize\n" + NESTED + b"\x85R.",
    "many copies of a list": b"\x80\x02]q\x00("
    + b"N" * 3000
    + b"e0ctorch\nSize\nq\x010"
    + b"h\x01h\x00\x85R0" * 1000
    + b"N.",
    "a value that is not in the memo": b"\x80\x02h\x05.",
}


@pytest.mark.parametrize("name", PICKLES)
@pytest.mark.parametrize("form", ["zip", "bare"])
def test_exponentially_growing_pickles_are_refused(name, form, tmp_path):
    path = tmp_path / "x.pth"
    if form == "bare":
        path.write_bytes(PICKLES[name])
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", PICKLES[name])
    refused(path, "cannot be read as weights: its? [a-z]+ [a-z]+ ")


def test_exponentially_growing_list_of_storages_is_refused(tmp_path):
    number = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
    system = b"\x80\x02}."
    keys = (
        b"\x80\x04"
        + b"N\x94"
        + b"".join(b"h" + bytes([n]) + b"\x86\x94" for n in range(60))
        + b"]h\x3ca."
    )
    (tmp_path / "x.pth").write_bytes(number + system + system + system + keys)
    refused(tmp_path / "x.pth", "lists storages that no tensor uses")


def test_overlapping_archive_members_are_refused(tmp_path):
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", bytes(10_000))
        shared = archive.infolist()[0]
        for index in range(20):
            twin = zipfile.ZipInfo(f"archive/data/{index}")
            for field in ("header_offset", "file_size", "compress_size", "CRC"):
                setattr(twin, field, getattr(shared, field))
            archive.filelist.append(twin)
    refused(path, "entries of the archive overlap")


# HDF5


def weights_h5(path, fill):
    """Writes a file of Keras 3 with one layer; `fill` writes its variables into a group."""
    with h5py.File(path, "w") as root:
        fill(root.create_group("layers/dense/vars"))
    return path


def external(group):
    group.create_dataset("0", (4,), "u1", external=[("secret.bin", 0, 4)])


def virtual(group):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
    group.create_virtual_dataset("0", layout)


def endless(group):
    group["0"] = group


def doubling(group):
    inner = group
    for _ in range(40):
        child = inner.create_group("a")
        inner["b"] = child
        inner = child


HDF5 = {
    "a link to another file": lambda group: group.__setitem__(
        "0", h5py.ExternalLink("other.h5", "/x")
    ),
    "a link inside the file": lambda group: group.__setitem__("0", h5py.SoftLink("/layers")),
    "numbers in another file": external,
    "numbers of other arrays": virtual,
    "a circle": endless,
    "groups that double": doubling,
    "3 GB in 4 kB": lambda group: group.create_dataset("0", (800_000_000,), "f4"),
    "3 GB, compressed": lambda group: group.create_dataset(
        "0", (800_000_000,), "f4", chunks=(1 << 20,), compression="gzip", fillvalue=1
    ),
    "words": lambda group: group.create_dataset("0", data=["a", "b"]),
    "a group for an array": lambda group: group.create_group("0"),
    "an array of nothing": lambda group: group.create_dataset("0", data=h5py.Empty("f4")),
}


@pytest.mark.parametrize("name", HDF5)
def test_hdf5_with_links_or_oversized_arrays_is_refused(name, tmp_path):
    (tmp_path / "secret.bin").write_bytes(b"abcd")
    with h5py.File(tmp_path / "other.h5", "w") as root:
        root["x"] = np.ones(4, "float32")
    path = weights_h5(tmp_path / "x.weights.h5", HDF5[name])
    refused(path, "cannot be read as weights: ")
    with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
        archive.write(path, "model.weights.h5")
    refused(tmp_path / "x.keras", "cannot be read as weights: ")


def test_arrays_are_read_on_demand(tmp_path, monkeypatch):
    path = weights_h5(
        tmp_path / "x.weights.h5", lambda group: group.create_dataset("0", data=np.ones(4))
    )
    [entry] = formats.read(path)
    [array] = entry.arrays
    assert array.shape == (4,)
    assert not isinstance(array, np.ndarray)
    [found] = formats.load_arrays(entry, path)
    np.testing.assert_array_equal(found, np.ones(4))


# Archives


def archived(path, name, content, pack=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", pack) as archive:
        archive.writestr(name, content)
    return path


def test_decompression_bomb_is_refused_before_reading(tmp_path):
    path = archived(tmp_path / "x.keras", "model.weights.h5", bytes(30_000_000))
    refused(path, "model.weights.h5 claims 30,000,000 bytes and stores .*decompression bomb")


def test_npz_headers_are_read_without_decompressing_arrays(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, **{"layer/0": np.zeros(10_000_000, "float32")})
    code = (
        "import sys; from tests.support import peak_memory; from zoo.weights import formats\n"
        "import numpy; before = peak_memory.kilobytes()\n"
        "[entry] = formats.read(sys.argv[1]); assert entry.arrays[0].shape == (10_000_000,)\n"
        "print(peak_memory.kilobytes() - before)"
    )
    words = [sys.executable, "-c", code, str(path)]
    root = ROOT
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) < 20_000  # kilobytes; the array has 40,000


def header(shape, extra=b""):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    return file.getvalue() + extra


def test_npz_array_with_a_wrong_size_is_refused(tmp_path):
    for extra in (bytes(100_000), bytes(10)):
        path = archived(tmp_path / "x.npz", "layer/0.npy", header((5,), extra))
        [entry] = formats.read(path)
        with pytest.raises(UsageError, match=r"layer/0.npy (claims|holds) .* "):
            formats.load_arrays(entry, path)


NPZ = {
    "no array": b"hello",
    "nothing": b"",
    "half a header": header((5,))[:40],
    "a header of code": header((5,)).replace(b"(5,)", b"f(),"),
    "brackets": b"\x93NUMPY\x01\x00\x00\x08" + b"(" * 2048,
    "objects": None,
}


@pytest.mark.parametrize("name", NPZ)
def test_damaged_npz_is_refused_without_mentioning_pickle(name, tmp_path):
    path = tmp_path / "x.npz"
    if NPZ[name] is None:
        np.savez(path, **{"layer/0": np.array([{}], dtype=object)})
    else:
        archived(path, "layer/0.npy", NPZ[name])
    with pytest.raises(UsageError, match=r"layer/0.npy (is damaged|holds object)") as error:
        formats.read(path)
    assert "pickle" not in str(error.value)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UsageError, match="not a complete zip archive") as error:
        formats.read(path)
    assert "pickle" not in str(error.value)


def set_header_field(path, offset, value):
    """Sets a field in the local and the central header of an archive's only member."""
    content = bytearray(path.read_bytes())
    for start, shift in ((0, 0), (content.index(b"PK\x01\x02"), 2)):
        struct.pack_into("<H", content, start + offset + shift, value)
    path.write_bytes(content)
    return path


ENCRYPTED, METHOD = (6, 1), (8, 99)


@pytest.mark.parametrize("change", [ENCRYPTED, METHOD])
@pytest.mark.parametrize("name", ["x.keras", "x.npz", "x.pth"])
def test_encrypted_archive_or_unknown_compression_is_refused(change, name, tmp_path):
    member = {"x.keras": "model.weights.h5", "x.npz": "a/0.npy", "x.pth": "archive/data.pkl"}[name]
    path = archived(tmp_path / name, member, header((2,), bytes(8)))
    refused(set_header_field(path, *change), "encrypted|compression|compressed|zip archive")


def test_damaged_compressed_data_is_refused(tmp_path):
    path = archived(tmp_path / "x.keras", "model.weights.h5", np.random.default_rng(0).bytes(999))
    content = bytearray(path.read_bytes())
    content[60:90] = b"\xff" * 30
    path.write_bytes(content)
    refused(path, "model.weights.h5 cannot be unpacked")


# safetensors


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 200_000,
        b'{"a":' * 100_000,
        json.dumps({"w": {"dtype": [], "shape": [], "data_offsets": [0, 4]}}).encode(),
        json.dumps({"w": {"dtype": "F32", "shape": [1] * 10_000, "data_offsets": [0, 4]}}).encode(),
    ],
)
def test_invalid_safetensors_header_is_refused(text, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
    refused(path, "header")


# Internal errors


def test_internal_errors_are_not_reported_as_damaged_files(tmp_path, monkeypatch):
    path = archived(tmp_path / "x.npz", "layer/0.npy", header((2,), bytes(8)))

    def fail(*_):
        raise AttributeError("internal")

    monkeypatch.setattr(formats, "_group_by_layer", fail)
    with pytest.raises(AttributeError, match="internal"):
        formats.read(path)
