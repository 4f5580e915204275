"""Models on the Hugging Face Hub, served by a local server: download, cache, and hostile files."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import zoo
from tests.support import hub_server
from tests.support.paths import ROOT
from zoo import hub, model_files
from zoo.errors import UsageError
from zoo.lazy import keras

constants = pytest.importorskip("huggingface_hub.constants")

pytestmark = pytest.mark.xdist_group("hub")
NAME = "hf://user/cats"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Returns a running hub, whose downloads are cached in a temporary folder."""
    with hub_server.running() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield running


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Returns a small classifier and the bytes of its file."""
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    model = zoo.build("mlp", input_shape=(8, 8, 1), num_classes=2, widths=(4,))
    model_files.save(model, path, {"task": "classification", "classes": ["cat", "dog"]})
    return model, path.read_bytes()


def values(model):
    pixels = np.arange(64, dtype="uint8").reshape(1, 8, 8, 1)
    return keras.ops.convert_to_numpy(model(pixels))


def test_a_model_is_built_by_its_name(server, saved):
    server.commit("user/cats", {"model.keras": saved[1]})
    np.testing.assert_array_equal(values(zoo.build(NAME)), values(saved[0]))
    assert zoo.build(NAME, classes=["cat", "dog"]).output_shape == (None, 2)
    assert zoo.build(NAME, num_classes=5).output_shape == (None, 5)


def test_a_revision_is_pinned(server, saved):
    first = server.commit("user/cats", {"model.keras": saved[1]})
    other = io.BytesIO(saved[1])
    with zipfile.ZipFile(other, "a") as archive:
        archive.writestr("note.txt", "another file")
    server.commit("user/cats", {"model.keras": other.getvalue()})
    assert hub.fetch(f"{NAME}@{first}").read_bytes() == saved[1]
    assert hub.fetch(NAME).read_bytes() == other.getvalue()


def test_a_model_in_the_cache_needs_no_network(server, saved, monkeypatch):
    server.commit("user/cats", {"model.keras": saved[1]})
    path = hub.fetch(NAME)
    server.requests.clear()
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    assert hub.fetch(NAME) == path
    assert server.requests == []
    with pytest.raises(UsageError, match="hf://user/dogs: it is not in the cache"):
        hub.fetch("hf://user/dogs")


def test_a_model_in_the_cache_is_used_when_the_hub_is_down(server, saved, monkeypatch):
    server.commit("user/cats", {"model.keras": saved[1]})
    path = hub.fetch(NAME)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert hub.fetch(NAME) == path


def test_a_file_with_another_digest_is_refused_and_deleted(server, saved):
    server.commit("user/cats", {"model.keras": saved[1]})
    server.tamper = True
    for _ in range(2):
        with pytest.raises(UsageError, match="another SHA-256"):
            hub.fetch(NAME)
    server.tamper = False
    assert hub.fetch(NAME).read_bytes() == saved[1]


def test_a_changed_file_in_the_cache_is_refused(server, saved):
    server.commit("user/cats", {"model.keras": saved[1]})
    path = hub.fetch(NAME)
    os.chmod(os.path.realpath(path), 0o644)
    with open(path, "ab") as file:
        file.write(b"more")
    with pytest.raises(UsageError, match="another SHA-256"):
        hub.fetch(NAME)


class Marker:
    """Writes a file when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def hostile(saved, config):
    """Returns the bytes of a model file whose configuration is changed by a function."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved)) as before, zipfile.ZipFile(file, "w") as after:
        for name in before.namelist():
            content = before.read(name)
            if name == "config.json":
                content = json.dumps(config(json.loads(content))).encode()
            after.writestr(name, content)
    return file.getvalue()


def with_lambda(config):
    layer = keras.layers.Lambda(lambda x: x)
    config["config"]["layers"][1] = {
        **keras.saving.serialize_keras_object(layer),
        "name": config["config"]["layers"][1]["name"],
        "inbound_nodes": config["config"]["layers"][1]["inbound_nodes"],
    }
    return config


def with_function_of_a_module(config):
    layer = config["config"]["layers"][1]
    layer |= {"module": "os", "class_name": "system", "registered_name": None}
    layer["config"] = {"command": "mkdir unpickled"}
    return config


@pytest.mark.parametrize("change", [with_lambda, with_function_of_a_module])
def test_no_code_of_a_file_is_executed(server, saved, change, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keras.config.enable_unsafe_deserialization()  # by another library in the process
    try:
        server.commit("user/cats", {"model.keras": hostile(saved[1], change)})
        with pytest.raises(UsageError, match="cannot be read as a Keras model"):
            zoo.build(NAME)
    finally:
        keras.src.backend.common.global_state.set_global_attribute("safe_mode_saving", None)
    assert not (tmp_path / "unpickled").exists()


def test_a_pickle_is_no_model(server, tmp_path, monkeypatch):
    import pickle

    monkeypatch.chdir(tmp_path)
    server.commit("user/cats", {"model.keras": pickle.dumps(Marker())})
    with pytest.raises(UsageError, match="cannot be read as a Keras model"):
        zoo.build(NAME)
    assert not (tmp_path / "unpickled").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf://user/none", "no such repository"),
        (f"{NAME}@{'0' * 40}", "no such revision"),
        ("hf://user/empty", "has no model.keras"),
        ("hf://user/private", "or it is private"),
        ("hf://user/gated", "access must be requested"),
        ("hf://user", "is not a name such as"),
        ("hf://user/../../x", "is not a name such as"),
        ("hf://user/a--b..c", "is not a name such as"),
    ],
)
def test_errors_are_one_line(server, saved, name, message):
    server.commit("user/cats", {"model.keras": saved[1]})
    server.commit("user/empty", {"README.md": b""})
    for kind in ("private", "gated"):
        server.commit(f"user/{kind}", {"model.keras": saved[1]})
        server.repositories[f"user/{kind}"][kind] = True
    with pytest.raises(UsageError, match=message) as error:
        zoo.build(name)
    assert "\n" not in str(error.value)


def test_arguments_of_an_untrained_model_are_refused(server, saved):
    for given in ({"weights": "random"}, {"input_shape": (4, 4, 1)}, {"widths": (3,)}):
        with pytest.raises(UsageError, match=f"takes no {next(iter(given))}"):
            zoo.build(NAME, **given)


def test_a_missing_package_is_named(monkeypatch):
    code = (
        "import sys; sys.modules['huggingface_hub'] = None; import zoo\n"
        "try: zoo.build('hf://user/cats')\nexcept zoo.UsageError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "needs huggingface_hub: pip install 'keras-zoo[hub]'" in done.stdout, done.stderr
