"""API keys: who may call, for what, and how much at a time."""

import hashlib
import hmac
import secrets
import threading
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from longtake.database.connection import reading
from longtake.database.tables import api_keys
from longtake.errors import InvalidRequest

Scope = Literal["run", "admin"]

CACHE_S = 5.0
"""So long a key that was looked up is believed; one that was revoked works no longer than this."""
UNREACHABLE_S = 60.0
"""So long it is believed while the database does not answer."""
MAX_CACHED = 4096
"""The most keys that are remembered."""


@dataclass(frozen=True)
class Caller:
    """Who calls. `run` may submit and see what it submitted, `admin` everything; `max_in_flight`: how many of its
    requests may wait or run at a time. `apps`: the applications it may run, where not all."""

    key_id: str
    scope: Scope
    max_in_flight: int | None
    apps: tuple[str, ...] = ()

    def may_run(self, endpoint: str) -> bool:
        """Whether this endpoint is one of its applications, named in full, or by owner and alias, or by alias."""
        parts = endpoint.split("/")
        return not self.apps or not {endpoint, "/".join(parts[:2]), *parts[1:2]}.isdisjoint(self.apps)


LOCAL = Caller("local", "admin", None)
"""Everybody, where there are no keys."""


@dataclass(frozen=True)
class Key:
    """A key as it is listed: all but its secret."""

    id: str
    alias: str
    scope: Scope
    max_in_flight: int | None
    created_at: float
    revoked_at: float | None


@dataclass(frozen=True)
class _Known:
    secret_hash: str
    caller: Caller
    at: float


class Keys:
    """The keys in a database. Safe to use from several threads."""

    def __init__(self, engine: sa.Engine, *, cache_s: float = CACHE_S) -> None:
        self._engine = engine
        self._cache_s = cache_s
        self._lock = threading.Lock()
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._any = False
        self._any_at = -float("inf")

    def create(self, alias: str, scope: Scope, max_in_flight: int | None = None) -> str:
        """A new key, `id:secret`. The secret is told here and never again: only its hash is stored."""
        if not 0 < len(alias) <= 200:
            raise InvalidRequest(f"A key's alias has 1 to 200 characters; {len(alias)} were given.", value=alias[:80])
        if max_in_flight is not None and max_in_flight < 1:
            raise InvalidRequest(f"A key's max_in_flight is at least 1; {max_in_flight} was given.")
        key_id, secret = str(uuid.uuid4()), secrets.token_hex(32)
        with self._engine.begin() as connection:
            connection.execute(
                sa.insert(api_keys).values(
                    id=key_id,
                    secret_hash=_hashed(secret),
                    alias=alias,
                    scope=scope,
                    max_in_flight=max_in_flight,
                    created_at=time.time(),
                )
            )
        self._any = True
        return f"{key_id}:{secret}"

    def list(self) -> list[Key]:
        """Every key, revoked ones too, the oldest first."""
        columns = [column for column in api_keys.c if column.name != "secret_hash"]
        with reading(self._engine) as connection:
            found = connection.execute(sa.select(*columns).order_by(api_keys.c.created_at, api_keys.c.id))
            return [Key(**row._mapping) for row in found]

    def revoke(self, key_id: str) -> bool:
        """Ends a key; False where there is none of this id that still works."""
        with self._engine.begin() as connection:
            ended = connection.execute(
                sa.update(api_keys)
                .where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
                .values(revoked_at=time.time())
            )
        with self._lock:
            self._known.pop(key_id, None)
        return ended.rowcount == 1

    def verify(self, key: str) -> Caller | None:
        """Whose key this `id:secret` is; None where it is nobody's."""
        key_id, colon, secret = key.strip().partition(":")
        if not colon or not secret or len(key) > 500:
            return None
        known = self._look_up(key_id)
        if known is None or not hmac.compare_digest(known.secret_hash, _hashed(secret)):
            return None
        return known.caller

    def caller(self, key_id: str) -> Caller | None:
        """Whose key has this id, for what stands for the key; None where it does not work (any more)."""
        known = self._look_up(key_id)
        return None if known is None else known.caller

    def any_exist(self) -> bool:
        """Whether keys are in use. A revoked one counts: revoking the last key locks the server, it opens nothing."""
        now = time.monotonic()
        if not self._any and now - self._any_at > self._cache_s:
            with reading(self._engine) as connection:
                self._any = connection.execute(sa.select(api_keys.c.id).limit(1)).first() is not None
            self._any_at = now
        return self._any

    def _look_up(self, key_id: str) -> _Known | None:
        now = time.monotonic()
        with self._lock:
            before = self._known.get(key_id)
        if before is not None and now - before.at <= self._cache_s:
            return before
        try:
            known = self._read(key_id, now)
        except sa.exc.DBAPIError:
            # A database that restarts must not end the polls of those who are known: clients give up at the first 500.
            if before is not None and now - before.at <= UNREACHABLE_S:
                return before
            raise
        with self._lock:
            self._known.pop(key_id, None)
            if known is not None:
                self._known[key_id] = known
                if len(self._known) > MAX_CACHED:
                    self._known.popitem(last=False)
        return known

    def _read(self, key_id: str, now: float) -> _Known | None:
        living = sa.select(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
        with reading(self._engine) as connection:
            row = connection.execute(living).first()
        return None if row is None else _Known(row.secret_hash, Caller(row.id, row.scope, row.max_in_flight), now)


def _hashed(secret: str) -> str:
    """SHA-256, in hex. Slow password hashes make guessing dear where people choose secrets; these are 256 random
    bits, which nobody guesses at any speed, and the hash is computed at every poll."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
