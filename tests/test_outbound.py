"""Hostile URLs against real servers on this machine, which must not receive a connection."""

import contextlib
import errno
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
import trustme

from longtake import network_streams, outbound
from longtake.outbound import AddressRefused, PublicTransport, resolve
from tests import hostile
from tests.descriptors import no_free_descriptor


@dataclass
class Site:
    """A server on this machine, and the connections and requests (host, path) that it received."""

    address: str
    port: int
    connections: list[str] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    redirects: dict[str, str] = field(default_factory=dict)

    def url(self, host: str, path: str = "/x", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"


def serve(address: str, *, port: int = 0, context: ssl.SSLContext | None = None) -> tuple[Site, ThreadingHTTPServer]:
    site = Site(address, port)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            site.requests.append((self.headers["host"], self.path))
            to = site.redirects.get(self.path)
            self.send_response(200 if to is None else 307)
            if to is not None:
                self.send_header("Location", to)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        do_GET = do_POST = answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        daemon_threads = True

        def get_request(self) -> tuple[socket.socket, object]:
            connection, peer = super().get_request()
            site.connections.append(str(peer))
            return connection, peer

        def handle_error(self, request: object, client_address: object) -> None:
            pass

    server = Server((address, port), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    site.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return site, server


@pytest.fixture
def start() -> Iterator[Callable[..., Site]]:
    servers: list[ThreadingHTTPServer] = []

    def started(address: str, *, port: int = 0, context: ssl.SSLContext | None = None) -> Site:
        try:
            site, server = serve(address, port=port, context=context)
        except OSError as error:
            pytest.skip(f"nothing can listen on {address} here: {error}")
        servers.append(server)
        return site

    yield started
    for server in servers:
        server.shutdown()
        server.server_close()


def client(transport: PublicTransport, timeout: float = 3) -> httpx.Client:
    return httpx.Client(transport=transport, timeout=timeout, follow_redirects=True, max_redirects=5)


def resolve_hostile(host: str, port: int) -> Sequence[str]:
    return hostile.NAMES.get(host) or outbound.resolve(host, port)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_no_spelling_of_this_machine_gets_a_connection(address: str, start: Callable[..., Site]) -> None:
    site = start(address)
    for host in hostile.LOOPBACK:
        with client(PublicTransport(resolve=resolve_hostile)) as web, pytest.raises((AddressRefused, httpx.InvalidURL)):
            web.get(site.url(host))
    assert site.connections == []
    ordinary = httpx.get(site.url(f"[{address}]" if ":" in address else address), trust_env=False)
    assert (ordinary.text, len(site.connections)) == ("ok", 1)


def test_a_refusal_does_not_name_the_internal_address() -> None:
    with (
        client(PublicTransport(resolve=lambda host, port: ["10.1.2.3"])) as web,
        pytest.raises(AddressRefused) as caught,
    ):
        web.get("http://inside.example/")
    assert "10.1.2.3" not in str(caught.value)


@pytest.fixture
def public_address(monkeypatch: pytest.MonkeyPatch) -> str:
    """An address of this machine that counts as public."""
    monkeypatch.setattr(outbound, "is_public", lambda address: address == "127.0.0.2")
    return "127.0.0.2"


def test_redirects_are_checked(public_address: str, start: Callable[..., Site]) -> None:
    inside = start("127.0.0.1")
    public = start(public_address)
    answers = {"public.example": [public_address], "inside.example": ["127.0.0.1"]}
    guarded = PublicTransport(resolve=lambda host, port: answers[host])
    hosts = ("127.0.0.1", "inside.example", "2130706433", "public.example@127.0.0.1", "[::ffff:7f00:1]")
    targets = [*map(inside.url, hosts), "file:///etc/passwd", f"//127.0.0.1:{inside.port}/"]
    for number, target in enumerate(targets):
        public.redirects = {"/x": "/y", "/y": target}
        with client(guarded) as web, pytest.raises((httpx.TransportError, httpx.InvalidURL)):
            web.get(public.url("public.example"))
        assert len(public.requests) == 2 * (number + 1)
    assert inside.connections == []
    public.redirects = {"/x": public.url("public.example", "/z")}
    with client(guarded) as web:
        assert web.get(public.url("public.example")).text == "ok"


def test_six_redirects_are_too_many(public_address: str, start: Callable[..., Site]) -> None:
    public = start(public_address)
    public.redirects = {f"/{number}": f"/{number + 1}" for number in range(6)}
    with client(PublicTransport(resolve=lambda host, port: [public_address])) as web:
        assert web.get(public.url("public.example", "/1")).text == "ok"
        with pytest.raises(httpx.TooManyRedirects):
            web.get(public.url("public.example", "/0"))


def test_the_connection_goes_to_the_checked_address(
    public_address: str, start: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the name resolves to another address the second time. It is resolved only once."""
    public = start(public_address)
    inside = start("127.0.0.1", port=public.port)
    requests: list[str] = []
    system = socket.getaddrinfo

    def rebinding(host: str, port: int) -> list[str]:
        requests.append(host)
        return [public_address] if len(requests) == 1 else ["127.0.0.1"]

    def watched(host: str | bytes | None, *args: object, **kwargs: object) -> object:
        name = host.decode() if isinstance(host, bytes) else host
        ipaddress.ip_address(name or "")  # Raises for a name: only addresses may be passed on to the system.
        return system(host, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", watched)
    guarded = PublicTransport(resolve=rebinding)
    with client(guarded) as web:
        assert web.get(public.url("rebinding.example")).text == "ok"
        assert requests == ["rebinding.example"]
        assert public.requests == [(f"rebinding.example:{public.port}", "/x")]
        with pytest.raises(AddressRefused):
            web.get(public.url("rebinding.example"))
    assert inside.connections == []


def test_the_next_address_is_tried_if_one_does_not_answer(
    start: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbound, "is_public", lambda address: address in ("127.0.0.2", "127.0.0.3"))
    public = start("127.0.0.2")
    with client(PublicTransport(resolve=lambda host, port: ["127.0.0.3", "127.0.0.2"])) as web:
        assert web.post(public.url("public.example"), json={"a": 1}).text == "ok"
    with client(PublicTransport(resolve=lambda host, port: ["127.0.0.3"])) as web, pytest.raises(httpx.ConnectError):
        web.get(public.url("public.example"))


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


def contexts(ca: trustme.CA, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The TLS contexts of a server with a certificate for `name` and of a client that trusts the authority."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name).configure_cert(serving)
    trusting = ssl.create_default_context()
    ca.configure_trust(trusting)
    return serving, trusting


def test_tls_verifies_the_name(public_address: str, start: Callable[..., Site], ca: trustme.CA) -> None:
    serving, trusting = contexts(ca, "public.example")
    public = start(public_address, context=serving)
    guarded = PublicTransport(resolve=lambda host, port: [public_address], verify=trusting)
    with client(guarded) as web:
        assert web.get(public.url("public.example", scheme="https")).text == "ok"
        with pytest.raises(httpx.ConnectError, match=r"(?i)certificate"):
            web.get(public.url("other.example", scheme="https"))
        assert [host for host, _ in public.requests] == [f"public.example:{public.port}"]
    with client(PublicTransport(resolve=lambda host, port: [public_address])) as web, pytest.raises(httpx.ConnectError):
        web.get(public.url("public.example", scheme="https"))


def test_trusted_hosts_are_matched_by_their_exact_name(start: Callable[..., Site]) -> None:
    site = start("127.0.0.1")
    with client(PublicTransport(["LocalHost"])) as web:
        assert web.get(site.url("localhost")).text == "ok"
        for other in ("127.0.0.1", "x.localhost", "localhost."):
            with pytest.raises(httpx.TransportError):
                web.get(site.url(other))
    with client(PublicTransport(["127.0.0.1"])) as web:
        assert web.get(site.url("127.0.0.1")).text == "ok"
        site.redirects = {"/x": site.url("localhost")}
        with pytest.raises(AddressRefused):
            web.get(site.url("127.0.0.1"))
    assert len(site.connections) == 3


def test_resolving_a_name_is_bounded_in_time() -> None:
    def slow(host: str, port: int) -> list[str]:
        stop.wait(60)
        return ["8.8.8.8"]

    stop = threading.Event()
    started = time.monotonic()
    with (
        client(PublicTransport(resolve=slow), timeout=0.2) as web,
        pytest.raises(httpx.ConnectTimeout, match="in time"),
    ):
        web.get("http://slow.example/")
    assert time.monotonic() - started < 30
    stop.set()


@pytest.mark.parametrize("failure", [OSError("no"), UnicodeError("no"), ValueError("no")])
def test_an_unknown_name(failure: Exception) -> None:
    def unknown(host: str, port: int) -> list[str]:
        raise failure

    def empty(host: str, port: int) -> list[str]:
        return []

    for resolver in (unknown, empty):
        with (
            client(PublicTransport(resolve=resolver)) as web,
            pytest.raises(httpx.ConnectError, match="no host nowhere"),
        ):
            web.get("http://nowhere.example/")


def test_a_resolver_without_a_free_descriptor() -> None:
    """The system's resolver says that there is no such name, which is wrong."""
    with no_free_descriptor(), pytest.raises(OSError, match="Too many open files"):
        resolve("localhost", 80)
    with (
        client(PublicTransport()) as web,
        no_free_descriptor(),
        pytest.raises(OSError, match="Too many open files") as caught,
    ):
        web.get("http://elsewhere.example/")
    assert caught.value.errno == errno.EMFILE


def test_proxies_of_the_environment_are_not_used(start: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = start("127.0.0.1")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url("127.0.0.1", ""))
    with client(PublicTransport(resolve=lambda host, port: ["10.0.0.1"])) as web, pytest.raises(AddressRefused):
        web.get("http://inside.example/")
    assert proxy.connections == []


@pytest.mark.parametrize("secure", [False, True])
def test_slow_headers_are_bounded_in_time(secure: bool, ca: trustme.CA) -> None:
    serving, trusting = contexts(ca, "localhost")
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def trickle() -> None:
            raw, _ = listener.accept()
            connection = serving.wrap_socket(raw, server_side=True) if secure else raw
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
                while not stop.wait(0.05):
                    connection.sendall(b"x")

        thread = threading.Thread(target=trickle)
        thread.start()
        url = f"{'https' if secure else 'http'}://localhost:{listener.getsockname()[1]}/"
        started = time.monotonic()
        with (
            client(PublicTransport(["localhost"], verify=trusting), timeout=0.5) as web,
            pytest.raises(httpx.ReadTimeout),
        ):
            web.get(url)
        assert 0.4 < time.monotonic() - started < 30
        stop.set()
        thread.join()


def test_a_server_that_does_not_read_is_bounded_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://localhost:{listener.getsockname()[1]}/"
        with client(PublicTransport(["localhost"]), timeout=0.5) as web, pytest.raises(httpx.TimeoutException):
            web.post(url, content=bytes(64 << 20))


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("wanted", [True, False])
def test_a_request_is_checked_while_it_waits(
    secure: bool, wanted: bool, ca: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A waiting read goes on after each check, and loses no byte of headers or body."""
    monkeypatch.setattr(network_streams, "CHECK_EVERY_S", 0.02)
    serving, trusting = contexts(ca, "localhost")
    pieces = [b"HTTP/1.1 200 OK\r\nContent-", b"Length: 9\r\n\r\n", b"abc", b"def", b"ghi"]
    checks: list[float] = []

    def check() -> None:
        checks.append(time.monotonic())
        if not wanted and len(checks) > 8:
            raise InterruptedError

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            raw, _ = listener.accept()
            connection = serving.wrap_socket(raw, server_side=True) if secure else raw
            with connection, contextlib.suppress(OSError):
                for piece in pieces:
                    time.sleep(0.07)
                    connection.sendall(piece)

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"{'https' if secure else 'http'}://localhost:{listener.getsockname()[1]}/"
        with client(PublicTransport(["localhost"], verify=trusting), timeout=30) as web:
            request = web.build_request("GET", url, extensions={"timeout": {"read": 30}, outbound.CHECK: check})
            if wanted:
                assert web.send(request).content == b"abcdefghi"
                assert len(checks) > 8
            else:
                with pytest.raises(InterruptedError):
                    web.send(request)
                assert len(checks) == 9
        thread.join()
