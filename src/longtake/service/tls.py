"""Creates the server's TLS certificate and the private certificate authority that signs it.

The authority is created only once, so that clients have to trust it only once. The certificate is created at every
start of the server, because it contains the machine's current names. It also contains fal's host names.
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
from longtake.errors import InvalidRequest, os_reason
from longtake.queue.addresses import HOSTS

VALID = timedelta(days=800)
"""Validity of the server's certificate. Some clients refuse certificates that are valid for more than 825 days."""

PUBLIC = 0o644
"""File mode of certificates: every user of the machine may read them."""
PRIVATE = 0o600
"""File mode of private keys: only the owner may read them."""


@dataclass(frozen=True)
class Tls:
    """The paths of a server's PEM files.

    authority: the certificate of the private authority, for clients that add it to the public authorities.
    bundle: the certificates of the private and of all public authorities, for clients that replace the public ones.
    certificate: the server's certificate.
    key: the server's private key.
    """

    authority: Path
    bundle: Path
    certificate: Path
    key: Path


def tls_files(folder: Path) -> Tls:
    """Returns the paths of ca.pem, bundle.pem, server.pem and server.key in a folder. The files need not exist yet."""
    return Tls(folder / "ca.pem", folder / "bundle.pem", folder / "server.pem", folder / "server.key")


def prepare(folder: Path, names: Iterable[str] = ()) -> Tls:
    """Creates a new server certificate in `folder`, and returns the paths of its PEM files.

    If the folder has no private certificate authority yet, one is created too.

    The certificate is valid for localhost, this machine's names and addresses, fal's hosts and `names` (host names or
    IP addresses). Only the owner can read the private keys.

    Raises InvalidRequest, with a sentence for the operator, if the files cannot be written or the authority is damaged.
    """
    files = tls_files(folder)
    try:
        _write_all(files, names)
    except OSError as error:
        place = error.filename or folder
        raise InvalidRequest(
            f"The certificates cannot be written: {place}: {os_reason(error)}. Mend that, or start without --tls."
        ) from None
    return files


def _write_all(files: Tls, names: Iterable[str]) -> None:
    """Writes the PEM files of a server: the private authority's certificate, the server's new certificate and its key.

    names: host names and IP addresses for which the certificate is valid, besides those of this machine and of fal.

    Raises OSError if a file cannot be written, and InvalidRequest if the stored authority is damaged.
    """
    folder = files.authority.parent
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
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
    """Returns True for an IP address, and for a host name that is valid in a certificate."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return 0 < len(name) < 64 and all(part and part.isascii() for part in name.split(".")) and "_" not in name
    return True


def _authority(folder: Path) -> trustme.CA:
    """Returns the certificate authority that is stored in the folder. Creates one first if there is none."""
    path = folder / "ca.key"
    if not path.exists():
        authority = trustme.CA(organization_name="longtake", organization_unit_name="local certificate authority")
        # `create` does nothing if another server has just created the file. Then both servers use that authority.
        create(path, authority.private_key_pem.bytes() + authority.cert_pem.bytes())
    key, begin, certificate = path.read_bytes().partition(b"-----BEGIN CERTIFICATE-----")
    try:
        return trustme.CA.from_pem(begin + certificate, key)
    except ValueError:
        raise InvalidRequest(
            f"{path} is not the certificate authority that longtake wrote there. Restore it from a backup, or delete "
            "it; then a new one is created, which clients have to trust instead."
        ) from None


def _write(path: Path, content: bytes, *, mode: int) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)
        temporary.chmod(mode)
