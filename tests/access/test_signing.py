"""Webhook signatures that fal's receivers accept, and the files of their keys."""

import base64
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from longtake.access.signing import CACHED_S, FOLDER, Signer, message
from longtake.errors import InvalidRequest

PLAIN = NoEncryption()
BODY = b'{"request_id":"r-1","gateway_request_id":"r-1","status":"OK","payload":{"seed":1}}'


def accepted(signer: Signer, headers: dict[str, str], body: bytes, *, known: int | None = None) -> bool:
    """Returns True if one of the published keys, or of the first `known` of them, made the signature."""
    names = ("Request-Id", "User-Id", "Timestamp")
    request_id, user_id, timestamp = (headers[f"X-Fal-Webhook-{name}"] for name in names)
    signed = message(request_id, user_id, timestamp, body)
    for key in signer.jwks()["keys"][:known]:
        public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"] + "="))
        try:
            public.verify(bytes.fromhex(headers["X-Fal-Webhook-Signature"]), signed)
        except InvalidSignature:
            continue
        return True
    return False


def test_a_known_key_makes_the_known_signature(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir()
    key = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, PLAIN)
    (folder / "0.pem").write_bytes(pem)
    signer = Signer(tmp_path)
    (published,) = signer.jwks()["keys"]
    assert published["x"] == "iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w"
    assert (published["kty"], published["crv"]) == ("OKP", "Ed25519")
    assert message("r-1", "user-1", "1700000000", BODY) == (
        b"r-1\nuser-1\n1700000000\n4b437877412a9be13bdfaf34e3889ab69d7f65b259490295294378048251cbec"
    )
    assert signer.headers("r-1", "user-1", BODY, now=1_700_000_000.9) == {
        "X-Fal-Webhook-Request-Id": "r-1",
        "X-Fal-Webhook-User-Id": "user-1",
        "X-Fal-Webhook-Timestamp": "1700000000",
        "X-Fal-Webhook-Signature": "b4cf2d2108475857eb7964bdc2e51b5d6726717a3d73a6683055116b2d7deb28"
        "c0ac4ad8a8a14c5bfad1465478682ecb2d79f12c50e7e2c4499fb523e5e16504",
    }


def test_an_altered_webhook_is_not_accepted(tmp_path: Path) -> None:
    signer = Signer(tmp_path)
    headers = signer.headers("r", "u", BODY)
    assert accepted(signer, headers, BODY)
    assert not accepted(signer, headers, BODY + b" ")
    for name in ("Request-Id", "User-Id", "Timestamp"):
        assert not accepted(signer, headers | {f"X-Fal-Webhook-{name}": "1"}, BODY)
    assert not accepted(Signer(tmp_path / "other"), headers, BODY)


def test_the_key_is_a_file_that_only_its_owner_can_read(tmp_path: Path) -> None:
    first = Signer(tmp_path).jwks()
    assert Signer(tmp_path).jwks() == first
    folder = tmp_path / FOLDER
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_new_key_signs_once_every_receiver_has_it(tmp_path: Path) -> None:
    signer, server = Signer(tmp_path), Signer(tmp_path)
    signs_from = signer.rotate()
    assert len(server.jwks()["keys"]) == 2
    just_before = server.headers("r", "u", BODY, now=signs_from - 1)
    just_after = server.headers("r", "u", BODY, now=signs_from)
    assert accepted(server, just_before, BODY, known=1)  # by a receiver that has cached the keys of before the rotation
    assert not accepted(server, just_after, BODY, known=1)
    assert accepted(server, just_after, BODY)
    assert Signer(tmp_path).jwks() == server.jwks()
    assert CACHED_S == 24 * 3600


def test_signatures_of_a_deleted_key_are_not_accepted(tmp_path: Path) -> None:
    signer = Signer(tmp_path)
    stolen = signer.headers("r", "u", BODY)
    signer.rotate()
    (tmp_path / FOLDER / "0000000000.pem").unlink()
    assert accepted(signer, signer.headers("r", "u", BODY), BODY)
    assert not accepted(signer, stolen, BODY)


def test_servers_that_start_at_the_same_time_share_one_key(tmp_path: Path) -> None:
    script = f"from pathlib import Path; from longtake.access.signing import Signer; Signer(Path({str(tmp_path)!r}))"
    children = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(4)]
    assert [child.wait(30) for child in children] == [0] * 4
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == ["0000000000.pem"]
    assert len(Signer(tmp_path).jwks()["keys"]) == 1


@pytest.mark.parametrize(
    "content", [b"no key", b"", X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, PLAIN)]
)
def test_a_file_without_an_ed25519_key_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "0.pem").write_bytes(content)
    with pytest.raises(InvalidRequest, match=r"0\.pem is not an Ed25519 private key in PEM\. Restore it from a backup"):
        Signer(tmp_path)


def test_a_file_that_is_added_while_the_server_runs_and_is_no_key_is_named(tmp_path: Path) -> None:
    signer = Signer(tmp_path)
    (tmp_path / FOLDER / "readme.pem").write_text("a stray file")
    with pytest.raises(ValueError, match=r"readme\.pem is not named after the time"):
        signer.jwks()
    with pytest.raises(InvalidRequest, match=r"readme\.pem is not named .* move it elsewhere\."):
        Signer(tmp_path)


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / FOLDER).touch()
    with pytest.raises(
        InvalidRequest, match=f"cannot be read or written: .*{FOLDER}: there is already a file or folder of that name"
    ):
        Signer(tmp_path)
