"""Weights without a network: the offline switch, mirrors, and the cache of Keras."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os

import pytest

from tests.support.weights_server import (
    CONTENT,
    MD5,
    NAME,
    OWNER,
    SHA256,
    cached_names,
    corrupt,
    forbid_hashing,
    unprivileged_user,
)
from zoo import env_vars
from zoo.errors import UsageError
from zoo.weights import cache
from zoo.weights.cache import RemoteFile
from zoo.weights.digests import DigestMismatchError

pytestmark = pytest.mark.usefixtures("isolated_environment")


# Without a network


def test_offline_message_names_file_and_locations(file, server, monkeypatch):
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(UsageError) as error:
        cache.fetch(file, OWNER)
    for part in (OWNER, "ZOO_OFFLINE", str(env_vars.weights_dir() / file.cache_name), file.source):
        assert part in str(error.value)
    assert not server.requests
    env_vars.weights_dir().mkdir(parents=True)
    (env_vars.weights_dir() / file.cache_name).write_bytes(CONTENT)
    assert cache.fetch(file, OWNER) == env_vars.weights_dir() / file.cache_name


@pytest.mark.parametrize(("value", "off"), [("0", False), ("", False), ("true", True)])
def test_values_of_the_offline_switch(value, off, monkeypatch):
    monkeypatch.setenv("ZOO_OFFLINE", value)
    assert env_vars.is_offline() == off


@pytest.mark.parametrize("name", [NAME, f"{SHA256[:8]}-{NAME}"])
def test_mirror_folder_is_used_in_place(name, tmp_path, monkeypatch, file, server):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / name).write_bytes(CONTENT)
    monkeypatch.setenv("ZOO_WEIGHTS", str(tmp_path / "folder"))
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    assert cache.fetch(file, OWNER) == tmp_path / "folder" / name
    assert os.listdir(tmp_path / "folder") == [name]
    assert cached_names() == []
    forbid_hashing(monkeypatch)
    cache.fetch(file, OWNER)
    assert not server.requests


def test_read_only_mirror_and_cache(read_only, file, monkeypatch):
    (env_vars.weights_dir() / NAME).write_bytes(CONTENT)
    read_only()
    monkeypatch.setenv("ZOO_WEIGHTS", str(env_vars.weights_dir()))
    with unprivileged_user():
        assert cache.fetch(file, OWNER).read_bytes() == CONTENT


def test_wrong_file_in_a_mirror_folder_is_kept(tmp_path, monkeypatch, file):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / NAME).write_bytes(CONTENT[:-1])
    monkeypatch.setenv("ZOO_WEIGHTS", str(tmp_path / "folder"))
    with pytest.raises(DigestMismatchError, match="differs from the published file"):
        cache.fetch(file, OWNER)
    assert os.listdir(tmp_path / "folder") == [NAME]


def test_mirror_folder_without_the_file_is_an_error(tmp_path, monkeypatch, file, server):
    monkeypatch.setenv("ZOO_WEIGHTS", str(tmp_path))
    with pytest.raises(UsageError, match=f"not in the folder that ZOO_WEIGHTS .*{file.source}"):
        cache.fetch(file, OWNER)
    assert not server.requests
    monkeypatch.setenv("ZOO_WEIGHTS", str(tmp_path / "gone"))
    with pytest.raises(UsageError, match="must name a folder or a URL"):
        cache.fetch(file, OWNER)


def test_mirror_url_replaces_the_source(server, monkeypatch):
    file = RemoteFile(f"http://example.invalid/{NAME}", SHA256)
    server.contents = {file.cache_name: CONTENT}
    monkeypatch.setenv("ZOO_WEIGHTS", f"{server.url}/models/")
    assert cache.fetch(file, OWNER) == env_vars.weights_dir() / file.cache_name
    assert server.requests == [(file.cache_name, 0)]


def test_cache_of_keras_is_used(tmp_path, monkeypatch, file, server):
    path = tmp_path / "keras" / "models" / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert cache.fetch(file, OWNER) == path
    assert cache.fetch(dataclasses.replace(file, digest=MD5), OWNER) == path
    assert not server.requests
    path.write_bytes(b"something else")
    assert cache.fetch(file, OWNER) == env_vars.weights_dir() / file.cache_name
    assert path.read_bytes() == b"something else"
    assert cache.fetch(dataclasses.replace(file, digest=""), OWNER) != path


# Mirrors


def test_create_and_use_a_mirror(tmp_path, monkeypatch, server, file):
    anonymous = RemoteFile(f"{server.url}/{NAME}")
    cache.fetch(file, OWNER)
    for each in (file, anonymous, file):
        path = cache.add_to_mirror(each, tmp_path / "mirror", OWNER)
        assert path.read_bytes() == CONTENT
    assert len(server.requests) == 2  # what was in the cache was copied
    assert cached_names() == [file.cache_name, f"{file.cache_name}.json"]
    index = json.loads((tmp_path / "mirror" / "index.json").read_text())
    about = {"source": file.source, "sha256": SHA256, "bytes": len(CONTENT)}
    assert index["files"] == {
        file.cache_name: {**about, "digest": SHA256},
        anonymous.cache_name: {**about, "digest": ""},
    }
    assert sorted(os.listdir(tmp_path / "mirror")) == sorted([*index["files"], "index.json"])

    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    monkeypatch.setenv("ZOO_WEIGHTS", str(tmp_path / "mirror"))
    for each in (file, anonymous):
        assert cache.fetch(each, OWNER) == tmp_path / "mirror" / each.cache_name
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "yet_elsewhere"))
    corrupt(tmp_path / "mirror" / anonymous.cache_name)  # its digest is in the index only
    with pytest.raises(DigestMismatchError, match="differs from its earlier content"):
        cache.fetch(anonymous, OWNER)


def test_wrong_file_in_a_new_mirror_is_quarantined(tmp_path, file):
    path = cache.add_to_mirror(file, tmp_path / "mirror", OWNER)
    corrupt(path)
    with pytest.raises(DigestMismatchError, match="renamed to"):
        cache.add_to_mirror(file, tmp_path / "mirror", OWNER)
    assert cache.add_to_mirror(file, tmp_path / "mirror", OWNER).read_bytes() == CONTENT


def write_wrong_file(folder, file, content, about=None):
    """Writes a wrong file into a mirror, with an index and a record that confirm its digest."""
    folder.mkdir()
    path = folder / file.cache_name
    path.write_bytes(content)
    stat = path.stat()
    note = {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "digest": file.digest}
    note["sha256"] = hashlib.sha256(content).hexdigest()
    entry = note if about is None else about
    (folder / "index.json").write_text(json.dumps({"files": {file.cache_name: entry}}))
    path.with_name(f"{path.name}.json").write_text(json.dumps(note))
    return path


@pytest.mark.parametrize("digest", [SHA256, MD5, SHA256[:8]])
def test_index_of_a_mirror_is_not_trusted(digest, tmp_path, monkeypatch, server):
    file = RemoteFile(f"{server.url}/{NAME}", digest)
    path = write_wrong_file(tmp_path / "mirror", file, b"!" + CONTENT[1:])
    monkeypatch.setenv("ZOO_WEIGHTS", str(tmp_path / "mirror"))
    for _ in range(2):
        with pytest.raises(DigestMismatchError, match="differs from the published file"):
            cache.fetch(file, OWNER)
    with pytest.raises(DigestMismatchError):
        cache.add_to_mirror(file, tmp_path / "mirror", OWNER)
    assert not path.exists()  # quarantined, as this mirror is being created


@pytest.mark.parametrize(
    "about",
    [
        5,
        None,
        [1],
        {"sha256": 5, "digest": SHA256},
        {"sha256": "x", "digest": SHA256},
        {"digest": 1},
    ],
)
def test_invalid_index_of_a_mirror_is_ignored(about, tmp_path, monkeypatch, file):
    path = write_wrong_file(tmp_path / "mirror", file, CONTENT, about or {})
    monkeypatch.setenv("ZOO_WEIGHTS", str(tmp_path / "mirror"))
    assert cache.fetch(file, OWNER) == path
    (tmp_path / "mirror" / "index.json").write_text("[" * 200_000)
    path.touch()
    assert cache.fetch(file, OWNER) == path
    assert cache.add_to_mirror(file, tmp_path / "mirror", OWNER) == path
