"""The private authority: kept across starts, trusted by those who are given it, and nobody else reads its keys."""

import socket
import ssl
import stat
import threading
from pathlib import Path

import certifi
import pytest
from cryptography import x509

from longtake.queue.addresses import HOSTS
from longtake.service.tls import Tls, machine_names, prepare


def shaken(server: Tls, name: str, trusted: Path) -> bytes:
    """One TLS connection to a server with these files, under this name; what it says."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with listener.accept()[0] as line:
                try:
                    with context.wrap_socket(line, server_side=True) as secure:
                        secure.sendall(b"hello")
                except OSError:
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            client = ssl.create_default_context(cafile=str(trusted))
            if hasattr(ssl, "VERIFY_X509_STRICT"):
                client.verify_flags |= ssl.VERIFY_X509_STRICT
            with (
                socket.create_connection(listener.getsockname()) as line,
                client.wrap_socket(line, server_hostname=name) as secure,
            ):
                return secure.recv(5)
        finally:
            thread.join(5)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", *HOSTS, "box.example", "10.1.2.3"])
def test_who_trusts_the_authority_trusts_the_server_under_its_names(tmp_path: Path, name: str) -> None:
    files = prepare(tmp_path / "tls", ["box.example", "10.1.2.3"])
    assert shaken(files, name, files.authority) == b"hello"


def test_the_bundle_has_the_public_authorities_too(tmp_path: Path) -> None:
    files = prepare(tmp_path / "tls")
    assert shaken(files, "queue.fal.run", files.bundle) == b"hello"
    begin = b"-----BEGIN CERTIFICATE-----"
    assert files.bundle.read_bytes().count(begin) == Path(certifi.where()).read_bytes().count(begin) + 1


def test_nobody_else_trusts_it(tmp_path: Path) -> None:
    files, other = prepare(tmp_path / "tls"), prepare(tmp_path / "other")
    for trusted in (other.authority, Path(certifi.where())):
        with pytest.raises(ssl.SSLCertVerificationError):
            shaken(files, "localhost", trusted)
    with pytest.raises(ssl.SSLCertVerificationError):
        shaken(files, "example.com", files.authority)


def test_a_client_of_yesterday_trusts_the_server_of_today(tmp_path: Path) -> None:
    first = prepare(tmp_path / "tls")
    authority, certificate = first.authority.read_bytes(), first.certificate.read_bytes()
    second = prepare(tmp_path / "tls", ["new.example"])
    assert second.authority.read_bytes() == authority
    assert second.certificate.read_bytes() != certificate
    assert shaken(second, "new.example", first.authority) == b"hello"


def test_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    files = prepare(tmp_path / "tls")
    for key in (files.key, tmp_path / "tls" / "ca.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    for shown in (files.authority, files.bundle, files.certificate):
        assert b"PRIVATE" not in shown.read_bytes()
        assert stat.S_IMODE(shown.stat().st_mode) == 0o644
    assert sorted(path.name for path in (tmp_path / "tls").iterdir()) == [
        "bundle.pem",
        "ca.key",
        "ca.pem",
        "server.key",
        "server.pem",
    ]


def test_servers_that_start_at_once_have_one_authority(tmp_path: Path) -> None:
    threads = [threading.Thread(target=prepare, args=(tmp_path / "tls",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    files = prepare(tmp_path / "tls")
    assert shaken(files, "localhost", files.authority) == b"hello"


def test_the_certificate_is_short_enough_for_every_client(tmp_path: Path) -> None:
    leaf = x509.load_pem_x509_certificate(prepare(tmp_path / "tls").certificate.read_bytes())
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).days <= 825


def test_machine_names() -> None:
    assert {"localhost", "127.0.0.1", "::1"} <= machine_names()
