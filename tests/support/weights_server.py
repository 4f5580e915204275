"""A server of a weights file with faults, and processes that download from it."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import h5py

from tests.support.paths import ROOT
from zoo import env_vars
from zoo.weights import digests

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
            server.resumed.wait(server.pause)

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
        resumed: event that ends all pauses.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.contents, self.requests, self.breaks, self.statuses = {NAME: CONTENT}, [], [], []
        self.ranges, self.pause, self.resumed = True, 0, threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_):
        """Ignores clients that were killed."""


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
