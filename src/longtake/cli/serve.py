"""The commands `longtake serve` (runs the HTTP server) and `longtake client-env` (prints how clients connect to it)."""

import re
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from longtake.cli.console import DataDirOption, DebugOption, JsonOption, print_json, reporting
from longtake.cli.keys import open_keys
from longtake.device_setting import shared_gpus, slot_devices
from longtake.errors import NotSupported
from longtake.imports import INSTALL_TORCH

if TYPE_CHECKING:
    from longtake.service.server import Address
    from longtake.service.tls import Tls
    from longtake.settings import Settings

LOOPBACK = "127.0.0.1"

HostOption = Annotated[
    str | None,
    typer.Option(help="Where to listen. (default: 127.0.0.1; with keys 0.0.0.0)", show_default=False),
]
PortOption = Annotated[int, typer.Option(min=0, max=65535, help="Port for HTTP; 0 is a free one.")]
TlsPortOption = Annotated[int, typer.Option(min=0, max=65535, help="Port for HTTPS.")]
TunnelPortOption = Annotated[int, typer.Option(min=0, max=65535, help="Port that HTTPS_PROXY may name.")]


def serve(
    host: HostOption = None,
    port: PortOption = 8000,
    tls: Annotated[
        bool, typer.Option("--tls", help="HTTPS too, by a private certificate authority, and tunnels to it.")
    ] = False,
    tls_port: TlsPortOption = 8443,
    tunnel_port: TunnelPortOption = 8888,
    slots: Annotated[
        str | None,
        typer.Option(
            help="Devices that work, as LONGTAKE_SLOTS: `cuda:0,cuda:1`; `cuda:0+cuda:1`; `none`.", show_default=False
        ),
    ] = None,
    data_dir: DataDirOption = None,
    debug: DebugOption = False,
) -> None:
    """Run a server with fal.ai's HTTP API and a durable queue, for fal's own clients."""
    with reporting(as_json=False, debug=debug):
        from longtake.settings import settings

        configured = settings(**({} if slots is None else {"slots": slots}))
        _serve(configured, host, port, tls_port if tls else None, tunnel_port)


def _serve(settings: "Settings", host: str | None, port: int, tls_port: int | None, tunnel_port: int) -> None:
    """Runs the server until a signal stops it.

    host: address at which the server listens. None means all addresses if an API key exists, otherwise 127.0.0.1. If no
        API key exists, an address that other machines can reach is replaced by 127.0.0.1.
    port: port for HTTP; 0 is a free one.
    tls_port: port for HTTPS; 0 is a free one. None means no HTTPS and no tunnel.
    tunnel_port: port of the proxy that leads clients to the HTTPS port (for HTTPS_PROXY).
    """
    from longtake.access.keys import Keys
    from longtake.database.migrate import database_errors, open_database
    from longtake.private import new_files_private, prepare_data_folder
    from longtake.service import logs, tls
    from longtake.service.server import Address, run

    if settings.slots and find_spec("torch") is None:
        raise NotSupported(
            f"torch is not installed, and the workers need it: {INSTALL_TORCH}. `--slots none` serves without workers."
        )
    logs.setup(settings)
    prepare_data_folder(settings)
    engine = open_database(settings)
    with database_errors(engine):
        has_keys = Keys(engine).any_exist()
    listen_host = _listen_host(host, has_keys=has_keys)
    names = {host, urlsplit(settings.public_url or "").hostname} - {None, "0.0.0.0", "::"}
    files = None if tls_port is None else tls.prepare(settings.data_dir / "tls", filter(None, names))

    def on_listening(address: "Address") -> None:
        _print_addresses(address, settings, files, has_keys=has_keys)

    with new_files_private(), database_errors(engine):
        run(settings, engine, Address(listen_host, port, tls_port or 0, tunnel_port), files, on_listening)


def _listen_host(host: str | None, *, has_keys: bool) -> str:
    """Returns the address at which the server listens. Prints the reason if it is not the wanted one.

    host: the wanted address. None means all addresses if an API key exists, otherwise 127.0.0.1.
    has_keys: True if an API key exists. If none exists, an address that other machines can reach is replaced by
        127.0.0.1.
    """
    from longtake.service.server import is_loopback

    wanted = host or ("0.0.0.0" if has_keys else LOOPBACK)
    if has_keys or is_loopback(wanted):
        return wanted
    typer.echo(
        f"There are no keys, so only this machine is served, at {LOOPBACK} instead of {wanted}; "
        "`longtake keys create` makes one.",
        err=True,
    )
    return LOOPBACK


