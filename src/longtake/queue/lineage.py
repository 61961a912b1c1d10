"""Finds out which request made the video that a new request extends."""

from longtake.access.files import find_own
from longtake.access.keys import Caller
from longtake.errors import FileLost
from longtake.queue.engine import get_without_payloads
from longtake.queue.requests import NO_LINEAGE, Lineage
from longtake.storage.files import FileStore


def find_lineage(store: FileStore, url: str, caller: Caller) -> Lineage:
    """Returns the stored file that a new request extends, and the request that made this file.

    Returns NO_LINEAGE if the source is not a stored file of this server, or the caller may not read it.

    `store`: the stored files, and the engine of the database.
    `url`: the URL of the new request's source video.
    `caller`: the sender of the new request. The result names the request that made the file only if that request has
        the same API key, or the caller's scope is `admin`.
    """
    try:
        found = find_own(store, url, caller.key_id)
    except FileLost:  # the request ends with this error when its files are fetched
        found = None
    if found is None:
        return NO_LINEAGE
    key, file = found
    parent = None if file.request_id is None else get_without_payloads(store.engine, file.request_id)
    if parent is None or not (parent.key_id == caller.key_id or caller.is_admin):
        return Lineage(key)
    return Lineage(key, parent.id, parent.root or parent.id)
