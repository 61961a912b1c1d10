"""Authentication: checks the Authorization header of a request, or the token in its URL, against the API keys."""

import asyncio
from urllib.parse import parse_qs

from cachetools import TTLCache
from starlette.requests import Request
from starlette.types import Scope

from longtake.access.keys import LOCAL, Caller
from longtake.access.tokens import ANONYMOUS, Tokens
from longtake.database.connection import is_temporary
from longtake.queue.requests import RequestRow
from longtake.service.budgets import MINUTE_S, Budget
from longtake.service.connections import peer_of
from longtake.service.fair_semaphore import FairSemaphore
from longtake.service.origins import refuse_other_pages
from longtake.service.responses import NotFound, RequestFailed, limit_reached
from longtake.service.state import ServerState

CACHE_S = 1.0
"""Seconds for which an accepted Authorization header is not checked again. A waiting client sends ten requests a
second."""
CACHE_SIZE = 1024
"""Maximum number of accepted Authorization headers that are cached."""
MAX_CACHED_LENGTH = 600
"""Maximum length in characters of a cached Authorization header. Longer headers are checked for each request."""
KNOWN_S = 3600.0
"""Seconds after its last acceptance for which an Authorization header counts as known. After a client has sent too many
invalid headers, only its known headers are still checked; all others are refused unchecked."""
MOST_REFUSED = 600
"""Maximum number of requests with an invalid Authorization header that one client may send per minute. Each of them may
need a query to the database. Requests without the header do not count."""
MOST_REFUSED_OF_PROXY = 6000
"""Maximum number of requests with an invalid Authorization header that all clients of one trusted proxy may send per
minute.

Without this limit, a program at a trusted address could name a new client in each request. By default this machine's
own address is trusted, so every program on it could do so.
"""
CHECKS = 3
"""Maximum number of Authorization headers that are checked at the same time, each in a thread. With many more threads,
the event loop would wait too long for Python's global lock."""

EVERYBODY = "everybody"
"""Stands in place of an API key's id for all callers without a key.

All of them together share the turns, and the number of open answers, of one key. So they use up those of no other key.
"""

MALFORMED = "Invalid Key Authorization header format. Expected '<key_id>:<key_secret>'."
UNKNOWN = "No user found for Key ID and Secret"
MISSING = "Authentication is required to access this application"


class Authenticator:
    """Finds the caller of a request by its Authorization header.

    An accepted header is cached for one second (CACHE_S), so that its key or token is not checked each time. Headers of
    more than 600 characters (MAX_CACHED_LENGTH) are not cached.

    If 600 headers (MOST_REFUSED) from one client's address are refused within a minute, its next headers are not
    checked, and it gets status 429. Headers that were accepted within the last hour (KNOWN_S), and not refused since
    then, are still checked. All clients of one trusted proxy together have a second limit of 6000 headers
    (MOST_REFUSED_OF_PROXY). A request without a header does not count, because it needs no query to the database.

    At most 3 headers (CHECKS) are checked at the same time; clients take turns. If several requests with the same
    header wait, the header is checked once for all of them.

    Its methods may be called only in the thread of the event loop.
    """

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._tokens = Tokens(state.engine)
        self._cache: TTLCache[str, Caller] = TTLCache(CACHE_SIZE, CACHE_S)
        self._known: TTLCache[str, bool] = TTLCache(CACHE_SIZE, KNOWN_S)
        self._refused = Budget(MOST_REFUSED, MINUTE_S)
        self._refused_of_proxies = Budget(MOST_REFUSED_OF_PROXY, MINUTE_S)
        self._checks: dict[str, asyncio.Future[Caller]] = {}  # the header -> its check
        self._semaphore = FairSemaphore(CHECKS)

    async def caller(self, authorization: str, scope: Scope) -> Caller:
        """Returns the caller whom this Authorization header identifies. `scope` is the ASGI scope of its request.

        On a server without keys every header, even an empty one, identifies the same caller (LOCAL), who has all
        rights. On a server with keys, raises RequestFailed with status 401 if the header is empty or malformed, or if
        its key or token is not valid, and with status 429 if the header is not empty and its client has sent too many
        invalid ones.
        """
        # A header that was accepted within the last second is not checked again, and the event loop does not switch.
        cached = self._cache.get(authorization)
        if cached is not None:
            return cached
        peer = peer_of(scope["client"][0]) if scope.get("client") else "unknown"
        proxy: str | None = scope.get("longtake.proxy")
        is_empty = not authorization.strip()
        if not is_empty and authorization not in self._known:
            self._check_refused(peer, proxy)
        try:
            caller = await self._check(authorization, peer)
        except RequestFailed:
            if not is_empty:
                self._refused.use(peer, 1)
                if proxy is not None:
                    self._refused_of_proxies.use(proxy, 1)
            self._known.pop(authorization, None)
            raise
        if len(authorization) <= MAX_CACHED_LENGTH:
            self._cache[authorization] = caller
            if caller.key_id != ANONYMOUS.key_id:  # An open proxy makes a new token for each request.
                self._known[authorization] = True
        return caller

    def _check_refused(self, peer: str, proxy: str | None) -> None:
        """Raises RequestFailed with status 429 if a client, or all clients of a proxy, have sent too many invalid keys.

        peer: the client's address.
        proxy: the address of the trusted proxy through which the client has sent its request; None without one.
        """
        of_peer = self._refused.seconds_left(peer)
        of_proxy = 0 if proxy is None else self._refused_of_proxies.seconds_left(proxy)
        if of_peer:
            raise limit_reached(
                f"Your address has sent {MOST_REFUSED} requests with an invalid key in a minute, as many as it may.",
                of_peer,
            )
        if of_proxy:
            raise limit_reached(
                f"All clients of your proxy have sent {MOST_REFUSED_OF_PROXY} requests with an invalid key in a "
                "minute, as many as they may.",
                of_proxy,
            )

    async def _check(self, authorization: str, peer: str) -> Caller:
        """Returns the caller whom a header identifies, or raises RequestFailed with status 401.

        If the same header is being checked for another request, waits for the result of that check.

        peer: the address of the request's client.
        """

        async def checked() -> Caller:
            async with self._semaphore.permit(peer):
                return await self._state.call_with_retries(self._authenticate, authorization)

        def end(check: "asyncio.Future[Caller]") -> None:
            del self._checks[authorization]
            _ = check.cancelled() or check.exception()  # asyncio logs an error that nobody looks at

        check = self._checks.get(authorization)
        if check is None:
            check = self._checks[authorization] = asyncio.ensure_future(checked())
            check.add_done_callback(end)
        return await asyncio.shield(check)

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
    """Returns the caller of a request. On a server without keys every request has the same caller, who has all rights.

    Raises RequestFailed with status 401 if the server has keys and the request has no valid key or token, and with
    status 429 if its client has sent too many invalid ones.
    """
    authenticator: Authenticator = request.scope["longtake.authenticator"]
    return await authenticator.caller(authorization_of(request), request.scope)


