"""A receiver of webhooks, for tests."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.worker.requests import PATIENCE_S, eventually


@dataclass
class Receiver:
    """A web server that answers with the statuses in turn and repeats the last one.

    It does not answer to a request whose status is 0 until the end of the test.
    """

    url: str = ""
    statuses: list[int] = field(default_factory=lambda: [200])
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)

    def wait(self, count: int) -> None:
        """Waits until this number of webhooks has come."""
        eventually(lambda: len(self.got) >= count)


@contextmanager
def listening() -> Iterator[Receiver]:
    """Starts a receiver on this machine and stops it at the end."""
    here = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            status = here.statuses[min(len(here.got), len(here.statuses) - 1)]
            here.got.append((dict(self.headers), content))
            if status == 0:
                here.release.wait(PATIENCE_S)
                return
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    here.url = f"http://127.0.0.1:{server.server_port}/hook?token=secret"
    try:
        yield here
    finally:
        here.release.set()
        server.shutdown()
        server.server_close()
