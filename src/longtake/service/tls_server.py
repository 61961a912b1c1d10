"""A server for TLS connections. It counts a connection from the beginning, before its TLS handshake is complete.

asyncio's servers, which uvicorn uses otherwise, report a connection only after its handshake.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator

import uvicorn

from longtake.service.connections import Connection, Connections, peer_of
from longtake.service.http_protocol import HttpProtocol

PAUSE_S = 0.1
"""Seconds until the next attempt to accept a connection, after one that failed because too many files are open."""

Prepare = Callable[[socket.socket], Awaitable[bool]]
"""A function that talks to a new client before the TLS handshake. Its argument is the connection's socket. It returns
True if the handshake may begin, False if the connection must be closed."""


async def at_once(line: socket.socket) -> bool:
    """Does nothing and returns True, so that the TLS handshake begins at once. It can be the `prepare` of a
    `TlsServer`.

    `line` is the connection's socket, which is not used.
    """
    return True


class PortServer(uvicorn.Server):
    """A uvicorn server that does not handle signals. A process has several such servers, and handles signals for all of
    them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class TlsServer(PortServer):
    """A uvicorn server for TLS connections.

    config: uvicorn's settings.
    connections: the connections of all servers of the process. A new connection is counted there from the beginning.
    context: the server's certificate and key.
    http: creates the HTTP protocol of a connection. Its argument `opening` is the object that stands for the connection
        in `connections` until the TLS handshake is complete. The protocol then takes its place there.
    prepare: is called with the socket of each new connection before the TLS handshake. If it returns False, the
        connection is closed.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        connections: Connections,
        context: ssl.SSLContext,
        http: Callable[..., HttpProtocol],
        prepare: Prepare,
    ) -> None:
        super().__init__(config)
        self._connections = connections
        self._context = context
        self._http = http
        self._prepare = prepare
        self._accepting: list[asyncio.Task[None]] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to accept connections at these sockets; with None, at no socket."""
        await super().startup(sockets=[])
        self._accepting = [asyncio.create_task(self._accept(bound)) for bound in sockets or ()]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stops accepting connections, closes the listening `sockets`, and waits for the end of the open connections as
        uvicorn does."""
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        await super().shutdown(sockets)

    async def _accept(self, bound: socket.socket) -> None:
        bound.setblocking(False)
        while True:
            try:
                line, address = await asyncio.get_running_loop().sock_accept(bound)
            except OSError:
                await asyncio.sleep(PAUSE_S)
                continue
            opening = _Opening(self._connections, line, self._open)
            if not self._connections.admit(opening, peer_of(address[0])):
                opening.abort()

    async def _open(self, line: socket.socket, opening: Connection) -> None:
        if not await self._prepare(line):
            line.close()
            return

        def protocol() -> HttpProtocol:
            return self._http(
                opening=opening, config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            )

        await asyncio.get_running_loop().connect_accepted_socket(
            protocol, line, ssl=self._context, ssl_handshake_timeout=self._connections.bounds.handshake_s
        )


class _Opening:
    """A connection until its TLS handshake is complete. Creating the object starts a task that opens the connection.

    connections: the server's connections. This object is counted there until the connection's HTTP protocol replaces
        it.
    line: the connection's socket. It is closed if the opening fails or is aborted.
    open_line: called with the socket and this object. It carries out what comes before the TLS handshake, and then the
        handshake.
    """

    def __init__(
        self,
        connections: Connections,
        line: socket.socket,
        open_line: Callable[[socket.socket, Connection], Awaitable[None]],
    ) -> None:
        self._connections = connections
        self._line = line
        self._task = asyncio.create_task(self._run(open_line))
        self._task.add_done_callback(self._close_cancelled)

    def close_if_late(self, now: float) -> None:
        """Does nothing: each step before the connection's TLS handshake is complete has a time limit of its own."""

    def abort(self) -> None:
        self._task.cancel()

    def _close_cancelled(self, task: asyncio.Task[None]) -> None:
        """Closes the socket if the task was cancelled. The task itself cannot do that if it had not yet begun."""
        if task.cancelled():
            self._line.close()

    async def _run(self, open_line: Callable[[socket.socket, Connection], Awaitable[None]]) -> None:
        try:
            await open_line(self._line, self)
        except OSError:
            self._line.close()
        finally:
            self._connections.remove(self)
