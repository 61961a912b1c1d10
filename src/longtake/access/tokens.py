"""Short-lived tokens that stand for a key: JSON Web Tokens signed with HMAC-SHA256, by a secret all servers share."""

import base64
import hmac
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import sqlalchemy as sa

from longtake.access.keys import LOCAL, Caller, Keys
from longtake.database.secret import secret

Purpose = Literal["run", "upload"]

LONGEST_S = 24 * 3600.0

_HEAD = b"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"  # {"alg":"HS256","typ":"JWT"}


ANONYMOUS = Caller("proxy", "run", None)
"""Whoever uses the proxy without a key, where the settings open it."""


@dataclass(frozen=True)
class Claim:
    """What a token stands for: the key `key_id`, to `upload` files, or to `run` the apps named (all where empty)."""

    key_id: str
    purpose: Purpose
    apps: tuple[str, ...]
    expires_at: float


@dataclass(frozen=True)
class Tokens:
    """The tokens of a database."""

    engine: sa.Engine

    @cached_property
    def _secret(self) -> bytes:
        return secret(self.engine, "tokens")

    def make(self, key_id: str, purpose: Purpose, *, within_s: float, apps: Sequence[str] = ()) -> str:
        """A token that works `within_s` from now, a day at most."""
        until = time.time() + min(within_s, LONGEST_S)
        claims = {"sub": key_id, "aud": purpose, "apps": list(apps), "exp": until}
        signed = _HEAD + b"." + _encode(json.dumps(claims, separators=(",", ":")).encode())
        return (signed + b"." + _encode(self._sign(signed))).decode()

    def caller(self, token: str, purpose: Purpose, keys: Keys) -> Caller | None:
        """Who holds this token, with the rights of `run` however much their key may; None where it is not for this
        purpose, or its key does not work any more."""
        claim = self.verify(token)
        if claim is None or claim.purpose != purpose:
            return None
        if not keys.any_exist():
            return LOCAL
        known = ANONYMOUS if claim.key_id == ANONYMOUS.key_id else keys.caller(claim.key_id)
        return None if known is None else replace(known, scope="run", apps=claim.apps)

    def verify(self, token: str) -> Claim | None:
        """What a token says; None where it is not ours, was changed, or its time is over. Of its key it tells nothing:
        that may have been revoked since."""
        signed, _, signature = token.encode("utf-8", "replace").rpartition(b".")
        if not signed.startswith(_HEAD + b".") or not hmac.compare_digest(_encode(self._sign(signed)), signature):
            return None
        claims = json.loads(_decode(signed.partition(b".")[2]))
        if claims["exp"] <= time.time():
            return None
        return Claim(claims["sub"], claims["aud"], tuple(claims["apps"]), claims["exp"])

    def _sign(self, text: bytes) -> bytes:
        return hmac.digest(self._secret, text, "sha256")


def _encode(given: bytes) -> bytes:
    return base64.urlsafe_b64encode(given).rstrip(b"=")


def _decode(given: bytes) -> bytes:
    return base64.urlsafe_b64decode(given + b"=" * (-len(given) % 4))
