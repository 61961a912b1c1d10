"""Finds out which request made the video that a new request extends."""

from longtake.access.files import find_own
from longtake.access.keys import Caller
from longtake.queue.engine import get_without_payloads
from longtake.queue.requests import NO_LINEAGE, Lineage
from longtake.storage.files import FileStore


def find_lineage(store: FileStore, url: str, caller: Caller) -> Lineage:
    """Returns what a request extends whose source is at `url`.

    `store`: the stored files, and the engine of the database.
    `caller`: the sender of the request. A file that they may not read counts as none. A request that is not theirs is
        no parent, unless they may see all requests (scope `admin`).
    """
    found = find_own(store, url, caller.key_id)
    if found is None:
        return NO_LINEAGE
    key, file = found
    parent = None if file.request_id is None else get_without_payloads(store.engine, file.request_id)
    if parent is None or not (parent.key_id == caller.key_id or caller.scope == "admin"):
        return Lineage(key)
    return Lineage(key, parent.id, parent.root or parent.id)
