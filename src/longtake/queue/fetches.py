"""The downloads of files for waiting requests: functions that claim, finish and release them in the database.

A request that names files on other hosts gets a row in the table `fetches`, and cannot be claimed before they are
downloaded. Every change of state is one conditional UPDATE, as in `queue.engine`. In this module `server` is the id of
a server in the table `servers`.

waiting --claim--> running --finish--> done
   |^---- put back, or its server died --'  |
   '---- a machine lacked one of the files -'
each of them --the request ends--> ended --delete--> (no row)
"""

import secrets
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import sqlalchemy as sa

from longtake.database.connection import reading
from longtake.database.tables import fetches, requests, servers
from longtake.queue.requests import RemoteFile, RequestRow
from longtake.queue.rows import NEXT_VERSION
from longtake.storage.blobs import Blobs
from longtake.storage.files import FETCHED

ENDED_BATCH = 50
"""Largest number of ended downloads that `ended` returns."""


class Group(NamedTuple):
    """An API key and a pool (a named group of devices). It stands for the downloads of the key's requests to the pool.

    `key_id`: the id of the API key.
    `pool`: the name of the pool.
    """

    key_id: str
    pool: str


@dataclass(frozen=True)
class Downloads:
    """The files that are downloaded for a request before it can be claimed for a device.

    `files`: all these files, downloaded or not.
    `blobs`: URL -> the key of the blob with the bytes, for each file that is downloaded as a blob.
    `hub_names`: URL -> the file's path in the folder for LoRAs of the hub, for each LoRA that is downloaded from the
        hub (Hugging Face). The path is the same on each machine, but not each machine has the file.
    `attempt`: the number of attempts at the download so far, including a running one.
    """

    files: tuple[RemoteFile, ...] = ()
    blobs: Mapping[str, str] = field(default_factory=dict)
    hub_names: Mapping[str, str] = field(default_factory=dict)
    attempt: int = 0


@dataclass(frozen=True)
class Fetch:
    """The download of a request's files by a server.

    `group`: the request's API key and pool (a named group of devices).
    `server`: the id of the server.
    `downloads`: the files, and which of them were downloaded before this attempt.
    """

    request_id: str
    group: Group
    server: str
    downloads: Downloads


def new_blob_key(request_id: str, num_bytes: int) -> str:
    """Returns an unused key for the blob of a file of `num_bytes` bytes that was downloaded for a request."""
    return f"{FETCHED}/{request_id}.{secrets.token_hex(8)}.{num_bytes}"


def is_whole(blobs: Blobs, key: str) -> bool:
    """Returns True if the blob of a downloaded file is stored and has the size that its key states.

    Keys of earlier versions state no size. Their blobs count as whole if they are stored.
    """
    size, stated = blobs.size(key), key.split(".")[2:]
    return size is not None and stated in ([], [str(size)])


def add(connection: sa.Connection, row: RequestRow, files: Sequence[RemoteFile]) -> None:
    """Inserts the download of the files of the new request `row`, in the transaction that inserts the request."""
    connection.execute(
        sa.insert(fetches).values(
            request_id=row.id,
            key_id=row.key_id,
            pool=row.pool,
            priority=row.priority,
            seq=row.seq,
            state="waiting",
            files=_as_json(files),
            blobs={},
        )
    )


def waiting_groups(engine: sa.Engine, ahead: int, max_bytes: int) -> list[Group]:
    """Returns the groups (API key and pool, a named group of devices) that have a waiting download and may begin it.

    Two limits keep the server from downloading too far ahead. Both count only the prefetched requests: those that still
    wait in the queue, but whose files are downloaded already or are being downloaded.

    `ahead`: the number of prefetched requests of one group. A group that has so many may begin no further download.
    `max_bytes`: the total size of the files of one pool's prefetched requests. If it is reached, no group of the pool
        may begin a further download. If the prefetched requests of one group reach half of it, this group may begin
        none.
    """
    group = (fetches.c.key_id, fetches.c.pool)
    begun = (
        sa.select(*group, sa.func.count().label("requests"), sa.func.sum(fetches.c.num_bytes).label("bytes"))
        .join(requests, requests.c.id == fetches.c.request_id)
        .where(fetches.c.state.in_(("running", "done")), requests.c.state == "IN_QUEUE")
        .group_by(*group)
    )
    with reading(engine) as connection:
        found = connection.execute(sa.select(*group).distinct().where(fetches.c.state == "waiting")).all()
        ahead_of = connection.execute(begun).all() if found else ()
    full = {Group(row.key_id, row.pool) for row in ahead_of if row.requests >= ahead or 2 * row.bytes >= max_bytes}
    # Each pool counts alone: requests to a pool without servers may wait for long, and must not stop the other pools.
    bytes_of_pool = Counter[str]()
    for row in ahead_of:
        bytes_of_pool[row.pool] += int(row.bytes)
    waiting = (Group(*row) for row in found)
    return [group for group in waiting if group not in full and bytes_of_pool[group.pool] < max_bytes]


