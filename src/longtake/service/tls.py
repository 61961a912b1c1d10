"""A certificate authority of the server's own, for clients that speak TLS only.

It is made once and kept, so that clients who trust it go on doing so; the server's certificate is made at every start,
for the names that the machine has then, and for fal's hosts.
"""

import contextlib
import ipaddress
import os
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import certifi
import trustme

from longtake.queue.addresses import HOSTS

VALID = timedelta(days=800)
"""Of the server's certificate; some clients refuse those that are valid for more than 825 days."""


@dataclass(frozen=True)
class Tls:
    """The files, all PEM. `bundle` is `authority` with the public ones: for clients whose setting replaces those."""

    authority: Path
    bundle: Path
    certificate: Path
    key: Path


def tls_files(folder: Path) -> Tls:
    """Where the files lie, made or not."""
    return Tls(folder / "ca.pem", folder / "bundle.pem", folder / "server.pem", folder / "server.key")


def prepare(folder: Path, names: Iterable[str] = ()) -> Tls:
    """Makes what is not there: the authority once, the server's certificate anew, for localhost, this machine, fal's
    hosts, and `names` (host names or IP addresses). Keys can be read by their owner only."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    files = tls_files(folder)
    authority = _authority(folder)
    public = authority.cert_pem.bytes()
    _write(files.authority, public)
    _write(files.bundle, public + b"\n" + Path(certifi.where()).read_bytes())
    leaf = authority.issue_cert(
        *sorted({*machine_names(), *HOSTS, *names}),
        common_name="longtake",
        not_before=datetime.now(UTC) - timedelta(days=1),
        not_after=datetime.now(UTC) + VALID,
    )
    _write(files.key, leaf.private_key_pem.bytes(), secret=True)
    _write(files.certificate, b"".join(part.bytes() for part in leaf.cert_chain_pems))
    return files


def machine_names() -> set[str]:
    """The names and addresses by which this machine may be called."""
    names = {"localhost", "127.0.0.1", "::1"}
    for name in (socket.gethostname(), socket.getfqdn()):
        names.add(name)
        try:
            found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except OSError:
            continue
        names.update(str(address[0]).partition("%")[0] for *_, address in found)
    return {name for name in names if _can_be_certified(name)}


def _can_be_certified(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return 0 < len(name) < 64 and all(part and part.isascii() for part in name.split(".")) and "_" not in name
    return True


def _authority(folder: Path) -> trustme.CA:
    kept = folder / "ca.key"
    if not kept.exists():
        made = trustme.CA(organization_name="longtake", organization_unit_name="local certificate authority")
        whole = made.private_key_pem.bytes() + made.cert_pem.bytes()
        with contextlib.suppress(FileExistsError):  # another server of this folder was first
            _write(kept, whole, secret=True, once=True)
    pem = kept.read_bytes()
    start = pem.index(b"-----BEGIN CERTIFICATE-----")
    return trustme.CA.from_pem(pem[start:], pem[:start])


def _write(path: Path, content: bytes, *, secret: bool = False, once: bool = False) -> None:
    whole = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    opened = os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if secret else 0o644)
    try:
        with os.fdopen(opened, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if once:
            os.link(whole, path)
        else:
            whole.replace(path)
    finally:
        whole.unlink(missing_ok=True)
