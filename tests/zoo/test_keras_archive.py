"""Damaged and malicious model files: one-line errors, no code executed, no excessive memory."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from importlib.util import find_spec

import h5py
import keras
import numpy as np
import pytest

from tests.support.paths import ROOT
from zoo import model_files
from zoo.errors import UsageError

CONFIG, WEIGHTS, METADATA = "config.json", "model.weights.h5", "zoo.json"


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """The contents of the members of a small classifier's file, by name."""
    path = tmp_path_factory.mktemp("model") / "x.keras"
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="logits")])
    model_files.save(model, path, {"classes": ["a", "b"]})
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def written(members, tmp_path):
    """Returns a function that writes the model file with some members replaced."""

    def write(changes=None, pack=zipfile.ZIP_STORED):
        path = tmp_path / "x.keras"
        with zipfile.ZipFile(path, "w", pack) as archive:
            for name, content in {**members, **(changes or {})}.items():
                archive.writestr(name, content)
        return path

    return write


def refused(path, match=""):
    with pytest.raises(UsageError, match=match) as error:
        model_files.load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


def test_load_compressed_archive(written):
    model, metadata = model_files.load(written(pack=zipfile.ZIP_DEFLATED))
    assert metadata == {"classes": ["a", "b"]}
    assert model.output_shape == (None, 2)


