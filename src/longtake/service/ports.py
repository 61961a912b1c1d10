"""The server's ports: HTTP, HTTPS and the tunnel. Each is a uvicorn server, and all share one `Connections`."""

import asyncio
import contextlib
import math
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from longtake.errors import InvalidRequest
from longtake.service.connections import Connections, Network
from longtake.service.http_protocol import HttpProtocol
from longtake.service.tls import Tls
from longtake.service.tls_server import PortServer, Prepare, TlsServer, at_once
from longtake.service.tunnel import connect

BACKLOG = 2048
"""Maximum number of new connections that wait until the server accepts them."""


@dataclass(frozen=True)
class Ports:
    """Creates the servers of one application.

    app: the application.
    connections: the connections of all ports.
    proxies: the networks of the proxies whose X-Forwarded headers are trusted.
    grace_s: seconds that open connections may continue when a server stops. Then they are closed.
    """

    app: ASGIApp
    connections: Connections
    proxies: tuple[Network, ...]
    grace_s: int = 5

    def http(self) -> PortServer:
        """Returns a server for plain HTTP."""
        return PortServer(self._config())

    def https(self, tls: Tls) -> PortServer:
        """Returns a server for HTTPS with this certificate."""
        return self._secure(tls, at_once)

    def tunnel(self, tls: Tls) -> PortServer:
        """Returns a server for clients that use this one as their HTTPS proxy (see `service.tunnel`)."""
        return self._secure(tls, partial(connect, bounds=self.connections.bounds))

    def _secure(self, tls: Tls, prepare: Prepare) -> PortServer:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tls.certificate, tls.key)
        return TlsServer(self._config(), self.connections, context, self._protocol, prepare)

    def _protocol(self, **more: Any) -> HttpProtocol:
        return HttpProtocol(self.connections, self.proxies, **more)

    def _config(self) -> uvicorn.Config:
        return uvicorn.Config(
            self.app,
            http=cast(type[asyncio.Protocol], self._protocol),  # uvicorn only calls it.
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=math.ceil(self.connections.bounds.idle_s),
            timeout_graceful_shutdown=self.grace_s,
            proxy_headers=False,  # The protocol reads them, because uvicorn believes texts that are no addresses.
            backlog=BACKLOG,
        )


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Yields a socket that listens at this host and port. The socket is closed at the end of the `with` block.

    Raises InvalidRequest if no socket can listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        bound = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise InvalidRequest(f"Nothing can listen at {host}, port {port}: {error.strerror or error}.") from None
    with bound:
        _keep_alive(bound)
        yield bound


def _keep_alive(listener: socket.socket) -> None:
    """Makes the system notice within about two minutes that the other end of an accepted connection has vanished.

    If a connection is silent for a minute, the system asks the other end whether it is still there. So a connection on
    which a client waits for long also stays known to firewalls and load balancers, which forget silent ones.
    """
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}.items():
        if hasattr(socket, name):  # Not every system has all of these; without one its own time holds.
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