def _print_addresses(address: "Address", settings: "Settings", tls: "Tls | None", *, has_keys: bool) -> None:
    """Prints what answers and protects requests on this machine, and the server's addresses.

    address: the address and the ports at which the server listens.
    tls: the certificate files for HTTPS; None for a server without HTTPS.
    has_keys: True if an API key exists.
    """
    from longtake.endpoints import model_notes
    from longtake.media import confinement
    from longtake.service.client_env import Reach, instructions

    name = _local_name(address.host)
    notes = model_notes(settings) if settings.slots else ["There are no slots: requests wait for another server."]
    for note in (*notes, *_shared_gpu_notes(settings)):
        typer.echo(note, err=True)
    typer.echo(str(confinement.support()), err=True)
    typer.echo(f"longtake serves http://{name}:{address.port}", err=True)
    if not has_keys:
        typer.echo("There are no keys: whoever is on this machine may use it, and nobody else.", err=True)
    if tls is not None:
        reach = Reach(
            http=f"http://{name}:{address.port}",
            https=f"https://{name}:{address.tls_port}",
            tunnel=f"http://{name}:{address.tunnel_port}",
            tls=tls,
            has_keys=has_keys,
        )
        typer.echo(f"{instructions(reach)}\n", err=True)


def _shared_gpu_notes(settings: "Settings") -> list[str]:
    """Returns a sentence for each GPU that several slots (devices with worker processes) use."""
    return [
        f"Several slots use {gpu}. Each loads a model of its own onto it and plans for an equal share of its memory. "
        "One slot for each GPU already prepares a request while another one runs."
        for gpu in shared_gpus(slot_devices(settings.slots, settings.device))
    ]


def _local_name(host: str) -> str:
    """Returns the host for the URLs by which programs on this machine reach the server.

    - `localhost`, if the server listens at 127.0.0.1 or at all addresses
    - otherwise `host` itself. An IPv6 address is put in brackets.

    host: address at which the server listens.
    """
    if host in ("0.0.0.0", "::", LOOPBACK):
        return "localhost"
    return f"[{host}]" if ":" in host else host


def _check_address(url: str | None) -> str | None:
    """Returns the address of a server. Raises BadParameter if it does not begin with http:// or https:// and a host."""
    if url is not None and not re.match(r"https?://[^/?#]", url, re.IGNORECASE):
        raise typer.BadParameter("It must be an address such as http://box:8000.")
    return url


def client_env(
    url: Annotated[
        str | None,
        typer.Option(
            callback=_check_address,
            help="The server's address for HTTP. (default: LONGTAKE_PUBLIC_URL, or http://localhost:8000)",
            show_default=False,
        ),
    ] = None,
    tls: Annotated[
        bool | None,
        typer.Option(
            "--tls/--no-tls",
            help="Whether the server was started with --tls. (default: if --data-dir has certificates)",
            show_default=False,
        ),
    ] = None,
    tls_port: TlsPortOption = 8443,
    tunnel_port: TunnelPortOption = 8888,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Print how Python and JavaScript programs with fal's own clients can use a server."""
    with reporting(as_json=json, debug=debug):
        from longtake.service.client_env import Reach, environments, instructions
        from longtake.service.tls import tls_files
        from longtake.settings import settings

        configured = settings()
        url = url or configured.public_url or "http://localhost:8000"
        host = urlsplit(url).hostname or "localhost"
        reach = Reach(http=url.rstrip("/"), has_keys=_has_keys(configured))
        files = tls_files(configured.data_dir / "tls")
        if files.certificate.exists() if tls is None else tls:
            https, tunnel = f"https://{host}:{tls_port}", f"http://{host}:{tunnel_port}"
            reach = replace(reach, https=https, tunnel=tunnel, tls=files)
        if json:
            print_json({"url": reach.http, "https": reach.https, "environment": environments(reach)})
        else:
            typer.echo(instructions(reach))


def _has_keys(settings: "Settings") -> bool:
    """Returns True if the server with these settings needs keys: if its database is there and has an API key."""
    from longtake.database.migrate import DATABASE

    if settings.database_url is None and not (settings.data_dir / DATABASE).exists():
        return False
    with open_keys() as keys:
        return keys.any_exist()
