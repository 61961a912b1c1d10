"""What webhooks are signed with: Ed25519 keys in files, published as a JSON Web Key Set."""

import base64
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

FOLDER = "webhook_keys"
CACHED_S = 24 * 3600
"""So long receivers may keep the published keys."""


class Signer:
    """The keys in a folder of `data_dir`, one file each, named by the second since 1970 from which it signs. Files that
    are added or removed while this runs count. Safe to use from several threads and processes."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / FOLDER
        if not self._keys():
            self._make(0)

    def headers(self, request_id: str, user_id: str, body: bytes, *, now: float | None = None) -> dict[str, str]:
        """The headers that vouch for a webhook sent at this time with these bytes."""
        timestamp = str(int(time.time() if now is None else now))
        signature = self._current(float(timestamp)).sign(message(request_id, user_id, timestamp, body))
        return {
            "X-Fal-Webhook-Request-Id": request_id,
            "X-Fal-Webhook-User-Id": user_id,
            "X-Fal-Webhook-Timestamp": timestamp,
            "X-Fal-Webhook-Signature": signature.hex(),
        }

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """Every public key, those that will sign and those that did."""
        return {"keys": [_public(key) for key in self._keys().values()]}

    def rotate(self) -> int:
        """Makes the next key, and tells from when on it signs: when no receiver knows only the older ones."""
        signs_from = int(time.time()) + CACHED_S
        self._make(signs_from)
        return signs_from

    def _current(self, now: float) -> Ed25519PrivateKey:
        keys = self._keys()
        begun = [signs_from for signs_from in keys if signs_from <= now]
        return keys[max(begun) if begun else min(keys)]

    def _keys(self) -> Mapping[int, Ed25519PrivateKey]:
        found = {}
        for path in sorted(self._folder.glob("*.pem")):
            key = load_pem_private_key(path.read_bytes(), password=None)
            assert isinstance(key, Ed25519PrivateKey), f"{path} holds a key of another kind"
            found[int(path.stem)] = key
        return found

    def _make(self, signs_from: int) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        number, name = tempfile.mkstemp(dir=self._folder)  # for its owner only: 0600
        try:
            with os.fdopen(number, "wb") as file:
                file.write(pem)
                file.flush()
                os.fsync(file.fileno())
            os.link(name, self._folder / f"{signs_from:010}.pem")
        except FileExistsError:
            pass  # another server was first
        finally:
            os.unlink(name)


def message(request_id: str, user_id: str, timestamp: str, body: bytes) -> bytes:
    """The bytes that are signed."""
    return "\n".join((request_id, user_id, timestamp, hashlib.sha256(body).hexdigest())).encode()


def _public(key: Ed25519PrivateKey) -> dict[str, str]:
    """The public half (RFC 8037), its id the thumbprint of RFC 7638."""
    x = _base64url(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
    needed: dict[str, Any] = {"crv": "Ed25519", "kty": "OKP", "x": x}
    thumbprint = hashlib.sha256(json.dumps(needed, separators=(",", ":"), sort_keys=True).encode()).digest()
    return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": _base64url(thumbprint), "use": "sig", "alg": "EdDSA"}


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