async def caller_if_valid(request: Request) -> Caller | None:
    """Returns the caller of a request, or None if the request has no valid key or token.

    Raises RequestFailed with status 429 if the client has sent too many invalid keys. Then this one, which may be
    valid, was not checked (see `Authenticator.caller`).
    """
    try:
        return await caller_of(request)
    except RequestFailed as error:
        if error.status == 429:
            raise
        return None


async def caller_with_key(request: Request) -> Caller:
    """Returns the caller of a request that needs a key; a token is not enough.

    On a server without keys everybody may make the request, and no error is raised. Otherwise raises RequestFailed:
    - with status 401 if the request has no valid key or token
    - with status 403 if the request has a token.
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
    return request.headers.get("authorization", "") or authorization_in(request.url.query)


def authorization_in(query: str) -> str:
    """Returns `Bearer <token>` for the token in the parameter `fal_jwt_token` of a query string, or an empty string."""
    tokens = parse_qs(query).get("fal_jwt_token") if "fal_jwt_token" in query else None
    return f"Bearer {tokens[0]}" if tokens else ""


async def caller_of_page(request: Request) -> Caller:
    """Returns the caller of a request for data that the server's own pages show.

    Raises RequestFailed: with status 401 or 403 if the request has no valid key, and with status 403 if a page of
    another origin sends it.
    """
    refuse_other_pages(request)
    return await caller_with_key(request)


async def admin_of_page(request: Request) -> Caller:
    """Returns the caller of a request for data that the server's own pages show only to an admin.

    Raises RequestFailed: with status 401 or 403 if the request has no valid key, and with status 403 if the caller is
    not an admin or a page of another origin sends the request.
    """
    caller = await caller_of_page(request)
    require_admin(caller)
    return caller


def visible_row(caller: Caller, row: RequestRow | None) -> RequestRow:
    """Returns `row`, the database row of a request, if the caller may see the request.

    - An admin may see every request.
    - A caller with a key may see all requests of this key, including those that were submitted with its tokens.
    - A caller with a token may see those requests of the token's key that are for the endpoints that the token names,
      even if another token or the key itself was used to submit them.

    Raises NotFound if `row` is None or the caller may not see the request.
    """
    if row is None or not (caller.is_admin or owns(caller, row)):
        raise NotFound
    return row


async def is_revoked(state: ServerState, key_id: str) -> bool:
    """Returns True if the API key with this id was revoked.

    Returns False for the ids that stand for callers without a key, and if the database gives no answer within the time
    limit of `call_with_retries`.
    """
    if key_id in (LOCAL.key_id, ANONYMOUS.key_id):
        return False
    try:
        return await state.call_with_retries(state.keys.caller, key_id) is None
    except Exception as error:
        if is_temporary(error):
            return False
        raise


def owns(caller: Caller, row: RequestRow) -> bool:
    """Returns True if a request belongs to the caller's key and its endpoint is one that the caller may run.

    row: the request's row in the database.

    A key may run all endpoints. A token may run only the endpoints that it names (see `Caller.may_run`).
    """
    return row.key_id == caller.key_id and caller.may_run(row.endpoint)


def require_admin(caller: Caller) -> None:
    """Raises RequestFailed with status 403 unless the caller's scope is `admin`."""
    if not caller.is_admin:
        raise RequestFailed(403, "This needs a key of the scope admin.", "forbidden")
