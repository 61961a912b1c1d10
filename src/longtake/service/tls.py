"""The server's private certificate authority, for clients that speak TLS only.

The authority is created once, so that clients have to trust it only once. The server's certificate is created at every
start, for the machine's current names and for fal's host names.
"""

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import certifi
import trustme

from longtake.atomic import create, replacing
from longtake.queue.addresses import HOSTS

VALID = timedelta(days=800)
"""Validity of the server's certificate; some clients refuse certificates that are valid for more than 825 days."""

PUBLIC, PRIVATE = 0o644, 0o600
"""The permissions of certificates and of private keys."""


@dataclass(frozen=True)
class Tls:
    """The PEM files of a server.

    `bundle` contains the private authority and the public ones, for clients whose setting replaces the public ones.
    """

    authority: Path
    bundle: Path
    certificate: Path
    key: Path


def tls_files(folder: Path) -> Tls:
    """Returns the paths of the PEM files in a folder. They may not exist yet."""
    return Tls(folder / "ca.pem", folder / "bundle.pem", folder / "server.pem", folder / "server.key")


def prepare(folder: Path, names: Iterable[str] = ()) -> Tls:
    """Creates a new server certificate, and the authority if there is none, and returns their files.

    The certificate is valid for localhost, this machine's names, fal's hosts and `names` (host names or IP addresses).
    Only the owner can read the private keys.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    files = tls_files(folder)
    authority = _authority(folder)
    pem = authority.cert_pem.bytes()
    _write(files.authority, pem, mode=PUBLIC)
    _write(files.bundle, pem + b"\n" + Path(certifi.where()).read_bytes(), mode=PUBLIC)
    leaf = authority.issue_cert(
        *sorted({*machine_names(), *HOSTS, *names}),
        common_name="longtake",
        not_before=datetime.now(UTC) - timedelta(days=1),
        not_after=datetime.now(UTC) + VALID,
    )
    _write(files.key, leaf.private_key_pem.bytes(), mode=PRIVATE)
    _write(files.certificate, b"".join(part.bytes() for part in leaf.cert_chain_pems), mode=PUBLIC)
    return files


def machine_names() -> set[str]:
    """Returns the host names and IP addresses of this machine that a certificate can contain."""
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
    """Returns the certificate authority stored in the folder, after creating it if there is none."""
    path = folder / "ca.key"
    if not path.exists():
        authority = trustme.CA(organization_name="longtake", organization_unit_name="local certificate authority")
        # If another server of this folder creates the authority first, both use that one.
        create(path, authority.private_key_pem.bytes() + authority.cert_pem.bytes())
    pem = path.read_bytes()
    start = pem.index(b"-----BEGIN CERTIFICATE-----")
    return trustme.CA.from_pem(pem[start:], pem[:start])


def _write(path: Path, content: bytes, *, mode: int) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)
        temporary.chmod(mode)
