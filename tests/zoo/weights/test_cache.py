"""Downloads, cache and mirrors of weights files: interruptions, digests, locks, full disks."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import hashlib
import http.server
import io
import json
import logging
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections import namedtuple
from contextlib import contextmanager
from pathlib import Path

import filelock
import h5py
import pytest

import zoo
from tests.support.paths import ROOT
from zoo import atomic_files, catalog, env_vars, file_lock, weights
from zoo.errors import UsageError
from zoo.weights import cache, digests, download, licences
from zoo.weights.cache import RemoteFile
from zoo.weights.digests import DigestMismatchError

NAME = "net_weights_1.0_224.h5"
SIZE = 3_072_000  # several chunks


def weights_file():
    """Returns the bytes of an HDF5 weights file, padded to `SIZE`."""
    content = io.BytesIO()
    with h5py.File(content, "w") as root:
        root.create_group("layers/dense/vars")["0"] = [1.0, 2.0]
    return content.getvalue() + (bytes(range(256)) * 12_000)[len(content.getvalue()) :]


CONTENT = weights_file()
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()
OWNER = "the weights of net.tag"


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves the files of its `Server`, with range requests and with the faults set there."""

    def do_GET(self):
        server = self.server
        start = int(self.headers.get("Range", "bytes=0-")[6:-1]) if server.ranges else 0
        name = self.path.partition("?")[0].rpartition("/")[2]
        server.requests.append((name, start))
        status = server.statuses.pop(0) if server.statuses else None
        content = server.contents.get(name)
        if status or content is None:
            self.send_error(status or 404)
            return
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = start + server.breaks.pop(0) if server.breaks else len(content)
        for at in range(start, min(end, len(content)), 1 << 17):
            self.wfile.write(content[at : min(at + (1 << 17), end)])
            time.sleep(server.pause)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    """A file server.

    Attributes:
        contents: bytes by file name.
        requests: `(name, first byte)` of each request.
        ranges: whether range requests are supported.
        breaks: number of bytes after which each of the next connections is closed.
        statuses: status codes of the next responses; `None` for the file.
        pause: seconds after each 128 kB.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.contents, self.requests, self.breaks, self.statuses = {NAME: CONTENT}, [], [], []
        self.ranges, self.pause = True, 0
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_):
        """Ignores clients that were killed."""


@pytest.fixture
def server():
    with Server() as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.02,))
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
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


def cached_names():
    """Returns the file names in the cache."""
    folder = env_vars.weights_dir()
    return sorted(os.listdir(folder)) if folder.is_dir() else []


def corrupt(path, content=None):
    """Changes the content of a file, but not its size."""
    path.write_bytes(content or b"?" + path.read_bytes()[1:])
    os.utime(path, ns=(1, 1))


def forbid_hashing(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("hashed again")

    monkeypatch.setattr(digests, "_hash_file", refuse)


FETCH = """
import logging, sys
from zoo.weights import cache
from zoo.errors import UsageError
logging.basicConfig(level=logging.INFO, format="%(message)s")
try:
    print(cache.fetch(cache.RemoteFile(*sys.argv[1:]), "the weights of net.tag"))
except UsageError as error:
    print(error)
