"""A small Hub on this machine: repositories in memory, served over HTTP as the client library asks for them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class LocalHub(ThreadingHTTPServer):
    """`repositories` maps an id to its branches, and those to files by name; `asked` are the requests so far."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, dict[str, bytes]]] = {}
        self.created: dict[str, Any] = {}
        self.asked: list[str] = []
        self.sizes: dict[str, int] = {}  # told in place of a file's own

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def files(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit and files of a branch, or of a commit that is some branch's."""
        for branch, files in self.repositories.get(repository, {}).items():
            listed = sorted((name, hashlib.sha1(data).hexdigest()) for name, data in files.items())
            commit = hashlib.sha1(json.dumps([repository, branch, listed]).encode()).hexdigest()
            if revision in (branch, commit):
                return commit, files
        return None


@contextmanager
def local_hub() -> Iterator[LocalHub]:
    """A hub that runs for as long as it is used."""
    with LocalHub() as hub:
        thread = Thread(target=hub.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: LocalHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            repository, what = "/".join(parts[2:4]), parts[4] if len(parts) > 4 else "revision"
            found = self.server.files(repository, parts[5] if len(parts) > 5 else "main")
            if found is None:
                self._missing(repository)
            elif what == "tree":
                self._json([{"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                            for name, data in found[1].items()])
            else:
                self._json({"id": repository, "sha": found[0], "siblings": [
                    {"rfilename": name, "size": self.server.sizes.get(name, len(data))} for name, data in found[1].items()]})
        elif parts[2:3] == ["resolve"]:
            found = self.server.files("/".join(parts[:2]), parts[3])
            if found is None or parts[4] not in found[1]:
                self._missing("/".join(parts[:2]))
            else:
                data = found[1][parts[4]]
                self._send(200, data, {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": found[0]})
        else:
            self._send(404, b"{}")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts == ["api", "repos", "create"]:
            asked = json.loads(body)
            name = "/".join(filter(None, [asked.get("organization"), asked["name"]]))
            if name in self.server.repositories:
                return self._json({"error": "exists", "url": f"{self.server.url}/{name}"}, 409)
            self.server.created[name] = asked
            self.server.repositories[name] = {"main": {}}
            return self._json({"url": f"{self.server.url}/{name}"})
        repository = "/".join(parts[2:4])
        if repository.startswith("others/"):
            return self._send(403, b"{}", {"X-Error-Message": "this is not yours"})
        branches = self.server.repositories.get(repository, {})
        if parts[4:5] == ["branch"]:
            if parts[5] in branches:
                return self._json({}, 409)
            branches[parts[5]] = dict(branches["main"])
            return self._json({})
        if parts[4:5] == ["preupload"]:
            return self._json({"files": [{"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                                         for each in json.loads(body)["files"]]})
        if parts[4:5] == ["commit"]:
            files = branches[parts[5]]
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                elif line["key"] == "deletedFile":
                    del files[line["value"]["path"]]
            commit = self.server.files(repository, parts[5])
            assert commit
            return self._json({"commitUrl": f"{self.server.url}/{repository}/commit/{commit[0]}", "commitOid": commit[0],
                               "hookOutput": "", "success": True})
        return self._json({"errors": [], "warnings": []})  # validate-yaml

    def _missing(self, repository: str) -> None:
        known = repository in self.server.repositories
        self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound" if known else "RepoNotFound"})

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
