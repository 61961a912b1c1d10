"""The server process: creates its components and starts them. At the end it lets running requests finish, and stops."""

import asyncio
import contextlib
import gc
import ipaddress
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Protocol

import sqlalchemy as sa
import structlog

from longtake import clock, system
from longtake.access.keys import Keys
from longtake.access.signing import Signer
from longtake.database import times
from longtake.endpoints import endpoint, prices
from longtake.errors import NotSupported
from longtake.models.lora_downloads import lora_sweeper
from longtake.queue.erasure import eraser
from longtake.queue.status_cache import StatusCache
from longtake.queue.webhooks import Deliverer
from longtake.service.app import Application
from longtake.service.connections import Connections, bounds
from longtake.service.ports import Ports, listening
from longtake.service.state import ServerState
from longtake.service.tls import Tls
from longtake.service.tls_server import PortServer
from longtake.settings import DEFAULT_POOL, Settings
from longtake.storage.files import open_store
from longtake.storage.sweeper import sweepers
from longtake.worker.leases import LeaseWatch
from longtake.worker.messages import Done
from longtake.worker.metrics import Metrics
from longtake.worker.slots import Slots

LATE_S = 5.0
"""Seconds that a server waits for the end of its running requests beyond `settings.drain_s`."""
STOP_S, INTERRUPTED_S = 30.0, 10.0
"""Seconds in which a server stops after its running requests have ended, beyond the time for a webhook; and after a
second signal."""

_log = structlog.get_logger("longtake.server")


@dataclass(frozen=True)
class Address:
    """The host name or IP address at which a server listens, and its ports. Port 0 selects a free port.

    `tls_port` (HTTPS) and `tunnel_port` (see `service.tunnel`) are used only with TLS.
    """

    host: str
    port: int
    tls_port: int = 0
    tunnel_port: int = 0


class StopLimit:
    """A limit for the time in which this process ends. A context manager: at its end the limit no longer holds.

    Without it, a thread that waits for a database which hangs would keep the process from ending.
    """

    def __init__(self) -> None:
        self._timers: list[threading.Timer] = []

    def begin(self, seconds: float) -> None:
        """Ends this process at once after `seconds` seconds, unless the context manager has ended by then.

        A later call can only make the time shorter.
        """
        timer = threading.Timer(seconds, self._end_process, (seconds,))
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def __enter__(self) -> "StopLimit":
        return self

    def __exit__(self, *_: object) -> None:
        for timer in self._timers:
            timer.cancel()

    @staticmethod
    def _end_process(seconds: float) -> None:
        _log.error("The server ends at once, because something, such as the database, does not answer", after_s=seconds)
        os._exit(1)


class BackgroundService(Protocol):
    """A part of the server that works in threads of its own, such as the sending of webhooks."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


def is_loopback(host: str) -> bool:
    """Returns True if only programs on the same machine can reach a server that listens at this host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def run(
    settings: Settings, engine: sa.Engine, address: Address, tls: Tls | None, on_listening: Callable[[Address], None]
) -> None:
    """Runs a server until a signal stops it.

    tls: the certificate files for HTTPS; None for a server without HTTPS.
    on_listening: called when the server answers. Its argument is `address` with the actual ports.

    After the first SIGTERM or SIGINT the server starts no more requests from the queue, and stops when its running
    requests have ended, at the latest after `settings.drain_s` seconds. After a second signal it stops at once.
    Requests that still run when it stops return to the queue.

    Raises InvalidRequest if the server cannot listen at an address, or a setting names an unknown endpoint. Raises
    NotSupported if worker processes cannot work on this machine, because their libraries cannot be imported.
    """
    store = open_store(engine, settings)
    known = times.newest(engine)
    if known is not None:
        clock.doubt(known)
    statuses = StatusCache(engine)
    metrics = Metrics()
    deliverer = Deliverer(engine, settings, Signer(settings.data_dir))

    def on_done(done: Done) -> None:
        metrics.count(done)
        deliverer.wake()

    unusable: Future[str] = Future()

    def on_unusable(reason: str) -> None:
        with contextlib.suppress(InvalidStateError):  # another slot was first
            unusable.set_result(reason)

    slots = Slots(settings, store, statuses.mark_changed, on_done=on_done, on_unusable=on_unusable)
    metrics.slots, metrics.pools = slots.states, {DEFAULT_POOL, *settings.pools.values()}
    watch = LeaseWatch(engine, settings, statuses.mark_changed, slots.wake)
    state = ServerState(
        settings, engine, statuses, store, Keys(engine), slots.cancel, slots.wake, slots.wake_fetches, metrics
    )
    check_endpoint_settings(state)
    connections = Connections(bounds(settings.max_connections, settings.max_connections_per_peer))
    if connections.bounds.in_all < settings.max_connections:
        _log.warning("There can be few connections, because few files can be open", at_most=connections.bounds.in_all)
    proxies = tuple(ipaddress.ip_network(proxy) for proxy in settings.trusted_proxies)
    ports = Ports(Application(state), connections, proxies)
    sweeping = [*sweepers(store), eraser(store, settings, statuses.mark_changed), lora_sweeper(settings)]
    services: list[BackgroundService] = [statuses, slots, watch, deliverer, *sweeping]
    with ExitStack() as stack:
        limit = stack.enter_context(StopLimit())
        stack.callback(state.shut_down_executors)
        stack.callback(state.pulls.stop)
        http = stack.enter_context(listening(address.host, address.port))
        servers = [(ports.http(), http)]
        actual = replace(address, port=_port(http))
        if tls is not None:
            https = stack.enter_context(listening(address.host, address.tls_port))
            tunnel = stack.enter_context(listening(address.host, address.tunnel_port))
            servers += [(ports.https(tls), https), (ports.tunnel(tls), tunnel)]
            actual = replace(actual, tls_port=_port(https), tunnel_port=_port(tunnel))
        # The objects of imported modules stay. To search them again and again for garbage would stop all threads for
        # 100 ms each time.
        gc.freeze()
        with asyncio.Runner(loop_factory=system.event_loop_factory()) as runner:
            runner.run(_serve(servers, services, state, slots, lambda: on_listening(actual), unusable, limit))
    if unusable.done():
        raise NotSupported(unusable.result())