def claim(engine: sa.Engine, group: Group, server: str) -> Fetch | None:
    """Claims the next waiting download of a group (API key and pool, a named group of devices) for a server. Returns
    it, or None if none waits.

    The server must then carry out the download. The download's `attempt` has grown by 1.

    `server`: the id of the server.
    """
    next_id = (
        sa.select(fetches.c.request_id)
        .where(fetches.c.state == "waiting", fetches.c.key_id == group.key_id, fetches.c.pool == group.pool)
        .order_by(fetches.c.priority, fetches.c.seq)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    with engine.begin() as connection:
        row = connection.execute(
            sa.update(fetches)
            .where(fetches.c.request_id == next_id, fetches.c.state == "waiting")
            .values(state="running", server=server, attempt=fetches.c.attempt + 1)
            .returning(fetches)
        ).first()
    return None if row is None else _fetch_of(row)


def _fetch_of(row: Any) -> Fetch:
    """Converts a row of the table `fetches` to the running download that it describes."""
    return Fetch(row.request_id, Group(row.key_id, row.pool), row.server, _downloads_of(row))


def _downloads_of(row: Any) -> Downloads:
    files = tuple(RemoteFile(url, tuple(path), kind, *stored) for url, path, kind, *stored in row.files)
    return Downloads(files, row.blobs, row.hub_names or {}, row.attempt)


def _as_json(files: Sequence[RemoteFile]) -> list[list[Any]]:
    return [[file.url, list(file.field), file.kind, file.must_be_stored] for file in files]


def held_by(engine: sa.Engine, server: str) -> set[str]:
    """Returns the ids of the requests whose files a server is downloading. `server` is the id of the server."""
    with reading(engine) as connection:
        return set(connection.scalars(sa.select(fetches.c.request_id).where(_is_running(), fetches.c.server == server)))


def store(
    engine: sa.Engine, fetch: Fetch, blobs: Mapping[str, str], hub_names: Mapping[str, str], num_bytes: int
) -> bool:
    """Records where the downloaded files of a request are. Returns True if it did.

    `blobs`: URL -> the key of the blob (a file in the server's storage) with the bytes, for each file that is
        downloaded so far, except LoRAs of the hub.
    `hub_names`: URL -> the file's path in this machine's folder for LoRAs of the Hugging Face hub, for each LoRA
        downloaded so far from there.
    `num_bytes`: the size of all these blobs together.

    Returns False, and stores nothing, if the server `fetch.server` no longer downloads the request's files.
    """
    values = {"blobs": dict(blobs), "hub_names": dict(hub_names), "num_bytes": num_bytes}
    return _update(engine, _is_held(fetch.request_id, fetch.server), values)


def finish(engine: sa.Engine, fetch: Fetch) -> bool:
    """Marks a download as done, so that its request can be claimed. Must be called when all files are downloaded.

    Returns False, and changes nothing, if the server `fetch.server` no longer downloads the request's files.
    """
    with engine.begin() as connection:
        ready = sa.update(requests).where(request_of(fetch)).values(ready=True, **NEXT_VERSION)
        if connection.execute(ready).rowcount != 1:
            return False
        done = sa.update(fetches).where(fetches.c.request_id == fetch.request_id).values(state="done", server=None)
        connection.execute(done)
    return True


def put_back(engine: sa.Engine, request_id: str, server: str, *, attempt_failed: bool) -> bool:
    """Makes a running download wait again, so that any server can continue it. Files that it has already are kept.

    `server`: the id of the server that carries out the download.
    `attempt_failed`: if True, the attempt counts towards the maximum number of attempts; if False, it does not.

    This function does not check that maximum. If no further attempt is allowed, the caller must end the request
    instead.

    Returns False, and changes nothing, if this server does not download the request's files.
    """
    attempt = fetches.c.attempt if attempt_failed else fetches.c.attempt - 1
    values = {"state": "waiting", "server": None, "attempt": attempt}
    return _update(engine, _is_held(request_id, server), values)


def orphans(engine: sa.Engine) -> list[Fetch]:
    """Returns the running downloads of dead servers, which are no longer in the table `servers`."""
    is_orphaned = sa.and_(_is_running(), fetches.c.server.not_in(sa.select(servers.c.id)))
    with reading(engine) as connection:
        return [_fetch_of(row) for row in connection.execute(sa.select(fetches).where(is_orphaned))]


def of_request(engine: sa.Engine, request_id: str) -> Downloads:
    """Returns the files of a request and their downloads. The result is empty if there are none."""
    with reading(engine) as connection:
        row = connection.execute(sa.select(fetches).where(fetches.c.request_id == request_id)).first()
    return Downloads() if row is None else _downloads_of(row)


def begin_again(connection: sa.Connection, request_id: str, missing: Collection[str]) -> None:
    """Sets a request's finished download back to waiting, so that a server downloads the missing files again: the
    machine that claimed the request lacked them.

    `connection`: has the transaction that puts the request back into the queue.
    `missing`: the URLs of the files that were lacking. They will be stored as blobs, so that every machine has them.
    """
    this = fetches.c.request_id == request_id
    found = _downloads_of(connection.execute(sa.select(fetches).where(this)).one())
    files = [replace(file, must_be_stored=file.must_be_stored or file.url in missing) for file in found.files]
    blobs = {url: key for url, key in found.blobs.items() if url not in missing}
    connection.execute(sa.update(fetches).where(this).values(state="waiting", files=_as_json(files), blobs=blobs))


def end(connection: sa.Connection, request_id: str) -> None:
    """Marks a request's download as ended, so that the downloaded files are deleted later.

    Does nothing if the request has no download.

    `connection`: a connection whose present transaction ends the request.
    """
    connection.execute(sa.update(fetches).where(fetches.c.request_id == request_id).values(state="ended", server=None))


def ended(engine: sa.Engine) -> dict[str, list[str]]:
    """Returns the downloads of requests that have ended: request id -> the keys of the blobs with its downloaded files.

    Returns at most 50 (ENDED_BATCH). The caller deletes the blobs, and then the rows with `delete`.
    """
    with reading(engine) as connection:
        found = connection.execute(
            sa.select(fetches.c.request_id, fetches.c.blobs).where(fetches.c.state == "ended").limit(ENDED_BATCH)
        )
        return {row.request_id: list(row.blobs.values()) for row in found}


def delete(engine: sa.Engine, request_ids: Sequence[str]) -> None:
    """Deletes the rows of these requests' downloads."""
    with engine.begin() as connection:
        connection.execute(sa.delete(fetches).where(fetches.c.request_id.in_(request_ids)))


def is_open(engine: sa.Engine, request_id: str) -> bool:
    """Returns True if files of the request with this id are still to be downloaded."""
    query = sa.select(fetches.c.state).where(fetches.c.request_id == request_id)
    with reading(engine) as connection:
        return connection.scalar(query) in ("waiting", "running")


def request_of(fetch: Fetch) -> sa.ColumnElement[bool]:
    """Returns an SQL condition on the table `requests`, which selects the request of `fetch`.

    It selects nothing if the request does not wait, or if the server `fetch.server` does not download its files.
    """
    is_held = sa.exists().where(_is_held(fetch.request_id, fetch.server))
    return sa.and_(requests.c.id == fetch.request_id, requests.c.state == "IN_QUEUE", is_held)


def _is_running() -> sa.ColumnElement[bool]:
    return fetches.c.state == "running"


def _is_held(request_id: str, server: str) -> sa.ColumnElement[bool]:
    """Returns an SQL condition on the table `fetches`, which selects the download of a request.

    It selects nothing if the download is not being carried out by the server with the id `server`.
    """
    return sa.and_(fetches.c.request_id == request_id, _is_running(), fetches.c.server == server)


def _update(engine: sa.Engine, condition: sa.ColumnElement[bool], values: dict[str, Any]) -> bool:
    with engine.begin() as connection:
        return connection.execute(sa.update(fetches).where(condition).values(**values)).rowcount == 1