@pytest.mark.parametrize("left", [0, 10, 0.5, -1])
def test_truncated_model_file_is_refused(left, written):
    path = written()
    whole = path.read_bytes()
    path.write_bytes(whole[: int(left * len(whole)) if 0 < left < 1 else left])
    refused(path, "it is not a complete zip archive")


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, METADATA])
@pytest.mark.parametrize("flaw", ["encrypted", "method", "data"])
def test_unreadable_archive_member_is_named(name, flaw, written):
    path = written(pack=zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    local, central = (content.index(name.encode()), content.rindex(name.encode()))
    if flaw == "data":
        start = local + len(name)
        content[start : start + 8] = b"\xff" * 8
    else:  # fields of the headers before the name
        at, value = {"encrypted": (24, 1), "method": (22, 99)}[flaw]
        struct.pack_into("<H", content, local - at, value)
        struct.pack_into("<H", content, central - at - 14, value)
    path.write_bytes(content)
    refused(path, f"{name} cannot be unpacked")


DEEP = '{"module":"keras","class_name":"Sequential","config":' * 9_000 + "{}" + "}" * 9_000


@pytest.mark.parametrize("config", ["[" * 200_000, DEEP, "5", "null", "[]", "{}", "", "\xff"])
def test_invalid_config_is_refused(config, written):
    refused(written({CONFIG: config}), "config.json")


INVALID_METADATA = {
    "[]": "not a JSON object",
    "null": "not a JSON object",
    "5": "not a JSON object",
    "[" * 200_000: "zoo.json: ",
    '{"classes": 5}': "classes in its zoo.json must be a list of strings, not '5'",
    '{"classes": [1, 2]}': "must be a list of strings",
    '{"classes": ["a"]}': "names 1 classes, but it has 2 outputs",
    '{"task": ["x"]}': "task in its zoo.json must be a string, not ",
    '{"resize": 3}': "resize in its zoo.json must be a string",
    '{"length": "x"}': "length in its zoo.json must be a number",
    '{"options": []}': "options in its zoo.json must be an object",
}


@pytest.mark.parametrize("text", INVALID_METADATA)
def test_invalid_metadata_is_refused(text, written):
    refused(written({METADATA: text}), INVALID_METADATA[text])


@pytest.mark.parametrize("functional", [True, False])
def test_a_class_that_is_not_registered_is_named(functional, tmp_path):
    class Mine(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    image = keras.Input((4,))
    made = keras.Model(image, Mine()(image)) if functional else keras.Sequential([image, Mine()])
    made.save(tmp_path / "x.keras")
    refused(tmp_path / "x.keras", "needs the class 'Mine', which is in neither Keras nor the zoo")


def test_missing_metadata_key_raises_usage_error(written):
    _, metadata = model_files.load(written({METADATA: "{}"}))
    with pytest.raises(UsageError, match="has no length"):
        metadata["length"]


class Mark:
    """An object whose unpickling creates a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["TorchModuleWrapper", "Lambda"])
def test_code_in_a_model_file_is_not_executed(kind, members, written, tmp_path):
    config = json.loads(members[CONFIG])
    code = pickle.dumps(Mark(tmp_path / "mark")).decode("latin-1")
    lambda_ = {"class_name": "__lambda__", "config": {"code": "4w==", "defaults": None}}
    inner = {"module": code, "name": "x", "function": lambda_}
    config["config"]["layers"].insert(
        1, {"module": "keras.layers", "class_name": kind, "config": inner, "registered_name": None}
    )
    torchless = kind == "TorchModuleWrapper" and find_spec("torch") is None
    reason = "No module named 'torch'$" if torchless else "disallowed by default.$"
    refused(written({CONFIG: json.dumps(config)}), reason)
    assert not (tmp_path / "mark").exists()


TOO_LARGE = "its layers have 3,500,000,000 weights, but only 40 bytes are stored"


def with_many_units(members, written):
    """Writes a file whose only layer has 14 GB of weights by its configuration."""
    return written({CONFIG: members[CONFIG].replace(b'"units": 2', b'"units": 700000000')})


def test_layers_larger_than_the_stored_weights_are_refused(members, written, monkeypatch):
    path = with_many_units(members, written)
    monkeypatch.setattr(keras.saving, "load_model", lambda *_, **__: pytest.fail("loaded"))
    refused(path, TOO_LARGE)


@pytest.mark.check
def test_layers_larger_than_the_stored_weights_are_not_allocated(members, written):
    path = with_many_units(members, written)
    code = """
import resource, sys
from tests.support import peak_memory
from zoo import model_files
from zoo.errors import UsageError
resource.setrlimit(resource.RLIMIT_DATA, (8 << 30, 8 << 30))
try:
    model_files.load(sys.argv[1])
except UsageError as error:
    print(error)
    print(peak_memory.kilobytes())
"""
    words = [sys.executable, "-c", code, str(path)]
    root = ROOT
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    message, max_rss = done.stdout.splitlines()
    assert TOO_LARGE in message
    assert int(max_rss) < 4_000_000  # kilobytes; the weights would be 14 GB


def test_load_quantised_model(tmp_path):
    model = keras.Sequential([keras.Input((1000,)), keras.layers.Dense(1000, name="logits")])
    model.layers[0].quantize("int8")
    model.save(tmp_path / "x.keras")
    read, _ = model_files.load(tmp_path / "x.keras")
    assert read.layers[0].kernel.dtype == "int8"


def test_decompression_bomb_is_refused(written):
    bomb = written({METADATA: " " * 50_000_000}, zipfile.ZIP_DEFLATED)
    refused(bomb, "zoo.json claims 50,000,000 bytes .* decompression bomb")


def test_hdf5_arrays_larger_than_stored_are_refused(written):
    content = io.BytesIO()
    with h5py.File(content, "w") as root:
        root.create_dataset("layers/logits/vars/0", (1 << 32,), "f4", chunks=(1 << 16,))
    refused(written({WEIGHTS: content.getvalue()}), "claims 17,179,869,184 bytes and stores 0")


def test_hdf5_links_to_other_files_are_refused(written, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as root:
        root["x"] = np.ones((4, 2), "float32")
    content = io.BytesIO()
    with h5py.File(content, "w") as root:
        root.create_group("layers/logits/vars")["0"] = h5py.ExternalLink("other.h5", "/x")
    refused(written({WEIGHTS: content.getvalue()}), "links are refused")
