"""The server whole: its parts put together, started, drained and stopped."""

import asyncio
import contextlib
import ipaddress
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, replace
from typing import Protocol

import sqlalchemy as sa
import structlog
import uvicorn
import uvloop
from starlette.types import ASGIApp

from longtake.access.keys import Keys
from longtake.access.signing import Signer
from longtake.endpoints import endpoint, prices
from longtake.errors import InvalidRequest
from longtake.queue.status_cache import StatusCache
from longtake.queue.webhooks import Deliverer
from longtake.service import connect as tunnel
from longtake.service.app import application
from longtake.service.parts import Parts
from longtake.service.tls import Tls
from longtake.settings import Settings
from longtake.storage.files import FileStore
from longtake.storage.sweeper import Sweeper
from longtake.worker.leases import LeaseWatch
from longtake.worker.messages import Done
from longtake.worker.metrics import Metrics
from longtake.worker.slots import Slots

KEEP_ALIVE_S = 75
"""Clients hold connections for long; one that is closed under their hands makes them send a request twice."""
LINGER_S = 5
"""So long open streams may go on when the server ends."""
BACKLOG = 2048

_log = structlog.get_logger("longtake.server")


@dataclass(frozen=True)
class Address:
    """Where the server listens; port 0 is a free one. The TLS port and that for tunnels count where there is TLS."""

    host: str
    port: int
    tls_port: int = 0
    tunnel_port: int = 0


class Part(Protocol):
    """What works beside the web server."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


def is_loopback(host: str) -> bool:
    """Whether what listens at this host is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def run(
    settings: Settings, engine: sa.Engine, address: Address, tls: Tls | None, say: Callable[[Address], None]
) -> None:
    """Serves until a signal ends it. `say` is told where it listens once it answers there.

    The first SIGTERM or SIGINT drains: what runs is finished, for `drain_s`, what waits stays in the queue. The second
    ends at once: what runs goes back to the queue. Raises InvalidRequest where it cannot start.
    """
    store = FileStore(engine, settings.data_dir / "files", settings.result_s)
    board = StatusCache(engine)
    metrics = Metrics()
    deliverer = Deliverer(engine, settings, Signer(settings.data_dir))

    def on_done(done: Done) -> None:
        metrics.count(done)
        deliverer.wake()

    slots = Slots(engine, settings, store, board.mark_changed, on_done=on_done)
    metrics.slots = slots.states
    watch = LeaseWatch(engine, settings, board.mark_changed, slots.wake)
    parts = Parts(settings, engine, board, store, Keys(engine), slots.cancel, slots.wake, metrics=metrics)
    check(parts)
    app = application(parts)
    with ExitStack() as stack:
        web = stack.enter_context(_bound(address.host, address.port))
        servers = [_web_server(app, web, None)]
        told = replace(address, port=_port(web))
        if tls is not None:
            secure = stack.enter_context(_bound(address.host, address.tls_port))
            servers.append(_web_server(app, secure, tls))
            told = replace(told, tls_port=_port(secure))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(servers, [board, slots, watch, deliverer, Sweeper(store)], parts, slots, told, tls, say))


def check(parts: Parts) -> None:
    """Raises InvalidRequest where a setting names an endpoint that there is not."""
    settings = parts.settings
    named = [*parts.pools, *prices(settings), *([] if settings.preload is None else [settings.preload])]
    for name in named:
        endpoint(name)


@dataclass(frozen=True)
class _WebServer:
    uvicorn: "_Unsignalled"
    socket: socket.socket


class _Unsignalled(uvicorn.Server):
    """Signals are handled here, for all servers at once."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _web_server(app: ASGIApp, bound: socket.socket, tls: Tls | None) -> _WebServer:
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=LINGER_S,
        ssl_certfile=None if tls is None else str(tls.certificate),
        ssl_keyfile=None if tls is None else str(tls.key),
    )
    return _WebServer(_Unsignalled(config), bound)


@contextlib.contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket. Raises InvalidRequest where there can be none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        bound = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise InvalidRequest(f"Nothing can listen at {host}, port {port}: {error.strerror or error}.") from None
    with bound:
        yield bound


def _port(bound: socket.socket) -> int:
    return int(bound.getsockname()[1])


async def _serve(
    servers: Sequence[_WebServer],
    workers: Sequence[Part],
    parts: Parts,
    slots: Slots,
    address: Address,
    tls: Tls | None,
    say: Callable[[Address], None],
) -> None:
    loop, asked, again = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (again if asked.is_set() else asked).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    async with AsyncExitStack() as stack:
        serving = [asyncio.create_task(server.uvicorn.serve(sockets=[server.socket])) for server in servers]
        while not all(server.uvicorn.started for server in servers):
            await asyncio.sleep(0.005)
        if tls is not None:
            tunnels = await tunnel.serve(
                address.host, address.tunnel_port, tls_host=address.host, tls_port=address.tls_port
            )
            stack.push_async_callback(tunnels.wait_closed)
            stack.callback(tunnels.close)
            address = replace(address, tunnel_port=_port(tunnels.sockets[0]))
        say(address)
        for worker in workers:
            await asyncio.to_thread(worker.start)
        await asked.wait()
        parts.draining.set()
        _log.info("draining", at_most_s=parts.settings.drain_s)
        drained = asyncio.create_task(asyncio.to_thread(slots.drain, parts.settings.drain_s))
        hurried = asyncio.create_task(again.wait())
        await asyncio.wait([drained, hurried], return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        for worker in reversed(workers):
            await asyncio.to_thread(worker.stop)
        await drained
        for server in servers:
            server.uvicorn.should_exit = True
        await asyncio.gather(*serving)
    _log.info("ended")
