"""`zoo --version`: what a bug report needs, read without an import of TensorFlow."""

import importlib.metadata
import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import zoo
from scripts import _version
from scripts.__main__ import main


@pytest.fixture
def keras_home(tmp_path, monkeypatch):
    """An empty folder for the settings of Keras, and no backend chosen by the environment."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    return tmp_path


def test_the_versions_are_printed(capsys, keras_home):
    assert main(["--version"]) == 0
    tensorflow = importlib.metadata.version("tensorflow")
    assert capsys.readouterr().out.splitlines() == [
        f"keras-zoo {zoo.__version__}",
        f"keras {importlib.metadata.version('keras')}",
        f"tensorflow {tensorflow}",
        f"backend tensorflow {tensorflow}",
        f"python {platform.python_version()}",
    ]


def test_the_backend_is_the_one_that_keras_would_use(keras_home, monkeypatch):
    assert _version.selected_backend() == "tensorflow"
    (keras_home / "keras.json").write_text(json.dumps({"backend": "jax"}))
    assert _version.selected_backend() == "jax"
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert _version.selected_backend() == "torch"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"backend": 3}', "\xff"])
def test_broken_settings_give_the_default_backend(text, keras_home):
    (keras_home / "keras.json").write_text(text, encoding="latin-1")
    assert _version.selected_backend() == "tensorflow"


@pytest.mark.parametrize("backend", ["nonesuch", " ", "../x"])
def test_a_backend_that_is_absent_is_named(backend, keras_home, monkeypatch, capsys):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    assert main(["--version"]) == 0
    assert f"backend {backend} not installed\n" in capsys.readouterr().out


def test_no_framework_is_imported():
    code = (
        "import sys; from scripts.__main__ import main; main(['--version']);"
        "sys.exit(any(name in sys.modules for name in ('keras', 'tensorflow', 'numpy')))"
    )
    root = Path(zoo.__file__).parent.parent
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0
