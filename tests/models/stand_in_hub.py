"""A local server that answers the few routes of the model hub that a download uses."""

import hashlib
import json
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789012345678901234567890123456789"


@dataclass
class Hub:
    """Repositories as tables path -> bytes; files above `large` are listed with their SHA-256.

    `damage` replaces what is sent for a path, and `cut` says once after how many bytes the connection breaks.
    `waits`: what must happen before the second half of a file is sent. `drips`: files that come byte by byte.
    `elsewhere`: the URL of another such server, to which requests for files are redirected; empty for none.
    `list_elsewhere`: the same for requests for lists of files.
    `gated`: repositories whose files need a token. `listing`: replaces each list of files.
    `requests` lists the requests with their ranges.
    """

    repos: dict[str, dict[str, bytes]]
    large: int = 100
    damage: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    waits: dict[str, threading.Event] = field(default_factory=dict)
    drips: set[str] = field(default_factory=set)
    elsewhere: str = ""
    list_elsewhere: str = ""
    gated: set[str] = field(default_factory=set)
    listing: Iterable[bytes] | None = None
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    url: str = ""

    def downloads(self, name: str) -> int:
        """The number of requests for the bytes of a file."""
        return sum(method == "GET" and path.endswith(f"/{name}") for method, path, _ in self.requests)


@contextmanager
def serving(hub: Hub, host: str = "127.0.0.1") -> Iterator[Hub]:
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
            if hub.list_elsewhere:
                self._send(307, b"", {"Location": f"{hub.list_elsewhere}{self.path}"})
                return
            if repo not in hub.repos:
                self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
                return
            if hub.listing is not None:
                self._stream(hub.listing)
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
                self._send(404, b"", {"X-Error-Code": "EntryNotFound" if repo in hub.repos else "RepoNotFound"})
                return
            if repo in hub.gated and "Authorization" not in self.headers:
                self._send(401, b"", {"X-Error-Code": "GatedRepo"})
                return
            etag = _etag(hub, data)
            if hub.elsewhere:
                linked = {"X-Linked-ETag": f'"{etag}"', "X-Linked-Size": str(len(data)), "X-Repo-Commit": COMMIT}
                self._send(302, b"", linked | {"Location": f"{hub.elsewhere}{self.path}"})
                return
            sent = hub.damage.get(name, data)
            start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
            headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            if len(data) > hub.large:
                headers |= {"X-Linked-ETag": f'"{etag}"', "X-Linked-Size": str(len(data))}
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(sent) - 1}/{len(sent)}"
            self._send(
                206 if start else 200,
                sent[start:],
                headers,
                cut=hub.cut.pop(name, None) if start == 0 and self.command == "GET" else None,
                name=name,
            )

        def _stream(self, pieces: Iterable[bytes]) -> None:
            """Sends a body without saying how long it is."""
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):
                for piece in pieces:
                    self.wfile.write(piece)

        def _send(
            self, status: int, body: bytes, headers: dict[str, str], cut: int | None = None, name: str = ""
        ) -> None:
            self.send_response(status)
            for header, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(header, value)
            self.end_headers()
            if self.command == "GET":
                with suppress(OSError):
                    self._write(body if cut is None else body[:cut], name)
                self.close_connection = True

        def _write(self, body: bytes, name: str) -> None:
            if name in hub.drips:
                for byte in body:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.01)
            elif name in hub.waits:
                self.wfile.write(body[: len(body) // 2])
                hub.waits[name].wait(30)
                self.wfile.write(body[len(body) // 2 :])
            else:
                self.wfile.write(body)

    server = ThreadingHTTPServer((host, 0), Handler)
    hub.url = f"http://{host}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
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
