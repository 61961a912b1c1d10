"""A proxy that adds a path prefix, as an operator's web server may do."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

PREFIX = "/video"


class Proxy(ThreadingHTTPServer):
    """Passes `/video/...` on to the path without the prefix at `target`. All other paths are 404."""

    daemon_threads = True
    target = ""
    client = httpx.Client(timeout=60, verify=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}{PREFIX}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _pass_on(self) -> None:
        assert isinstance(self.server, Proxy)
        if not self.path.startswith(f"{PREFIX}/"):
            self.send_error(404)
            return
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("connection", "host")}
        url = self.server.target + self.path.removeprefix(PREFIX)
        headers["host"] = self.headers["host"]
        answer = self.server.client.request(self.command, url, content=body, headers=headers)
        self.send_response(answer.status_code)
        for name, value in answer.headers.items():
            if name not in ("content-length", "transfer-encoding", "connection", "content-encoding"):
                self.send_header(name, value)
        self.send_header("content-length", str(len(answer.content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.content)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _pass_on

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def prefixed() -> Iterator[Proxy]:
    """Runs the proxy on a free port. The caller sets its `target`."""
    proxy = Proxy(("127.0.0.1", 0), _Handler)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
