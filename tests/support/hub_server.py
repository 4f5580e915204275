"""A local server that answers as the Hugging Face Hub does: repositories, commits, downloads."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LFS_SUFFIXES = (".keras",)  # of files that are stored by their SHA-256


class HubServer(ThreadingHTTPServer):
    """The state of a hub.

    Attributes:
        token: The access token that may write.
        repositories: By name, a dict of `private`, `gated` and `commits`, pairs of a digest and the
            files, bytes by name.
        blobs: Large files by their SHA-256.
        requests: A string `METHOD PATH` for each request.
        tamper: Whether downloads of large files have a changed byte.
    """

    daemon_threads = True

    def __init__(self, token):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.token, self.tamper = token, False
        self.repositories, self.blobs, self.requests = {}, {}, []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def files(self, name):
        """Returns the files of the last commit."""
        return self.repositories[name]["commits"][-1][1]

    def commit(self, name, files):
        """Adds a commit to a repository, which is created if there is none; returns its digest."""
        entry = self.repositories.setdefault(name, {"private": False, "commits": []})
        before = entry["commits"][-1][1] if entry["commits"] else {}
        every = {**before, **files}
        text = repr(
            sorted((key, hashlib.sha256(value).hexdigest()) for key, value in every.items())
        )
        digest = hashlib.sha1(f"{len(entry['commits'])} {text}".encode()).hexdigest()
        entry["commits"].append((digest, every))
        return digest


@contextmanager
def running(token="hf_secret"):
    """Yields a running `HubServer`."""
    server = HubServer(token)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        self._route()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def _route(self):
        self.server.requests.append(f"{self.command} {self.path}")
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        routes = {
            r"/api/repos/create": self._create,
            r"/api/validate-yaml": lambda: self._json({"errors": [], "warnings": []}),
            r"/api/models/([^/]+/[^/]+)/preupload/main": self._preupload,
            r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch": self._batch,
            r"/upload/([0-9a-f]{64})": self._upload,
            r"/api/models/([^/]+/[^/]+)/commit/main": self._commit,
            r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)": self._resolve,
        }
        for pattern, action in routes.items():
            if found := re.fullmatch(pattern, self.path.partition("?")[0]):
                if self.command in ("POST", "PUT") and not self._authorized():
                    return self._error(401, "")
                return action(*found.groups())
        return self._error(404, "")

    def _authorized(self):
        sent = self.headers.get("Authorization")
        return "upload" in self.path or sent == f"Bearer {self.server.token}"

    def _create(self):
        wanted = json.loads(self.body)
        name = f"{wanted.get('organization') or 'user'}/{wanted['name']}"
        if name in self.server.repositories:
            return self._json({"url": f"{self.server.url}/{name}"}, 409)
        private = bool(wanted.get("private") or wanted.get("visibility") == "private")
        self.server.repositories[name] = {"private": private, "commits": []}
        return self._json({"url": f"{self.server.url}/{name}", "name": name, "id": name})

    def _preupload(self, name):
        if name not in self.server.repositories:
            return self._error(404, "RepoNotFound")
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LFS_SUFFIXES) else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for file in json.loads(self.body)["files"]
        ]
        return self._json({"files": modes})

    def _batch(self, name):
        objects = [
            {**each, "actions": {"upload": {"href": f"{self.server.url}/upload/{each['oid']}"}}}
            for each in json.loads(self.body)["objects"]
        ]
        return self._json({"transfer": "basic", "objects": objects})

    def _upload(self, digest):
        if hashlib.sha256(self.body).hexdigest() != digest:
            return self._error(400, "")
        self.server.blobs[digest] = self.body
        return self._json({})

    def _commit(self, name):
        files = {}
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]
        digest = self.server.commit(name, files)
        url = f"{self.server.url}/{name}/commit/{digest}"
        return self._json({"success": True, "commitOid": digest, "commitUrl": url})

    def _resolve(self, name, revision, file):
        entry = self.server.repositories.get(name)
        if entry is None or (entry["private"] and not self._authorized()):
            return self._error(404 if entry is None else 401, "RepoNotFound")
        if entry.get("gated"):
            return self._error(403, "GatedRepo")
        commits = dict(entry["commits"])
        digest = entry["commits"][-1][0] if revision == "main" else revision
        if digest not in commits:
            return self._error(404, "RevisionNotFound")
        if file not in commits[digest]:
            return self._error(404, "EntryNotFound")
        content = commits[digest][file]
        headers = {"X-Repo-Commit": digest, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        if file.endswith(LFS_SUFFIXES):
            headers["X-Linked-Etag"] = f'"{hashlib.sha256(content).hexdigest()}"'
            headers["X-Linked-Size"] = str(len(content))
        if self.server.tamper:
            content = content[:-1] + bytes([content[-1] ^ 1])
        return self._answer(200, content, headers)

    def _json(self, value, status=200):
        self._answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _error(self, status, code):
        self._answer(status, b"{}", {"X-Error-Code": code} if code else {})

    def _answer(self, status, content, headers):
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
