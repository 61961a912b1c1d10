"""Authentication: checks the Authorization header of a request, or the token in its URL, against the API keys."""

from cachetools import TTLCache
from starlette.requests import Request

from longtake.access.keys import LOCAL, Caller
from longtake.access.tokens import Tokens
from longtake.queue.requests import RequestRow
from longtake.service.responses import NotFound, RequestFailed
from longtake.service.state import ServerState

CACHE_S = 1.0
"""Seconds for which an accepted header is not checked again. A waiting client sends about ten requests in that time."""
CACHE_SIZE = 1024
"""Maximum number of cached headers."""
MAX_CACHED_LENGTH = 600
"""Maximum length of a cached header in characters. Longer headers are checked each time."""

MALFORMED = "Invalid Key Authorization header format. Expected '<key_id>:<key_secret>'."
UNKNOWN = "No user found for Key ID and Secret"
MISSING = "Authentication is required to access this application"


class Authenticator:
    """Finds the caller of a request by its Authorization header. Accepted headers are cached for CACHE_S seconds.

    Its methods may be called only in the thread of the event loop.
    """

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._tokens = Tokens(state.engine)
        self._cache: TTLCache[str, Caller] = TTLCache(CACHE_SIZE, CACHE_S)

    def cached_caller(self, authorization: str) -> Caller | None:
        """Returns the caller whom this Authorization header identifies, from the cache: the key is not checked again.

        Returns None if the header was not accepted within the last CACHE_S seconds.
        """
        return self._cache.get(authorization)

    async def caller(self, authorization: str) -> Caller:
        """Returns the caller whom this Authorization header identifies.

        On a server without keys every header, even an empty one, identifies the caller LOCAL. On a server with keys
        RequestFailed with status 401 is raised if the header is empty, malformed, or has an unknown key or token.
        """
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
    """Returns the caller of a request. Raises RequestFailed with status 401 if no valid key or token identifies one."""
    authenticator: Authenticator = request.scope["longtake.authenticator"]
    return await authenticator.caller(authorization_of(request))


async def caller_with_key(request: Request) -> Caller:
    """Returns the caller of a request, who has a key. On a server without keys every caller counts as having one.

    Raises RequestFailed with status 401 if no valid key or token identifies a caller, and with status 403 for a token.
    """
    caller = await caller_of(request)
    if caller.scope == "token":
        raise RequestFailed(403, "This needs a key. A token only runs applications and follows requests.", "forbidden")
    return caller


def authorization_of(request: Request) -> str:
    """Returns the Authorization header of a request.

    A request without this header may have a token in its query parameter `fal_jwt_token`, as streams of fal's
    JavaScript client do. Then `Bearer <token>` is returned. Without header and token an empty string is returned.
    """
    header = request.headers.get("authorization", "")
    token = request.query_params.get("fal_jwt_token")
    return header if header or not token else f"Bearer {token}"


def visible_row(caller: Caller, row: RequestRow | None) -> RequestRow:
    """Returns `row`, the database row of a request, if the caller may see the request.

    An admin may see every request. Another caller may see the requests of its own key, and with a token only those to
    the token's applications, no matter which token or key submitted them.

    Raises NotFound if `row` is None or the caller may not see the request.
    """
    if row is None or not (caller.scope == "admin" or owns(caller, row)):
        raise NotFound
    return row


def owns(caller: Caller, row: RequestRow) -> bool:
    """Returns True if a request belongs to the caller's key and, if the caller has a token, to one of its apps."""
    return row.key_id == caller.key_id and caller.may_run(row.endpoint)


def require_admin(caller: Caller) -> None:
    """Raises RequestFailed with status 403 unless the caller's scope is `admin`."""
    if caller.scope != "admin":
        raise RequestFailed(403, "This needs a key of the scope admin.", "forbidden")
