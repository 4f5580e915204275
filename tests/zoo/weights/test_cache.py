"""The cache of weights files: full and read-only disks, wrong files, digests, its location."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

import zoo
from tests.support.weights_server import (
    CONTENT,
    FETCH,
    NAME,
    OWNER,
    SHA256,
    cached_names,
    corrupt,
    forbid_hashing,
    start_fetch,
    unprivileged_user,
)
from zoo import atomic_files, env_vars, weights
from zoo.errors import UsageError
from zoo.weights import cache, digests
from zoo.weights.cache import RemoteFile
from zoo.weights.digests import DigestMismatchError

pytestmark = pytest.mark.usefixtures("isolated_environment")


# Disks

FULL_DISK = (
    """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, resource.RLIM_INFINITY))
"""
    + FETCH
)


def test_full_disk_leaves_no_partial_file(file):
    """A limit on the file size has the effect of a full disk: a write fails in the middle."""
    message, _ = start_fetch(file, FULL_DISK).communicate(timeout=60)
    assert f"{NAME} cannot be written to {env_vars.weights_dir()} (" in message
    assert "set ZOO_HOME" in message
    assert cached_names() == []


def test_download_needs_enough_disk_space(file, monkeypatch):
    usage = namedtuple("Usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1_000_000))
    with pytest.raises(UsageError, match=r"3,072,000 bytes needed, 1,000,000 free\); set ZOO_HOME"):
        cache.fetch(file, OWNER)
    assert cached_names() == []


def test_read_only_cache_is_reported(read_only, file, server):
    read_only()
    with (
        unprivileged_user(),
        pytest.raises(UsageError, match=r"Permission denied\); set ZOO_HOME to"),
    ):
        cache.fetch(file, OWNER)
    assert not server.requests


def test_read_only_cache_is_used(read_only, file, monkeypatch):
    path = cache.fetch(file, OWNER)
    read_only()
    with unprivileged_user():
        assert cache.fetch(file, OWNER) == path
        forbid_hashing(monkeypatch)
        assert cache.fetch(file, OWNER) == path


def test_cache_below_a_file_is_reported(tmp_path, monkeypatch, file):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(UsageError, match=r"cannot be written to .*Not a directory"):
        cache.fetch(file, OWNER)


def test_atomic_write_syncs_before_renaming(tmp_path, monkeypatch):
    done = []
    sync, rename = os.fsync, os.replace

    def log_sync(number):
        done.append(Path(os.readlink(f"/proc/self/fd/{number}")).name)
        sync(number)

    def log_rename(old, new):
        done.append(("rename", Path(new).name))
        rename(old, new)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc to see which file was synchronized")
    monkeypatch.setattr(os, "fsync", log_sync)
    monkeypatch.setattr(os, "replace", log_rename)
    with atomic_files.atomic_write(tmp_path / "state.json") as partial:
        partial.write_text("new")
    assert done == [partial.name, ("rename", "state.json"), tmp_path.name]


# Pages in place of weights

PAGE = b"<html>log in to the network</html>"


def test_html_page_in_place_of_weights_is_refused(server):
    file = RemoteFile(f"{server.url}/{NAME}")
    server.contents[NAME] = PAGE
    with pytest.raises(
        UsageError, match=rf"content of {server.url}/{NAME} is not a weights file"
    ) as e:
        cache.fetch(file, OWNER)
    assert "\n" not in str(e.value)
    assert cached_names() == []
    server.contents[NAME] = CONTENT
    assert cache.fetch(file, OWNER).read_bytes() == CONTENT


def test_html_page_in_the_cache_is_removed(server):
    file = RemoteFile(f"{server.url}/{NAME}")
    path = env_vars.weights_dir() / file.cache_name
    path.parent.mkdir(parents=True)
    path.write_bytes(PAGE)
    assert cache.fetch(file, OWNER) == path  # cached by an earlier version
    with pytest.raises(UsageError, match=r"cannot be read .*removed from the cache"):
        weights.load(zoo.build("lenet5"), path)
    assert cached_names() == []


@pytest.mark.parametrize("digest", [hashlib.sha256(PAGE).hexdigest(), None])
def test_files_with_digest_or_outside_the_cache_are_not_removed(digest, server, tmp_path):
    if digest is None:
        path = tmp_path / NAME
        path.write_bytes(PAGE)
    else:
        server.contents[NAME] = PAGE
        path = cache.fetch(RemoteFile(f"{server.url}/{NAME}", digest), OWNER)
    with pytest.raises(UsageError, match="cannot be read as weights"):
        weights.load(zoo.build("lenet5"), path)
    assert path.read_bytes() == PAGE


# Digests of any files


def test_sha256_follows_the_content(tmp_path, monkeypatch):
    path = tmp_path / "mine.h5"
    path.write_bytes(b"one")
    assert digests.sha256(path) == hashlib.sha256(b"one").hexdigest()
    monkeypatch.chdir(tmp_path)
    path.write_bytes(b"two2")
    assert digests.sha256("mine.h5") == hashlib.sha256(b"two2").hexdigest()
    with pytest.raises(UsageError, match=r"gone.h5 cannot be read \(No such file"):
        digests.sha256(tmp_path / "gone.h5")
    forbid_hashing(monkeypatch)
    assert digests.sha256(path) == hashlib.sha256(b"two2").hexdigest()


def test_sha256_does_not_overwrite_the_record(server):
    file = RemoteFile(f"{server.url}/{NAME}")
    path = cache.fetch(file, OWNER)
    corrupt(path)
    assert digests.sha256(path) != SHA256
    with pytest.raises(DigestMismatchError):
        cache.fetch(file, OWNER)


# Location of the cache


def test_cache_folder_from_environment_variables(tmp_path, monkeypatch):
    assert env_vars.cache_dir() == tmp_path / "home"
    monkeypatch.delenv("ZOO_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert env_vars.cache_dir() == tmp_path / "keras-zoo"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # invalid by the standard
    monkeypatch.setenv("HOME", str(tmp_path))
    assert env_vars.cache_dir() == tmp_path / ".cache" / "keras-zoo"
    monkeypatch.setenv("ZOO_HOME", "~/mine")
    assert env_vars.cache_dir() == tmp_path / "mine"


def test_cache_lookup_imports_no_heavy_module(file):
    cache.fetch(file, OWNER)
    heavy = {"keras", "tensorflow", "numpy", "urllib.request", "tqdm"}
    code = f"{FETCH}\nsys.exit(bool({heavy} & set(sys.modules)))"
    process = start_fetch(file, code)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    assert out.strip() == str(env_vars.weights_dir() / file.cache_name)
