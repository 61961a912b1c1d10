"""The private certificate authority and the server's certificate."""

import errno
import socket
import ssl
import stat
import threading
from pathlib import Path

import certifi
import pytest
from cryptography import x509

from longtake.errors import InvalidRequest
from longtake.queue.addresses import HOSTS
from longtake.service.tls import Tls, machine_names, prepare


def handshake(server: Tls, name: str, trusted: Path) -> bytes:
    """Connects to a TLS server with these files under this name. Returns the bytes that it sends, `hello`."""
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
            thread.join(60)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", *HOSTS, "box.example", "10.1.2.3"])
def test_a_client_with_the_authority_trusts_every_name_of_the_server(tmp_path: Path, name: str) -> None:
    files = prepare(tmp_path / "tls", ["box.example", "10.1.2.3"])
    assert handshake(files, name, files.authority) == b"hello"


@pytest.mark.parametrize("content", [b"", b"hello", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_damaged_authority_is_refused_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ca.key").write_bytes(content)
    with pytest.raises(InvalidRequest, match=r"ca\.key is not the certificate authority .* or delete it"):
        prepare(tmp_path)
    assert (tmp_path / "ca.key").read_bytes() == content


def test_certificates_that_cannot_be_written_are_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")  # as a write fails, without the file's name

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(InvalidRequest, match=f"cannot be written: {tmp_path / 'tls'}: No space left on device. Mend"):
        prepare(tmp_path / "tls")


def test_the_bundle_contains_the_public_authorities(tmp_path: Path) -> None:
    files = prepare(tmp_path / "tls")
    assert handshake(files, "queue.fal.run", files.bundle) == b"hello"
    begin = b"-----BEGIN CERTIFICATE-----"
    assert files.bundle.read_bytes().count(begin) == Path(certifi.where()).read_bytes().count(begin) + 1


def test_a_client_without_the_authority_does_not_trust_the_server(tmp_path: Path) -> None:
    files, other = prepare(tmp_path / "tls"), prepare(tmp_path / "other")
    for trusted in (other.authority, Path(certifi.where())):
        with pytest.raises(ssl.SSLCertVerificationError):
            handshake(files, "localhost", trusted)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(files, "example.com", files.authority)


def test_the_authority_survives_a_restart(tmp_path: Path) -> None:
    first = prepare(tmp_path / "tls")
    authority, certificate = first.authority.read_bytes(), first.certificate.read_bytes()
    second = prepare(tmp_path / "tls", ["new.example"])
    assert second.authority.read_bytes() == authority
    assert second.certificate.read_bytes() != certificate
    assert handshake(second, "new.example", first.authority) == b"hello"


def test_only_the_owner_can_read_private_keys(tmp_path: Path) -> None:
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


def test_servers_that_start_together_share_one_authority(tmp_path: Path) -> None:
    threads = [threading.Thread(target=prepare, args=(tmp_path / "tls",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    files = prepare(tmp_path / "tls")
    assert handshake(files, "localhost", files.authority) == b"hello"


def test_the_certificate_is_not_valid_for_too_long(tmp_path: Path) -> None:
    leaf = x509.load_pem_x509_certificate(prepare(tmp_path / "tls").certificate.read_bytes())
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).days <= 825


def test_the_machines_names_include_localhost() -> None:
    assert {"localhost", "127.0.0.1", "::1"} <= machine_names()
