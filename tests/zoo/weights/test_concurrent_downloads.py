"""Downloads of several processes into one cache: resumption, locks and leases."""

from __future__ import annotations

import errno
import os
import signal
import socket
import threading
import time

import filelock
import pytest

from tests.support.weights_server import CONTENT, FETCH, OWNER, cached_names, start_fetch, until
from zoo import env_vars, file_lock
from zoo.weights import cache

pytestmark = pytest.mark.usefixtures("isolated_environment")


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
    server.pause = 60
    first = start_fetch(file, code)
    until(lambda: server.requests)
    others = [start_fetch(file, code) for _ in range(2)]
    for process in others:  # all must wait before the download ends
        assert any("waiting for another process" in line for line in process.stderr)
    server.resumed.set()
    ended = [process.communicate(timeout=120) for process in (first, *others)]
    assert {out for out, _ in ended} == {f"{env_vars.weights_dir() / file.cache_name}\n"}
    assert "waiting for another process" not in ended[0][1]
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
