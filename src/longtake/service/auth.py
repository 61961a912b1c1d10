"""Who calls: the Authorization header, or the token of a client without one, against the keys."""

import time
from collections import OrderedDict

from starlette.requests import Request

from longtake.access.keys import LOCAL, Caller
from longtake.access.tokens import Tokens
from longtake.queue.requests import RequestRow
from longtake.service.errors import NotFound, RequestFailed
from longtake.service.parts import Parts

REMEMBER_S = 1.0
"""So long a header that was let in is let in again unasked: ten polls of one client."""
REMEMBERED = 1024
LONGEST = 600
"""Characters of a header that is remembered."""

MALFORMED = "Invalid Key Authorization header format. Expected '<key_id>:<key_secret>'."
UNKNOWN = "No user found for Key ID and Secret"
MISSING = "Authentication is required to access this application"


class Door:
    """Lets callers in. Used from one event loop; only `known` is asked without waiting for the database."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._tokens = Tokens(parts.engine)
        self._known: OrderedDict[str, tuple[Caller, float]] = OrderedDict()

    def known(self, authorization: str) -> Caller | None:
        """The caller with this header, where it was let in just now."""
        known = self._known.get(authorization)
        return known[0] if known is not None and time.monotonic() < known[1] else None

    async def admit(self, authorization: str) -> Caller:
        """The caller with this header. Raises RequestFailed with fal's 401."""
        caller = self.known(authorization)
        if caller is not None:
            return caller
        caller = await self._parts.ask(self._ask, authorization)
        if len(authorization) <= LONGEST:
            self._known[authorization] = (caller, time.monotonic() + REMEMBER_S)
            self._known.move_to_end(authorization)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return caller

    def _ask(self, authorization: str) -> Caller:
        keys = self._parts.keys
        if not keys.any_exist():
            return LOCAL
        scheme, _, key = authorization.strip().partition(" ")
        scheme, key = scheme.lower(), key.strip()
        if not authorization.strip():
            raise RequestFailed(401, MISSING)
        if scheme == "bearer" and ":" not in key:
            caller = self._tokens.caller(key, "run", keys)
        elif scheme in ("key", "bearer") and ":" in key and key.isprintable():
            caller = keys.verify(key)
        else:
            raise RequestFailed(401, MALFORMED)
        if caller is None:
            raise RequestFailed(401, UNKNOWN)
        return caller


async def caller_of(request: Request) -> Caller:
    """Who sends this request."""
    door: Door = request.scope["longtake.door"]
    return await door.admit(authorization_of(request))


def authorization_of(request: Request) -> str:
    """The Authorization header, or what stands for it: the token in the address that browsers' streams carry."""
    given = request.headers.get("authorization", "")
    token = request.query_params.get("fal_jwt_token")
    return given if given or not token else f"Bearer {token}"


def own(caller: Caller, row: RequestRow | None) -> RequestRow:
    """The row, where it is the caller's to see. Raises NotFound."""
    if row is None or (caller.scope != "admin" and row.key_id != caller.key_id):
        raise NotFound
    return row


def require_admin(caller: Caller) -> None:
    """Raises RequestFailed where the caller may not do what concerns everybody."""
    if caller.scope != "admin":
        raise RequestFailed(403, "This needs a key of the scope admin.", "forbidden")
