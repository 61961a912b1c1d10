"""Signs webhooks with Ed25519 keys in the data folder. The public keys are published as a JSON Web Key Set."""

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from longtake.atomic import create
from longtake.errors import InvalidRequest, os_reason

FOLDER = "webhook_keys"
"""The subfolder of the data folder that contains the keys with which webhooks are signed."""
CACHED_S = 24 * 3600
"""Seconds for which receivers of webhooks may cache the published keys."""


class Signer:
    """Signs webhooks with the keys in `<data_dir>/webhook_keys`. If there is no key, one is created.

    Each key is a PEM file. Its name is the Unix time in seconds from which the key signs. At any time only one key
    signs: the one with the latest time that is not in the future. Files may be added and deleted at any time. Safe to
    use from several threads and processes.

    If a PEM file in the folder holds no private Ed25519 key, the constructor raises InvalidRequest, with a sentence for
    the operator, and the methods raise ValueError. The constructor also raises InvalidRequest if the folder cannot be
    read or written.
    """

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / FOLDER
        try:
            if not self._keys():
                self._create(0)
        except ValueError as error:
            remedy = "Restore it from a backup, or move it elsewhere."
            raise InvalidRequest(f"The keys that sign webhooks cannot be used: {error} {remedy}") from None
        except OSError as error:
            place = error.filename or self._folder
            raise InvalidRequest(
                f"The keys that sign webhooks cannot be read or written: {place}: {os_reason(error)}."
            ) from None

    def headers(self, request_id: str, user_id: str, body: bytes, *, now: float | None = None) -> dict[str, str]:
        """Returns the four headers `X-Fal-Webhook-...` of a webhook: request id, user id, timestamp and signature.

        request_id: the id of the request whose result the webhook sends.
        user_id: the id of the API key that submitted the request.
        body: the body of the webhook.
        now: the Unix time in seconds at which the webhook is sent; None is the current time.
        """
        timestamp = str(int(time.time() if now is None else now))
        private_key = self._current(float(timestamp)).private_key
        assert isinstance(private_key, Ed25519PrivateKey)  # `_read` has checked this
        signature = private_key.sign(message(request_id, user_id, timestamp, body))
        return {
            "X-Fal-Webhook-Request-Id": request_id,
            "X-Fal-Webhook-User-Id": user_id,
            "X-Fal-Webhook-Timestamp": timestamp,
            "X-Fal-Webhook-Signature": signature.hex(),
        }

    def jwks(self) -> dict[str, list[dict[str, Any]]]:
        """Returns the JSON Web Key Set with the public keys of all key files.

        So it has the keys that signed in the past, the one that signs now, and those that will sign later.
        """
        return {"keys": [_public(key) for key in self._keys().values()]}

    def rotate(self) -> int:
        """Creates the next key. Returns the Unix time in seconds from which it signs.

        This time is one day (CACHED_S) from now. Receivers may cache the published keys for one day, so by then all of
        them have the new key.
        """
        signs_from = int(time.time()) + CACHED_S
        self._create(signs_from)
        return signs_from

    def _current(self, now: float) -> OKPKey:
        keys = self._keys()
        past = [signs_from for signs_from in keys if signs_from <= now]
        return keys[max(past) if past else min(keys)]

    def _keys(self) -> Mapping[int, OKPKey]:
        return {_signs_from(path): _read(path) for path in sorted(self._folder.glob("*.pem"))}

    def _create(self, signs_from: int) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # `create` does not replace a file, so if another server creates the key first, both servers use that key.
        create(self._folder / f"{signs_from:010}.pem", OKPKey.generate_key("Ed25519").as_pem(private=True))


def message(request_id: str, user_id: str, timestamp: str, body: bytes) -> bytes:
    """Returns the bytes that are signed for a webhook, in fal's format.

    request_id: the id of the request whose result the webhook sends.
    user_id: the id of the API key that submitted the request.
    timestamp: the Unix time in whole seconds at which the webhook is sent.
    body: the body of the webhook.
    """
    return "\n".join((request_id, user_id, timestamp, hashlib.sha256(body).hexdigest())).encode()


def _signs_from(path: Path) -> int:
    """Returns the Unix time in seconds from which the key at `path` signs. Raises ValueError if its name is no time."""
    if not (path.stem.isascii() and path.stem.isdigit()):
        raise ValueError(f"{path} is not named after the time from which it signs.")
    return int(path.stem)


def _read(path: Path) -> OKPKey:
    try:
        key = OKPKey.import_key(path.read_bytes())
    except (JoseError, ValueError):
        raise ValueError(f"{path} is not an Ed25519 private key in PEM.") from None
    if not isinstance(key.private_key, Ed25519PrivateKey):
        raise ValueError(f"{path} is not an Ed25519 private key in PEM.")
    return key


def _public(key: OKPKey) -> dict[str, Any]:
    """Returns the public half of a key as a JSON Web Key (RFC 8037). Its `kid` is its thumbprint (RFC 7638)."""
    return key.as_dict(private=False, kid=key.thumbprint(), use="sig", alg="EdDSA")
