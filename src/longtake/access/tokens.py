"""Short-lived tokens (JSON Web Tokens, HS256) for clients that must not have an API key, such as web pages."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import sqlalchemy as sa
from joserfc import jwt
from joserfc.jwk import OctKey

from longtake import clock
from longtake.access.keys import LOCAL, Caller, Keys
from longtake.database.secret import secret

Purpose = Literal["run", "upload"]
"""The rights of a token. "run": to run the endpoints that it names. "upload": to upload files."""

MAX_LIFE_S = 24 * 3600.0
"""Longest time in seconds for which a token is valid."""

ANONYMOUS = Caller("proxy", "token", None)
"""The caller of a request without a key to /api/fal/proxy, to which fal's JavaScript client sends requests from
browsers. The setting `open_proxy` can allow such requests."""


@dataclass(frozen=True)
class TokenClaims:
    """The facts that a valid token states.

    `key_id`: the id of the API key for which the token was issued.
    `purpose`: what the token allows. "run": to send requests to endpoints. "upload": to upload files.
    `apps`: the endpoints that the token's holder may run, by id or shorter name (see `Caller.may_run`); empty for all.
    `expires_at`: the Unix time in seconds at which the token expires.
    """

    key_id: str
    purpose: Purpose
    apps: tuple[str, ...]
    expires_at: float


@dataclass(frozen=True)
class Tokens:
    """Issues and verifies tokens.

    `engine`: the engine of the database. The secret that signs tokens is in it, so all servers with this database
        accept the tokens.
    """

    engine: sa.Engine

    @cached_property
    def _key(self) -> OctKey:
        return OctKey.import_key(secret(self.engine, "tokens"))

    def issue(self, key_id: str, purpose: Purpose, *, within_s: float, apps: Sequence[str] = ()) -> str:
        """Returns a new token, whose holder may act for the API key with this id.

        `purpose`: what the token allows. "run": to send requests to endpoints. "upload": to upload files.
        `within_s`: the seconds for which the token is valid. More than one day (MAX_LIFE_S) counts as one day.
        `apps`: the endpoints that the token's holder may run, by id or shorter name (see `Caller.may_run`); empty for
            all.
        """
        expires_at = clock.now() + min(within_s, MAX_LIFE_S)
        return jwt.encode(
            {"alg": "HS256"}, {"sub": key_id, "aud": purpose, "apps": list(apps), "exp": expires_at}, self._key
        )

    def caller(self, token: str, purpose: Purpose, keys: Keys) -> Caller | None:
        """Returns the caller who uses a token, and what they may do. Returns None if the token is not valid.

        It is not valid if its signature is wrong, it has expired, its purpose is not `purpose`, or its API key was
        revoked.

        - On a server without API keys, the caller may do everything.
        - On a server with API keys, the caller has the scope "token", whatever the API key's scope is, and may run the
          endpoints that the token names.

        `purpose`: what the caller wants to do: "run" or "upload".
        `keys`: the API keys of the server.
        """
        claims = self.verify(token)
        if claims is None or claims.purpose != purpose:
            return None
        if not keys.any_exist():
            return LOCAL
        caller = ANONYMOUS if claims.key_id == ANONYMOUS.key_id else keys.caller(claims.key_id)
        return None if caller is None else replace(caller, scope="token", apps=claims.apps)

    def verify(self, token: str) -> TokenClaims | None:
        """Returns the claims of a token. Returns None if its signature is wrong or it has expired.

        Does not check whether the API key was revoked.
        """
        key = self._key
        try:
            claims = jwt.decode(token, key, algorithms=["HS256"]).claims
        except Exception:
            # The library reads a header that anybody may have written, and some make it raise errors of other classes.
            # Reading the secret is not inside, so an error of the database still is one.
            return None
        if claims["exp"] <= clock.now():
            return None
        return TokenClaims(claims["sub"], claims["aud"], tuple(claims["apps"]), claims["exp"])
