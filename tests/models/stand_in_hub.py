"""A local server that answers the few routes of the model hub that a download uses."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789012345678901234567890123456789"


@dataclass
class Hub:
    """Repositories as tables path -> bytes; files above `large` are listed with their SHA-256.

    `damage` replaces what is sent for a path; `requests` lists the requests with their ranges.
    """

    repos: dict[str, dict[str, bytes]]
    large: int = 100
    damage: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    url: str = ""


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            path = self.path.partition("?")[0].strip("/")
            hub.requests.append((self.command, path, self.headers.get("Range")))
            hub.tokens.add(self.headers.get("Authorization"))
            if path.startswith("api/models/"):
                self._listing(path.removeprefix("api/models/").partition("/revision")[0])
            else:
                repo, _, name = path.partition("/resolve/main/")
                repo, name = (repo, name) if name else (path.partition(f"/resolve/{COMMIT}/")[::2])
                self._file(repo, name)

        def _listing(self, repo: str) -> None:
            if repo not in hub.repos:
                self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
                return
            siblings = [
                {"rfilename": name, "size": len(data), "blobId": _etag(hub, data), **_lfs(hub, data)}
                for name, data in hub.repos[repo].items()
            ]
            body = {"id": repo, "sha": COMMIT, "siblings": siblings, "private": False, "tags": [], "downloads": 0}
            self._send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

        def _file(self, repo: str, name: str) -> None:
            data = hub.repos.get(repo, {}).get(name)
            if data is None:
                self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
                return
            etag = _etag(hub, data)
            sent = hub.damage.get(name, data)
            start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
            headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(sent) - 1}/{len(sent)}"
            self._send(
                206 if start else 200,
                sent[start:],
                headers,
                cut=hub.cut.pop(name, None) if start == 0 and self.command == "GET" else None,
            )

        def _send(self, status: int, body: bytes, headers: dict[str, str], cut: int | None = None) -> None:
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body if cut is None else body[:cut])
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _etag(hub: Hub, data: bytes) -> str:
    return (hashlib.sha256 if len(data) > hub.large else hashlib.sha1)(data).hexdigest()


def _lfs(hub: Hub, data: bytes) -> dict[str, Any]:
    if len(data) <= hub.large:
        return {}
    return {"lfs": {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "pointerSize": 130}}
