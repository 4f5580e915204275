"""Fixtures of the tests of downloads, cache and mirrors."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from pathlib import Path

import pytest

from tests.support.weights_server import NAME, SHA256, Server
from zoo.weights import download
from zoo.weights.cache import RemoteFile


@pytest.fixture
def server():
    with Server() as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.02,))
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def isolated_environment(tmp_path, monkeypatch):
    """Removes settings of this machine and proxies, and the pauses between attempts."""
    for name in [*os.environ]:
        if name.startswith("ZOO_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(download, "INITIAL_BACKOFF", 0)


@pytest.fixture
def file(server):
    return RemoteFile(f"{server.url}/{NAME}", SHA256)


@pytest.fixture
def read_only(monkeypatch):
    """A function that makes the cache folder and its files read-only."""
    folder = Path(tempfile.mkdtemp())
    weights_folder = folder / "weights"
    weights_folder.mkdir()

    def close():
        for path in (weights_folder, folder):
            path.chmod(0o555)
        for path in weights_folder.iterdir():
            path.chmod(0o444)

    monkeypatch.setenv("ZOO_HOME", str(folder))
    yield close
    for path in (folder, weights_folder):
        path.chmod(0o755)
    shutil.rmtree(folder)
