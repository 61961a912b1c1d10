"""A request's input and the files that it names, as its worker process gets them from the server."""

import os
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from longtake.errors import DownloadFailed
from longtake.models.lora_downloads import delete_oldest, mark_used, public_folder, unfinished_folder
from longtake.models.lora_names import Lora, hub_url
from longtake.outbound import is_http
from longtake.settings import Settings
from longtake.storage import open_blobs
from longtake.storage.blobs import Blobs
from longtake.worker.channel import RequestChannel
from longtake.worker.messages import FileFound, Run


def read_input(run: Run, blobs: Blobs) -> Any:
    """Returns the input of a request. It is in the server's message, or in one of `blobs` if it is large.

    Raises FileLost if that blob is missing or damaged.
    """
    if run.body_blob is None:
        return from_json(run.body)
    from longtake.queue import payloads  # imports SQLAlchemy, which a worker process needs for nothing else

    return from_json(payloads.read(blobs, run.body_blob))


def open_stored_file(
    url: str, channel: RequestChannel, settings: Settings, *, fetched: bool = True
) -> AbstractContextManager[Path] | None:
    """Opens a file that the server has. Returns a context manager that yields the path of a local file with its bytes.

    The server has the files of its own store, and those that it has downloaded for this request. For any other URL the
    result is None, and the caller must download the file.

    `url`: the file's URL in the request.
    `channel`: the request's connection to the server, which is asked for the file.
    `settings`: say where the server stores files.
    `fetched`: if False, the result is also None for a file that the server has downloaded for this request.

    Raises DownloadFailed if the URL is one of this server's own files, but the file is no longer stored, or the
    request's caller may not read it.
    """
    found = find_file(url, channel)
    if found.is_fetched and not fetched:
        return None
    if found.blob is not None:
        return open_blobs(settings).local(found.blob)
    if found.is_own:
        raise DownloadFailed("This server has no such file any more, or not for this key; upload it again.")
    return None


def find_file(url: str, channel: RequestChannel) -> FileFound:
    """Returns which of the server's files a URL names. Asks the server through `channel` if it is an http(s) URL.

    The result's `blob` is None if the server does not have the file, if the request's caller may not read it, and for
    all other URLs, such as data URIs.
    """
    url = url.strip()
    return channel.find_file(url) if is_http(url) else FileFound(None)


def hub_file(lora: Lora, channel: RequestChannel, settings: Settings) -> Path | None:
    """Returns the file of a LoRA of the hub (Hugging Face) that a server has downloaded for the request.

    If another machine has downloaded the file, copies it to this machine first. Returns None if no server has
    downloaded it. Raises DownloadFailed if the file has just been deleted.
    """
    found = channel.find_file(hub_url(lora))
    if found.hub_name is None:
        return None
    target = public_folder(settings) / found.hub_name
    is_missing = not target.exists()
    if is_missing and found.blob is not None:
        with unfinished_folder(settings) as folder, open_blobs(settings).local(found.blob) as path:
            target.parent.mkdir(parents=True, exist_ok=True)
            linked(path, folder / "fetched").replace(target)
    if not mark_used(target):
        raise DownloadFailed(f"The LoRA {lora.path} was deleted meanwhile; send the request again.")
    if is_missing:
        delete_oldest(settings)
    return target


def linked(path: Path, target: Path) -> Path:
    """Makes `target` a hard link to the file at `path`. Copies the file where hard links are not possible.

    Either of the two can then be deleted without the other. Returns `target`.
    """
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)
    return target
