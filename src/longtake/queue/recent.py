"""Lists requests for the server's pages: the newest ones, with filters, and trees of requests that extend others'
results.

A list never reads more than a bounded number of rows, however many requests are stored and however few match.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import sqlalchemy as sa

from longtake import clock
from longtake.access.files import may_everybody_read
from longtake.database.connection import reading
from longtake.database.tables import files, requests
from longtake.queue.requests import State, search_text

ShownState = Literal["waiting", "running", "done", "failed", "cancelled"]
"""The state of a request, in the words that the server's pages show."""
SHOWN_STATES: tuple[ShownState, ...] = get_args(ShownState)

SCANNED = 10_000
"""Maximum number of requests that one call of `recent` searches. The next call continues with the requests before
them."""

_OPEN: Mapping[str, State] = {"waiting": "IN_QUEUE", "running": "IN_PROGRESS"}
"""State as the server's pages show it -> state in the database, for requests that have not ended."""

_STATUS = sa.func.coalesce(requests.c.status_code, 0)
# These are written so that SQLite does not use an index of states, which would make it read all ended requests.
_ENDED: Mapping[str, sa.ColumnElement[bool]] = {
    "done": _STATUS.between(200, 299),
    "failed": sa.and_(_STATUS >= 300, requests.c.state != "CANCELLED"),
    "cancelled": requests.c.state.not_in(("COMPLETED", *_OPEN.values())),
}
"""State as the server's pages show it -> SQL condition that selects such requests, for requests that have ended."""


def shown_state(state: str, status_code: int | None) -> ShownState:
    """Returns the state that the server's pages show of a request: "waiting", "running", "done", "failed" or
    "cancelled".

    `state`: the request's state in the database.
    `status_code`: the HTTP status of its result; None if it has none.
    """
    match state:
        case "IN_QUEUE":
            return "waiting"
        case "IN_PROGRESS":
            return "running"
        case "CANCELLED":
            return "cancelled"
    return "done" if status_code is not None and status_code < 300 else "failed"


@dataclass(frozen=True)
class RecentFilter:
    """Selects requests. A field that is None selects all.

    `key_id`: the API key that submitted the request.
    `endpoint`: the id of the endpoint.
    `state`: the state as the server's pages show it.
    `text`: a part of the prompt (capital and small letters count as equal), or the whole id of the request.
    `is_erased`: True for requests whose input and result were deleted, False for all others.
    """

    key_id: str | None = None
    endpoint: str | None = None
    state: ShownState | None = None
    text: str | None = None
    is_erased: bool | None = None

    def indexed(self) -> list[sa.ColumnElement[bool]]:
        """Returns the SQL conditions for those fields of the filter that have an index.

        With the index, the database reads only the rows that meet these conditions.
        """
        clauses = own(requests, self.key_id)
        if self.state is not None and self.state in _OPEN:
            clauses.append(requests.c.state == _OPEN[self.state])
        return clauses

    def others(self) -> list[sa.ColumnElement[bool]]:
        """Returns the SQL conditions for those fields of the filter that have no index.

        To test these conditions, the database must read each row that meets those of `indexed`.
        """
        clauses: list[sa.ColumnElement[bool]] = []
        if self.endpoint is not None:
            clauses.append(requests.c.endpoint == self.endpoint)
        if self.state is not None and self.state in _ENDED:
            clauses.append(_ENDED[self.state])
        if self.text is not None:
            prompt = requests.c.search_text.contains(search_text(self.text), autoescape=True)
            clauses.append(sa.or_(prompt, requests.c.id == self.text))
        if self.is_erased is not None:
            erased_at = requests.c.erased_at
            clauses.append(erased_at.is_not(None) if self.is_erased else erased_at.is_(None))
        return clauses


@dataclass(frozen=True)
class RecentPage:
    """One page of a list of requests, newest first.

    `rows`: the requests' database rows, with the columns that `facts` selects.
    `older`: the value of the argument `before` with which the same function returns the next page, which has older
        requests; None if there are none.
    """

    rows: Sequence[Any]
    older: int | None


def recent(
    engine: sa.Engine,
    columns: Sequence[sa.Column[Any]],
    selected: RecentFilter,
    *,
    limit: int,
    before: int | None = None,
    scanned: int = SCANNED,
) -> RecentPage:
    """Returns the newest requests that `selected` selects, at most `limit` of them.

    Some conditions have no index: endpoint, text, `is_erased`, and the states "done", "failed" and "cancelled". If the
    filter has one of them, only the newest `scanned` of the requests that meet its other conditions are searched. The
    page may then have fewer than `limit` rows although older requests match. Its `older` says where the next call has
    to continue.

    `columns`: columns of the table `requests`, among them `seq`.
    `before`: the `seq` of a request; only older ones are returned. None returns the newest.
    """
    clauses, others = selected.indexed(), selected.others()
    if before is not None:
        clauses.append(requests.c.seq < before)
    newest_first = requests.c.seq.desc()
    with reading(engine) as connection:
        last: int | None = None
        if others:
            in_order = sa.select(requests.c.seq).where(*clauses).order_by(newest_first)
            last = connection.scalar(in_order.offset(scanned - 1).limit(1))
            clauses += others if last is None else [requests.c.seq >= last, *others]
        query = facts(columns, selected.key_id).where(*clauses).order_by(newest_first).limit(limit + 1)
        rows = connection.execute(query).all()
    return RecentPage(rows[:limit], rows[limit - 1].seq if len(rows) > limit else last)


