"""A web site whose pages wait for the test."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY = bytes(range(256)) * 1000


class Site:
    """A web site. Each page but `/missing` sends half of its file, and the rest after `release` was called with it.

    `begun`: the paths of all requests so far. `left`: those whose client closed the connection before the end.
    """

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.left: list[str] = []
        self._released: set[str] = set()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.begun.append(self.path)
                self.send_response(404 if self.path == "/missing" else 200)
                self.send_header("Content-Length", str(len(BODY)))
                self.end_headers()
                try:
                    self.wfile.write(BODY[: len(BODY) // 2])
                    while not site._released & {self.path, "all"}:
                        time.sleep(0.01)
                        self.connection.settimeout(0.01)
                        if self._is_closed():
                            site.left.append(self.path)
                            return
                    self.connection.settimeout(None)
                    self.wfile.write(BODY[len(BODY) // 2 :])
                except OSError:
                    site.left.append(self.path)

            def _is_closed(self) -> bool:
                try:
                    return not self.connection.recv(1)
                except TimeoutError:
                    return False

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}{path}"

    def release(self, path: str = "all") -> None:
        self._released.add(path)
