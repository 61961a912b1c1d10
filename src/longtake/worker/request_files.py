"""Finds the files that a running request names: in the file store, among its downloads, or on this machine."""

from collections.abc import Mapping

from longtake.access.files import find_own
from longtake.models.lora_downloads import public_folder
from longtake.models.lora_files import needs_download
from longtake.queue import fetches
from longtake.queue.addresses import is_file_url
from longtake.queue.requests import RemoteFile, RequestRow
from longtake.worker.context import SlotContext
from longtake.worker.messages import FileFound


def find_file(context: SlotContext, row: RequestRow, url: str) -> FileFound | None:
    """Returns the answer to a worker process's question which file a URL names.

    - If the file was downloaded for this request as a blob: the answer has the key of this blob.
    - If it is a stored file that the request's caller may read: the answer has the key of that file's blob.
    - Otherwise the answer's `blob` is None.

    Returns None instead of an answer if this request cannot run on this machine: the file is one of those that are
    downloaded before the request begins, but this machine does not have it (any more).

    `row`: the request's row.
    """
    downloads = fetches.of_request(context.engine, row.id)
    hub_name = downloads.hub_names.get(url)
    blob = _blob(context, downloads.blobs, url)
    if blob is not None:
        return FileFound(blob, is_fetched=True, hub_name=hub_name)
    if any(file.url == url and _is_missing(context, row, downloads, file) for file in downloads.files):
        return None
    stored = find_own(context.store, url, row.key_id)
    return FileFound(None if stored is None else stored.blob, is_own=is_file_url(url, row.base_url), hub_name=hub_name)


def missing_files(context: SlotContext, row: RequestRow) -> set[str]:
    """Returns the URLs of a request's files that must be downloaded (again) before this machine can carry out the
    request.
    """
    downloads = fetches.of_request(context.engine, row.id)
    return {file.url for file in downloads.files if _is_missing(context, row, downloads, file)}


def _is_missing(context: SlotContext, row: RequestRow, downloads: fetches.Downloads, file: RemoteFile) -> bool:
    if _blob(context, downloads.blobs, file.url) is not None or find_own(context.store, file.url, row.key_id):
        return False
    name = downloads.hub_names.get(file.url)
    if name is not None and (public_folder(context.settings) / name).is_file():
        return False
    return file.kind != "lora" or needs_download(file.url, context.settings, row.key_id)


def _blob(context: SlotContext, blobs: Mapping[str, str], url: str) -> str | None:
    """Returns the key of the blob with a downloaded file, or None if there is no such blob any more."""
    key = blobs.get(url)
    return key if key is not None and context.store.blobs.size(key) is not None else None
