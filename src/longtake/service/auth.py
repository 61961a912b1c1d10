"""Authentication: the Authorization header, or the token in a URL, is checked against the keys."""

from cachetools import TTLCache
from starlette.requests import Request

from longtake.access.keys import LOCAL, Caller
from longtake.access.tokens import Tokens
from longtake.queue.requests import RequestRow
from longtake.service.responses import NotFound, RequestFailed
from longtake.service.state import ServerState

CACHE_S = 1.0
"""Seconds for which an accepted header is not checked again; a client polls about ten times in that time."""
CACHE_SIZE = 1024
MAX_CACHED_LENGTH = 600
"""Length of the longest header that is cached, in characters."""

MALFORMED = "Invalid Key Authorization header format. Expected '<key_id>:<key_secret>'."
UNKNOWN = "No user found for Key ID and Secret"
MISSING = "Authentication is required to access this application"


class Authenticator:
    """Finds the caller of each request, and remembers accepted headers for a short time. Not thread-safe."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._tokens = Tokens(state.engine)
        self._cache: TTLCache[str, Caller] = TTLCache(CACHE_SIZE, CACHE_S)

    def cached_caller(self, authorization: str) -> Caller | None:
        """Returns the caller with this Authorization header if it was accepted within the last second."""
        return self._cache.get(authorization)

    async def caller(self, authorization: str) -> Caller:
        """Returns the caller with this Authorization header. Raises RequestFailed with fal's 401."""
        cached = self.cached_caller(authorization)
        if cached is not None:
            return cached
        caller = await self._state.call_with_retries(self._authenticate, authorization)
        if len(authorization) <= MAX_CACHED_LENGTH:
            self._cache[authorization] = caller
        return caller

    def _authenticate(self, authorization: str) -> Caller:
        keys = self._state.keys
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
    """Returns the caller of a request. Raises RequestFailed with 401."""
    authenticator: Authenticator = request.scope["longtake.authenticator"]
    return await authenticator.caller(authorization_of(request))


def authorization_of(request: Request) -> str:
    """Returns the Authorization header, or the header that stands for the token in the URL of a browser's stream."""
    header = request.headers.get("authorization", "")
    token = request.query_params.get("fal_jwt_token")
    return header if header or not token else f"Bearer {token}"


def visible_row(caller: Caller, row: RequestRow | None) -> RequestRow:
    """Returns the row if the caller may see it. Raises NotFound if not, or if the row is None."""
    if row is None or (caller.scope != "admin" and row.key_id != caller.key_id):
        raise NotFound
    return row


def require_admin(caller: Caller) -> None:
    """Raises RequestFailed with 403 unless the caller's key has the scope `admin`."""
    if caller.scope != "admin":
        raise RequestFailed(403, "This needs a key of the scope admin.", "forbidden")