def check_endpoint_settings(state: ServerState) -> None:
    """Raises InvalidRequest if one of the server's settings `pools` (which devices carry out an endpoint's requests),
    `prices` and `preload` names an unknown endpoint."""
    settings = state.settings
    preload = [] if settings.preload is None else [settings.preload]
    for name in (*state.pools, *prices(settings), *preload):
        endpoint(name)


def _port(bound: socket.socket) -> int:
    return int(bound.getsockname()[1])


@contextlib.contextmanager
def _handling_signals(on_signal: Callable[[], object]) -> Iterator[None]:
    """Calls `on_signal` for each SIGTERM and SIGINT during the `with` block. The old handlers are then set again."""
    # asyncio's `loop.add_signal_handler` does not exist on Windows.
    previous = {number: signal.signal(number, lambda *_: on_signal()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


async def _serve(
    servers: Sequence[tuple[PortServer, socket.socket]],
    services: Sequence[BackgroundService],
    state: ServerState,
    slots: Slots,
    on_listening: Callable[[], None],
    unusable: "Future[str]",
    limit: StopLimit,
) -> None:
    """Runs the servers and services until a signal comes or `unusable` has a result. Then stops them and the slots.

    servers: the server of each port, and the socket at which it listens.
    services: are started after the servers, and stopped at the end.
    state: the objects that all routes use.
    slots: the devices that carry out requests. When they are stopped, they get up to `settings.drain_s` seconds to
        finish the running requests; a second signal ends this wait.
    on_listening: called when all servers listen.
    unusable: gets a result, the reason, if worker processes cannot work on this machine.
    limit: begins when the running requests have ended or a second signal has come.
    """
    loop, first_signal, second_signal = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        if first_signal.is_set():
            limit.begin(INTERRUPTED_S)
            second_signal.set()
        first_signal.set()

    with _handling_signals(lambda: loop.call_soon_threadsafe(on_signal)):
        serving = [asyncio.create_task(server.serve(sockets=[bound])) for server, bound in servers]
        while not all(server.started for server, _ in servers):
            await asyncio.sleep(0.005)
        on_listening()
        unusable.add_done_callback(lambda _: loop.call_soon_threadsafe(first_signal.set))
        for service in services:
            await asyncio.to_thread(service.start)
        await first_signal.wait()
        state.draining.set()
        _log.info("Draining: no more requests are claimed", at_most_s=state.settings.drain_s)
        drained = asyncio.create_task(asyncio.to_thread(slots.drain, state.settings.drain_s))
        interrupted = asyncio.create_task(second_signal.wait())
        drain_s = state.settings.drain_s + LATE_S
        await asyncio.wait([drained, interrupted], timeout=drain_s, return_when=asyncio.FIRST_COMPLETED)
        interrupted.cancel()
        limit.begin(STOP_S + state.settings.webhook_timeout_s)
        state.stopping.set()
        state.statuses.wake_all()
        for service in reversed(services):
            await asyncio.to_thread(service.stop)
        await drained
        for server, _ in servers:
            server.should_exit = True
        await asyncio.gather(*serving)
    _log.info("The server has stopped")