"""


def start_fetch(file, code=FETCH):
    """Starts a process that fetches a file."""
    words = [sys.executable, "-c", code, file.source, file.digest]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(words, cwd=ROOT, **pipes)


def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


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


# Concurrent processes


def test_download_of_a_killed_process_is_resumed(server, file):
    server.pause = 0.05
    process = start_fetch(file)
    partial = env_vars.weights_dir() / f"{file.cache_name}.partial"
    until(lambda: partial.exists() and partial.stat().st_size > 1 << 20)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert f"{file.cache_name}.lock" in cached_names()
    assert file.cache_name not in cached_names()
    server.pause = 0
    assert cache.fetch(file, OWNER).read_bytes() == CONTENT
    assert server.requests[-1][1] >= 1 << 20
    assert cached_names() == [file.cache_name, f"{file.cache_name}.json"]


WITHOUT_LOCKS = (  # as on a file system without locks
    "import errno, filelock\n"
    "def acquire(self): raise OSError(errno.ENOLCK, 'No locks available')\n"
    "filelock.UnixFileLock._acquire = acquire\n" + FETCH
)


@pytest.fixture
def no_system_locks(monkeypatch):
    """Simulates a file system without locks."""

    def acquire(self):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filelock.UnixFileLock, "_acquire", acquire)


@pytest.mark.parametrize("code", [FETCH, WITHOUT_LOCKS], ids=["flock", "file"])
def test_concurrent_processes_download_once(code, server, file):
    server.pause = 0.1  # all processes must start before the download ends
    first = start_fetch(file, code)
    until(lambda: server.requests)
    others = [start_fetch(file, code) for _ in range(2)]
    ended = [process.communicate(timeout=60) for process in (first, *others)]
    assert {out for out, _ in ended} == {f"{env_vars.weights_dir() / file.cache_name}\n"}
    assert [("waiting for another process" in log) for _, log in ended] == [False, True, True]
    assert len(server.requests) == 1
    assert cached_names() == [file.cache_name, f"{file.cache_name}.json"]


@pytest.mark.parametrize("system", [True, False])
def test_lock_is_exclusive(system, tmp_path, monkeypatch, request):
    if not system:
        request.getfixturevalue("no_system_locks")
    monkeypatch.setattr(file_lock, "POLL_INTERVAL", 0.001)
    inside, counts, waits = [], [], []

    def work():
        for _ in range(5):
            with file_lock.hold_lock(tmp_path / "lock", lambda: waits.append(1)):
                inside.append(1)
                counts.append(len(inside))
                time.sleep(0.002)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [1] * 20
    assert waits
    assert not os.listdir(tmp_path)


def test_lease_of_a_dead_process_expires(tmp_path, monkeypatch, no_system_locks):
    monkeypatch.setattr(file_lock, "LEASE_DURATION", 0.2)
    monkeypatch.setattr(file_lock, "HEARTBEAT_INTERVAL", 0.1)
    monkeypatch.setattr(file_lock, "POLL_INTERVAL", 0.02)
    lease = filelock.SoftFileLease(tmp_path / "locked", lease_duration=0.2, heartbeat_interval=0.1)
    lease.acquire()
    marker = (tmp_path / "locked").read_bytes()
    lease.release()
    # A process of another machine: whether it is alive cannot be checked.
    elsewhere = marker.replace(socket.gethostname().encode(), b"another-machine")
    assert elsewhere != marker
    (tmp_path / "locked").write_bytes(elsewhere)
    start = time.monotonic()
    with file_lock.hold_lock(tmp_path / "lock", lambda: None):
        assert time.monotonic() - start >= 0.2
    assert not os.listdir(tmp_path)


def test_lease_of_a_slow_process_is_refreshed(tmp_path, monkeypatch, no_system_locks):
    monkeypatch.setattr(file_lock, "HEARTBEAT_INTERVAL", 0.02)
    monkeypatch.setattr(file_lock, "LEASE_DURATION", 0.3)
    monkeypatch.setattr(file_lock, "POLL_INTERVAL", 0.02)
    order = []

    def wait():
        with file_lock.hold_lock(tmp_path / "lock", lambda: order.append("waits")):
            order.append("acquired")

    with file_lock.hold_lock(tmp_path / "lock", lambda: None):
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.9)
        order.append("done")
    thread.join()
    assert order == ["waits", "done", "acquired"]


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


@contextmanager
def unprivileged_user():
    """Runs the block as an unprivileged user: file permissions do not apply to root."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


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
        pytest.skip("needs /proc to see which file was synchronised")
    monkeypatch.setattr(os, "fsync", log_sync)
    monkeypatch.setattr(os, "replace", log_rename)
    with atomic_files.atomic_write(tmp_path / "state.json") as partial:
        partial.write_text("new")
    assert done == [partial.name, ("rename", "state.json"), tmp_path.name]


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
        [],
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


# Licences


@pytest.mark.parametrize(
    ("licence", "commercial"),
    [
        ("MIT (Kaiming He's weights, as Keras distributes them)", True),
        ("Apache 2.0", True),
        ("Apache-2.0", True),
        ("The MIT License", True),
        ("BSD 3-clause (torchvision)", True),
        ("CC BY 4.0", True),
        ("CC BY-NC 4.0", False),
        ("CC-BY-NC-SA-4.0", False),
        ("MIT (code; weights for non-commercial use)", False),
        ("for research only", False),
        ("GPL 3", None),
        ("MIT or so", None),
        ("", None),
    ],
)
def test_commercial_use_of_licences(licence, commercial):
    assert licences.allows_commercial_use(licence) is commercial
    assert licences.matches_filter(licence, "commercial") is (commercial is True)
    assert licences.matches_filter(licence, "noncommercial") is (commercial is False)


def test_licence_filter_by_part_of_the_name():
    assert licences.matches_filter("Apache 2.0 (Google)", "apache")
    assert licences.matches_filter("CC BY 4.0", "cc-by")
    assert not licences.matches_filter("MIT", "apache")
    assert not licences.matches_filter("", "mit")


def test_every_licence_in_the_zoo_is_classified():
    for name in zoo.names(weights=True):
        assert zoo.spec(name).weights.commercial is not None, name