def tree(
    engine: sa.Engine,
    columns: Sequence[sa.Column[Any]],
    request_id: str,
    key_id: str | None,
    *,
    limit: int,
    before: int | None = None,
    children_only: bool = False,
) -> RecentPage:
    """Returns the newest requests of a tree, at most `limit` of them.

    The children of a request are the requests that extend its result. A tree is a request that extends no other one's
    result, with its children, their children, and so on.

    `columns`: columns of the table `requests`.
    `request_id`: any request of the tree. If there is no such request, the result is empty.
    `key_id`: the id of the API key whose requests are returned; None for those of all keys.
    `before`: the `seq` of a request; only older ones are returned. None returns the newest.
    `children_only`: True returns only the children of the request `request_id`.
    """
    wanted = own(requests, key_id)
    if before is not None:
        wanted.append(requests.c.seq < before)
    if children_only:
        wanted.append(requests.c.parent == request_id)
    with reading(engine) as connection:
        root: str = connection.scalar(sa.select(requests.c.root).where(requests.c.id == request_id)) or request_id
        # The members are a query of their own, because SQLite would look for them among all requests of the key.
        of_root = (sa.select(requests.c.seq).where(column == root) for column in (requests.c.root, requests.c.id))
        query = facts(columns, key_id).where(requests.c.seq.in_(sa.union(*of_root)), *wanted)
        rows = connection.execute(query.order_by(requests.c.seq.desc()).limit(limit + 1)).all()
    return RecentPage(rows[:limit], rows[limit - 1].seq if len(rows) > limit else None)


def one(engine: sa.Engine, columns: Sequence[sa.Column[Any]], request_id: str, key_id: str | None) -> Any | None:
    """Returns the row of one request, or None if there is no such request.

    `columns`: the columns of the table `requests` that the row has. It also has `shown_parent`, `shown_source` and
        `is_root` (see `facts`).
    `key_id`: the id of the API key whose request it must be; None for any.
    """
    query = facts(columns, key_id).where(requests.c.id == request_id, *own(requests, key_id))
    with reading(engine) as connection:
        return connection.execute(query).first()


def facts(columns: Sequence[sa.Column[Any]], key_id: str | None) -> sa.Select[Any]:
    """Returns a query for these columns of the table `requests`, and for three more:

    - `shown_parent`: the id of the request whose result this request extends. None if there is none, its row was
      deleted, or it belongs to another API key than `key_id`. A `key_id` of None allows all keys.
    - `shown_source`: the key of the stored file with the request's source video; None if that file is not stored.
    - `is_root`: True if this request is the first one of a tree: it extends no other request's result, and at least one
      request of the API key `key_id` extends its result, or a result of those. A `key_id` of None allows all keys.
    """
    parents, others = requests.alias(), requests.alias()
    is_root = sa.exists().where(others.c.root == requests.c.id, *own(others, key_id))
    is_parent = sa.and_(parents.c.id == requests.c.parent, *own(parents, key_id))
    is_source = sa.and_(files.c.key == requests.c.source, _is_stored())
    more = parents.c.id.label("shown_parent"), files.c.key.label("shown_source"), is_root.label("is_root")
    return sa.select(*columns, *more).select_from(requests.outerjoin(parents, is_parent).outerjoin(files, is_source))


def stored_files(engine: sa.Engine, keys: Sequence[str]) -> Mapping[str, bool]:
    """Returns, for each of these file keys whose file is still stored: key -> True if everybody may read the file."""
    query = sa.select(files.c.key, files.c.access).where(files.c.key.in_(keys), _is_stored())
    with reading(engine) as connection:
        return {row.key: may_everybody_read(row.access) for row in connection.execute(query)}


def _is_stored() -> sa.ColumnElement[bool]:
    """Returns an SQL condition on the table `files`: the file has not expired."""
    return sa.or_(files.c.expires_at.is_(None), files.c.expires_at > clock.now())


def own(table: sa.FromClause, key_id: str | None) -> list[sa.ColumnElement[bool]]:
    """Returns the SQL conditions that select the requests of one API key: a list of one, or empty if `key_id` is None.

    `table`: the table `requests` or an alias of it.
    """
    return [] if key_id is None else [table.c.key_id == key_id]


def count_open(engine: sa.Engine, key_id: str | None) -> Mapping[str, int]:
    """Returns {"waiting": number, "running": number} of an API key's requests, or of all keys' if `key_id` is None."""
    query = (
        sa.select(requests.c.state, sa.func.count().label("number"))
        .where(*own(requests, key_id), requests.c.state.in_(_OPEN.values()))
        .group_by(requests.c.state)
    )
    with reading(engine) as connection:
        counts: dict[str, int] = {row.state: row.number for row in connection.execute(query)}
    return {shown: counts.get(state, 0) for shown, state in _OPEN.items()}
