"""Downloads of weights files: interruptions, servers with faults, and what models load."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import logging
import os
import re
import struct
import subprocess
import sys
import termios

import pytest

import zoo
from tests.support.paths import ROOT
from tests.support.weights_server import (
    CONTENT,
    FETCH,
    MD5,
    NAME,
    OWNER,
    SHA256,
    cached_names,
    corrupt,
    forbid_hashing,
)
from zoo import catalog, env_vars, weights
from zoo.errors import UsageError
from zoo.weights import cache, digests, download
from zoo.weights.cache import RemoteFile
from zoo.weights.digests import DigestMismatchError

pytestmark = pytest.mark.usefixtures("isolated_environment")


# Downloads


@pytest.mark.parametrize("digest", [SHA256, MD5, SHA256[:8], SHA256.upper(), ""])
def test_file_is_downloaded_and_hashed_once(digest, server, monkeypatch):
    file = RemoteFile(f"{server.url}/{NAME}?download=1", digest)
    path = cache.fetch(file, OWNER)
    assert path.read_bytes() == CONTENT
    assert path.parent == env_vars.weights_dir()
    assert path.name.endswith(f"-{NAME}")
    assert cached_names() == [path.name, f"{path.name}.json"]
    assert digests.read_record(path)["sha256"] == SHA256
    forbid_hashing(monkeypatch)
    assert cache.fetch(file, OWNER) == path
    assert len(server.requests) == 1


def test_files_of_the_same_name_are_cached_separately(server):
    server.contents["other.h5"] = other = CONTENT[:-1]
    first = RemoteFile(f"{server.url}/a/other.h5")
    assert cache.fetch(first, OWNER).read_bytes() == other
    server.contents["other.h5"] = another = CONTENT[:-2]
    second = RemoteFile(f"{server.url}/b/other.h5")
    assert cache.fetch(second, OWNER).read_bytes() == another
    assert cache.fetch(first, OWNER).read_bytes() == other


def test_wrong_download_is_quarantined(server, file):
    server.contents[NAME] = b"<html>log in to the network</html>"
    with pytest.raises(
        DigestMismatchError, match=f"its sha256 is .*, expected {SHA256}.*renamed to "
    ) as e:
        cache.fetch(file, OWNER)
    (bad,) = cached_names()
    assert ".bad-" in bad
    assert bad in str(e.value)
    assert len(server.requests) == 1
    server.contents[NAME] = CONTENT
    assert cache.fetch(file, OWNER).read_bytes() == CONTENT


@pytest.mark.parametrize("digest", [SHA256, MD5, ""])
def test_damaged_file_in_the_cache_is_quarantined(digest, server):
    file = RemoteFile(f"{server.url}/{NAME}", digest)
    path = cache.fetch(file, OWNER)
    corrupt(path)
    with pytest.raises(DigestMismatchError, match=r"renamed to .*, so try again"):
        cache.fetch(file, OWNER)
    assert not path.exists()
    assert len(server.requests) == 1
    assert cache.fetch(file, OWNER).read_bytes() == CONTENT


def test_truncated_file_in_the_cache_is_quarantined(file):
    path = cache.fetch(file, OWNER)
    path.write_bytes(CONTENT[:1000])
    with pytest.raises(DigestMismatchError, match="renamed to"):
        cache.fetch(file, OWNER)


@pytest.mark.parametrize("digest", [MD5, ""])
def test_first_content_is_trusted_and_recorded(digest, server, monkeypatch):
    """MD5 can be forged: another file with the same MD5 is refused."""
    file = RemoteFile(f"{server.url}/{NAME}", digest)
    path = cache.fetch(file, OWNER)
    path.unlink()
    server.contents[NAME] = b"!" + CONTENT[1:]
    monkeypatch.setattr(hashlib, "md5", lambda **_: ForgedMD5())
    with pytest.raises(DigestMismatchError, match="differs from its earlier content"):
        cache.fetch(file, OWNER)


class ForgedMD5:
    """A hash object with the expected MD5."""

    def update(self, _):
        """Ignores the data."""

    def hexdigest(self):
        return MD5


@pytest.mark.parametrize("ranges", [True, False])
def test_download_resumes_after_a_broken_connection(ranges, server, file):
    server.ranges = ranges
    server.breaks = [1 << 20, 1 << 20, 0, 0] if ranges else [1 << 20, 1 << 20]
    assert cache.fetch(file, OWNER).read_bytes() == CONTENT
    starts = [start for _, start in server.requests]
    half = 1 << 20
    assert starts == ([0, half, 2 * half, 2 * half, 2 * half] if ranges else [0, 0, 0])


def test_download_without_digest_is_not_resumed(server):
    server.breaks = [1 << 20]
    cache.fetch(RemoteFile(f"{server.url}/{NAME}"), OWNER)
    assert server.requests == [(NAME, 0), (NAME, 0)]


def test_download_stops_after_max_retries(server, file):
    server.breaks = [1 << 20] + [0] * 20
    with pytest.raises(UsageError, match=r"ended after 1,048,576 of 3,072,000 bytes.*FILE") as e:
        cache.fetch(file, OWNER)
    assert OWNER in str(e.value)
    assert len(server.requests) == 1 + download.MAX_RETRIES
    assert cached_names() == [f"{file.cache_name}.partial"]  # for the next attempt
    server.breaks = []
    cache.fetch(file, OWNER)
    assert server.requests[-1] == (NAME, 1 << 20)


def test_temporary_server_errors_are_retried(server, file):
    server.statuses = [503, 429]
    assert cache.fetch(file, OWNER).read_bytes() == CONTENT


def test_permanent_server_errors_are_not_retried(server, file):
    del server.contents[NAME]
    with pytest.raises(
        UsageError, match=f"cannot be downloaded .*{NAME}: the server responded 404 Not Found"
    ) as e:
        cache.fetch(file, OWNER)
    assert "\n" not in str(e.value)
    assert len(server.requests) == 1


def test_refused_connection_is_reported(server, file):
    port = server.server_port + 1 if server.server_port < 65535 else 1
    url = file.source.replace(str(server.server_port), str(port))
    with pytest.raises(UsageError, match=r"cannot be downloaded \(.*refused\).*weights='random'"):
        cache.fetch(RemoteFile(url, SHA256), OWNER)


@pytest.mark.parametrize(
    ("left", "starts"),
    [
        (CONTENT[:1000], [1000]),
        (CONTENT, [len(CONTENT)]),
        (CONTENT + b"more", [len(CONTENT) + 4, 0]),
        (b"x" * 1000, [1000, 0]),  # detected when the file is complete
    ],
)
def test_partial_file_of_an_earlier_process_is_resumed(left, starts, server, file):
    env_vars.weights_dir().mkdir(parents=True)
    (env_vars.weights_dir() / f"{file.cache_name}.partial").write_bytes(left)
    assert cache.fetch(file, OWNER).read_bytes() == CONTENT
    assert [start for _, start in server.requests] == starts


def test_progress_bar_in_a_terminal(server, file):
    server.pause = 0.02
    terminal, end = os.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("4H", 30, 90, 0, 0))  # rows, columns
    words = [sys.executable, "-c", FETCH, file.source, file.digest]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=end, timeout=60)
    os.close(end)
    shown = os.read(terminal, 1 << 16).decode()
    os.close(terminal)
    assert done.returncode == 0
    assert re.search(rf"{NAME}: +[1-9]\d?%.*/2.93M ", shown)


# Weights of models


def test_tag_is_downloaded_and_loaded(server, monkeypatch, caplog):
    spec = zoo.spec("resnet20.cifar10")
    path = weights.fetch(spec.name, spec.weights)
    server.contents["resnet20.npz"] = path.read_bytes()
    facts = dataclasses.replace(spec.weights, source=f"{server.url}/resnet20.npz")
    entries = {**catalog.models._entries, spec.name: dataclasses.replace(spec, weights=facts)}
    monkeypatch.setattr(catalog.models, "_entries", entries)
    with caplog.at_level(logging.INFO, "zoo"):
        zoo.build("resnet20.cifar10")
    assert f"fetching {server.url}/resnet20.npz" in caplog.text
    assert "layers" in caplog.text
    assert cached_names()[0] == f"{facts.digest[:8]}-resnet20.npz"


def test_headless_file_is_downloaded_if_enough(server):
    server.contents["small.h5"] = b"small"
    small = (f"{server.url}/small.h5", hashlib.sha256(b"small").hexdigest())
    facts = zoo.Weights(source=f"{server.url}/{NAME}", digest=SHA256, headless=small)
    assert weights.fetch("x", facts, headless=True).read_bytes() == b"small"
    assert weights.fetch("x", facts).read_bytes() == CONTENT
    weights.fetch("x", facts, headless=True)
    assert [name for name, _ in server.requests] == ["small.h5", NAME]
    (env_vars.weights_dir() / facts.published["headless"].cache_name).unlink()
    # The whole file contains the headless one.
    assert weights.fetch("x", facts, headless=True).read_bytes() == CONTENT
    assert len(server.requests) == 2
    plain = dataclasses.replace(facts, headless=None)
    assert weights.fetch("x", plain, headless=True).read_bytes() == CONTENT
