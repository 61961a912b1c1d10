"""Blobs in the memory of a small HTTP server: an implementation without paths.

The HTTP server runs in a thread of the tests' process, so that blobs outlive the servers and workers that are killed.
"""

import json
import tempfile
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from longtake.storage.blobs import KEY, PIECE_BYTES, Blob


@dataclass(frozen=True)
class MemoryBlobs:
    """The blobs behind the HTTP server at `address`, from any process."""

    address: str

    def put(self, key: str, file: Path) -> None:
        with file.open("rb") as body:
            headers = {"Content-Length": str(file.stat().st_size)}
            self._send(self._request("PUT", key, data=body, headers=headers)).close()

    def open(self, key: str, start: int = 0, stop: int | None = None) -> Generator[bytes, None, None]:
        answer = self._send(self._request("GET", key, headers={"Range": f"{start} {'' if stop is None else stop}"}))
        return _pieces(answer)

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / key.rpartition("/")[2]
            with path.open("wb") as file:
                file.writelines(self.open(key))
            yield path

    def size(self, key: str) -> int | None:
        try:
            with self._send(self._request("HEAD", key)) as answer:
                return int(answer.headers["Content-Length"])
        except FileNotFoundError:
            return None

    def delete(self, key: str) -> None:
        self._send(self._request("DELETE", key)).close()

    def list(self) -> Iterator[Blob]:
        with self._send(Request(f"{self.address}/")) as answer:
            yield from (Blob(*facts) for facts in json.load(answer))

    def _request(self, method: str, key: str, **more: Any) -> Request:
        if not KEY.fullmatch(key):
            raise ValueError(f"{key!r} is not the key of a blob.")
        return Request(f"{self.address}/{key}", method=method, **more)

    def _send(self, request: Request) -> Any:
        try:
            return urlopen(request, timeout=60)
        except HTTPError as error:
            raise FileNotFoundError(request.full_url) from error


def _pieces(answer: Any) -> Generator[bytes, None, None]:
    with answer:
        while piece := answer.read(PIECE_BYTES):
            yield piece


@contextmanager
def memory_blobs() -> Iterator[MemoryBlobs]:
    """Runs the HTTP server."""
    stored: dict[str, tuple[bytes, float]] = {}
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                stored[self.path[1:]] = content, time.time()
            self._answer(200)

        def do_GET(self) -> None:
            if self.path == "/":
                with lock:
                    found = [(key, len(content), at) for key, (content, at) in stored.items()]
                self._answer(200, json.dumps(found).encode())
                return
            content = stored.get(self.path[1:], (None, 0.0))[0]
            if content is None:
                self._answer(404)
                return
            start, _, stop = self.headers.get("Range", "0 ").partition(" ")
            self._answer(200, content[int(start) : int(stop) if stop else None])

        do_HEAD = do_GET

        def do_DELETE(self) -> None:
            with lock:
                stored.pop(self.path[1:], None)
            self._answer(200)

        def _answer(self, status: int, body: bytes = b"") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield MemoryBlobs(f"http://127.0.0.1:{server.server_address[1]}")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
