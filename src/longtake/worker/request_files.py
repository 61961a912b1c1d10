"""Finds the files that a running request names: in the file store, among its downloads, or on this machine."""

from longtake.access.files import find_own
from longtake.errors import FileLost
from longtake.models.lora_downloads import public_folder
from longtake.models.lora_files import needs_download
from longtake.queue import fetches
from longtake.queue.addresses import is_file_url
from longtake.queue.requests import RemoteFile, RequestRow
from longtake.worker.context import SlotContext
from longtake.worker.messages import FileFound


def find_file(context: SlotContext, row: RequestRow, url: str) -> FileFound | None:
    """Returns the server's answer if a worker process asks for the file that a URL in its request names.

    - If the file was downloaded for this request as a blob: the answer has the key of this blob.
    - If it is a stored file that the request's caller may read: the answer has the key of that file's blob.
    - Otherwise the answer's `blob` is None.

    Returns None instead of an answer if the file should have been downloaded before the request began, but this machine
    does not have it. The request then cannot run on this machine.

    `context`: has the database and the file store.
    `row`: the request's row.
    """
    downloads = fetches.of_request(context.engine, row.id)
    found = _found(context, row, downloads, url)
    named = (file for file in downloads.files if file.url == url)
    return None if any(_is_missing(context, row, file, found) for file in named) else found


def missing_files(context: SlotContext, row: RequestRow) -> set[str]:
    """Returns the URLs of a request's files that must be downloaded (again) before this machine can carry out the
    request.
    """
    downloads = fetches.of_request(context.engine, row.id)
    return {
        file.url
        for file in downloads.files
        if _is_missing(context, row, file, _found(context, row, downloads, file.url))
    }


def _found(context: SlotContext, row: RequestRow, downloads: fetches.Downloads, url: str) -> FileFound:
    """Returns where the server has the file that a URL names. Its `blob` is None if the server lacks the file or a part
    of it.

    `row`, `downloads`: the request that names the URL, and what was downloaded for it.
    """
    hub_name, fetched = downloads.hub_names.get(url), downloads.blobs.get(url)
    if fetched is not None and fetches.is_whole(context.store.blobs, fetched):
        return FileFound(fetched, is_fetched=True, hub_name=hub_name)
    try:
        own = find_own(context.store, url, row.key_id)
    except FileLost:  # the next attempt to fetch the request's files ends the request with this error
        own = None
    return FileFound(None if own is None else own[1].blob, is_own=is_file_url(url, row.base_url), hub_name=hub_name)


def _is_missing(context: SlotContext, row: RequestRow, file: RemoteFile, found: FileFound) -> bool:
    """Returns True if this machine lacks a file of a request. `found` says where the server has the file."""
    is_on_hub = found.hub_name is not None and (public_folder(context.settings) / found.hub_name).is_file()
    if found.blob is not None or is_on_hub:
        return False
    return file.kind != "lora" or needs_download(file.url, context.settings, row.key_id)
