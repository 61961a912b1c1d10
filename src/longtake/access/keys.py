"""API keys: creates, lists, revokes and verifies them. A key limits what its holder may do on the server."""

import hashlib
import hmac
import secrets
import threading
import time
import uuid
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa
from cachetools import TTLCache

from longtake import clock
from longtake.database.connection import reading
from longtake.database.tables import api_keys
from longtake.errors import InvalidRequest

Scope = Literal["run", "admin"]
"""The rights of an API key. "run": to submit requests and see their results. "admin": to do everything."""

CallerScope = Literal["token", Scope]
"""The rights of a caller: those of an API key, or "token". Callers with a token, such as web pages, may run the
endpoints that the token names, see and cancel requests to them by id, and upload files for them."""

CACHE_S = 5.0
"""Seconds for which a key that was read from the database is accepted without another read. A revoked key can still
work for this long."""
UNREACHABLE_S = 60.0
"""Seconds for which a key that was read from the database is still accepted while the database does not answer."""
MAX_CACHED = 4096
"""Maximum number of keys in memory. The least recently used key is removed first."""


@dataclass(frozen=True)
class Caller:
    """The sender of an HTTP request, and what they may do.

    `key_id`: the id of the API key, or a name for a caller without a key.
    `scope`: the rights of the caller. "run": to submit requests and see their results, with an API key. "admin": to do
        everything, with an API key. "token": the caller has a short-lived token, not an API key.
    `max_in_flight`: the maximum number of the caller's requests that wait or run at a time; None for no limit.
    `apps`: the endpoints that the caller may run, by id or shorter name (see `may_run`); empty for all.
    """

    key_id: str
    scope: CallerScope
    max_in_flight: int | None
    apps: tuple[str, ...] = ()

    @property
    def is_admin(self) -> bool:
        """True if the caller may see all requests and files."""
        return self.scope == "admin"

    @property
    def visible_key(self) -> str | None:
        """The id of the key whose requests the caller may list: the caller's own, or None for those of all keys."""
        return None if self.is_admin else self.key_id

    def may_run(self, endpoint: str) -> bool:
        """Returns True if the caller may run the endpoint with this id.

        The caller's field `apps` lists the endpoints that the caller may run; if it is empty, they may run all. The
        list may name the endpoint `fal-ai/some-app/extend` by this id, by `fal-ai/some-app` or by `some-app`.
        """
        parts = endpoint.split("/")
        return not self.apps or not {endpoint, "/".join(parts[:2]), *parts[1:2]}.isdisjoint(self.apps)


LOCAL = Caller("local", "admin", None)
"""The caller in every request to a server without API keys."""


@dataclass(frozen=True)
class Key:
    """The facts about an API key, without its secret.

    `id`: the part of the key before the colon.
    `alias`: the key's name for people.
    `scope`: the rights of the key's owner. "run": to submit requests and see their results. "admin": to do everything.
    `max_in_flight`: the maximum number of the key's requests that wait or run at a time; None for no limit.
    `created_at`: the Unix time in seconds at which the key was created.
    `revoked_at`: the Unix time in seconds at which the key was revoked; None if it was not.
    """

    id: str
    alias: str
    scope: Scope
    max_in_flight: int | None
    created_at: float
    revoked_at: float | None


@dataclass(frozen=True)
class _CachedKey:
    """A valid key as read from the database.

    `secret_hash`: the hash of the key's secret, see `_hash`.
    `caller`: the key's owner.
    `read_at`: when the read began, in seconds of `time.monotonic`.
    """

    secret_hash: str
    caller: Caller
    read_at: float


