"""Short-lived tokens for clients that must not have an API key: JSON Web Tokens (HS256), valid on all servers."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import sqlalchemy as sa
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from longtake.access.keys import LOCAL, Caller, Keys
from longtake.database.secret import secret

Purpose = Literal["run", "upload"]
"""What a token allows: to run applications, or to upload files."""

MAX_LIFE_S = 24 * 3600.0
"""The longest life of a token in seconds."""

ANONYMOUS = Caller("proxy", "run", None)
"""Callers of the proxy without a key, if the settings allow them."""


@dataclass(frozen=True)
class TokenClaims:
    """The claims of a valid token: the API key that it was issued for, its purpose, and the apps that it may run.

    An empty `apps` allows all. `expires_at` is in seconds since 1970.
    """

    key_id: str
    purpose: Purpose
    apps: tuple[str, ...]
    expires_at: float


@dataclass(frozen=True)
class Tokens:
    """Issues and verifies tokens, signed with a secret that all servers of the database share."""

    engine: sa.Engine

    @cached_property
    def _key(self) -> OctKey:
        return OctKey.import_key(secret(self.engine, "tokens"))

    def issue(self, key_id: str, purpose: Purpose, *, within_s: float, apps: Sequence[str] = ()) -> str:
        """Returns a token for an API key. It is valid for `within_s` seconds, and for MAX_LIFE_S at most."""
        expires_at = time.time() + min(within_s, MAX_LIFE_S)
        return jwt.encode(
            {"alg": "HS256"}, {"sub": key_id, "aud": purpose, "apps": list(apps), "exp": expires_at}, self._key
        )

    def caller(self, token: str, purpose: Purpose, keys: Keys) -> Caller | None:
        """Returns the holder of a token, with the scope `run` whatever the scope of the API key is.

        Returns None if the token is not valid or for another purpose, or if its API key was revoked.
        """
        claims = self.verify(token)
        if claims is None or claims.purpose != purpose:
            return None
        if not keys.any_exist():
            return LOCAL
        caller = ANONYMOUS if claims.key_id == ANONYMOUS.key_id else keys.caller(claims.key_id)
        return None if caller is None else replace(caller, scope="run", apps=claims.apps)

    def verify(self, token: str) -> TokenClaims | None:
        """Returns the claims of a token; None if it was not issued here, was changed, or has expired.

        It does not check the token's API key, which may have been revoked.
        """
        try:
            claims = jwt.decode(token, self._key, algorithms=["HS256"]).claims
        except (JoseError, ValueError):
            return None
        if claims["exp"] <= time.time():
            return None
        return TokenClaims(claims["sub"], claims["aud"], tuple(claims["apps"]), claims["exp"])