class Keys:
    """The API keys in a database, with a cache. Safe to use from several threads.

    `cache_s`: the seconds for which a key that was read from the database is used without another read. A key that was
        revoked on another server can still work here for this long.

    While the database does not answer, a cached key is used for one minute (UNREACHABLE_S) after it was read.
    """

    def __init__(self, engine: sa.Engine, *, cache_s: float = CACHE_S) -> None:
        self._engine = engine
        self._cache_s = cache_s
        self._lock = threading.Lock()
        self._cache: MutableMapping[str, _CachedKey] = TTLCache(MAX_CACHED, UNREACHABLE_S, time.monotonic)
        self._any_exist = False
        self._any_read_at = -float("inf")

    def create(self, alias: str, scope: Scope, max_in_flight: int | None = None) -> str:
        """Creates a key and returns it as `id:secret`. Only the secret's hash is stored, so it cannot be shown again.

        `alias`: a name for people, of 1 to 200 characters.
        `scope`: the rights of the key. "run": to submit requests and see their results. "admin": to do everything.
        `max_in_flight`: the maximum number of the key's requests that wait or run at a time; None for no limit.

        Raises InvalidRequest if the alias is empty or too long, or if the limit is below 1.
        """
        if not 0 < len(alias) <= 200:
            raise InvalidRequest(f"A key's alias has 1 to 200 characters; {len(alias)} were given.", value=alias[:80])
        if max_in_flight is not None and max_in_flight < 1:
            raise InvalidRequest(f"A key's max_in_flight is at least 1; {max_in_flight} was given.")
        key_id, secret = str(uuid.uuid4()), secrets.token_hex(32)
        with self._engine.begin() as connection:
            connection.execute(
                sa.insert(api_keys).values(
                    id=key_id,
                    secret_hash=_hash(secret),
                    alias=alias,
                    scope=scope,
                    max_in_flight=max_in_flight,
                    created_at=clock.now(),
                )
            )
        self._any_exist = True
        return f"{key_id}:{secret}"

    def list(self) -> list[Key]:
        """Returns all keys, including revoked ones, oldest first."""
        columns = [column for column in api_keys.c if column.name != "secret_hash"]
        with reading(self._engine) as connection:
            found = connection.execute(sa.select(*columns).order_by(api_keys.c.created_at, api_keys.c.id))
            return [Key(**row._mapping) for row in found]

    def revoke(self, key_id: str) -> bool:
        """Revokes the key with this id. Returns False if there is no such key or it was already revoked."""
        with self._engine.begin() as connection:
            revoked = connection.execute(
                sa.update(api_keys)
                .where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
                .values(revoked_at=clock.now())
            )
        with self._lock:
            self._cache.pop(key_id, None)
        return revoked.rowcount == 1

    def verify(self, key: str) -> Caller | None:
        """Returns the owner of a key of the form `id:secret`, or None if the key is not valid.

        Raises SQLAlchemy's DBAPIError if the database does not answer and the key is not cached.
        """
        key_id, colon, secret = key.strip().partition(":")
        if not colon or not secret or len(key) > 500:
            return None
        found = self._look_up(key_id)
        if found is None or not hmac.compare_digest(found.secret_hash, _hash(secret)):
            return None
        return found.caller

    def caller(self, key_id: str) -> Caller | None:
        """Returns the owner of the key with this id, or None if there is no such key or it was revoked.

        Raises SQLAlchemy's DBAPIError if the database does not answer and the key is not cached.
        """
        found = self._look_up(key_id)
        return None if found is None else found.caller

    def any_exist(self) -> bool:
        """Returns True if at least one key was ever created. Then every caller needs a key.

        Revoked keys count, too. Otherwise revoking the last key would open the server to everyone.
        """
        now = time.monotonic()
        if not self._any_exist and now - self._any_read_at > self._cache_s:
            with reading(self._engine) as connection:
                self._any_exist = connection.execute(sa.select(api_keys.c.id).limit(1)).first() is not None
            self._any_read_at = now
        return self._any_exist

    def _look_up(self, key_id: str) -> _CachedKey | None:
        now = time.monotonic()
        with self._lock:
            cached = self._cache.get(key_id)
        if cached is not None and now - cached.read_at <= self._cache_s:
            return cached
        try:
            found = self._read(key_id, now)
        except sa.exc.DBAPIError:
            # Cached keys are accepted while the database restarts, because fal's clients stop polling at the first 500.
            if cached is not None:
                return cached
            raise
        with self._lock:
            self._cache.pop(key_id, None)
            if found is not None:
                self._cache[key_id] = found
        return found

    def _read(self, key_id: str, now: float) -> _CachedKey | None:
        valid = sa.select(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
        with reading(self._engine) as connection:
            row = connection.execute(valid).first()
        return None if row is None else _CachedKey(row.secret_hash, Caller(row.id, row.scope, row.max_in_flight), now)


def _hash(secret: str) -> str:
    """Returns the SHA-256 of a secret in hex.

    The hash has to be fast, because it is computed for every request, also when a client polls. A fast hash is safe
    here: the secret has 256 random bits, which cannot be guessed at any speed. Only secrets that people choose need a
    slow password hash.
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
