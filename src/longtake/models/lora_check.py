"""Checks that the LoRA that a request names is there, without downloading it."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

import httpx

from longtake.errors import BadCheckpoint, InvalidRequest
from longtake.media.data_uri import check_bytes
from longtake.media.fetch import fetch_file, pace_of
from longtake.models import lora_hub
from longtake.models.lora_downloads import public_folder
from longtake.models.lora_files import LoraSources, open_lora
from longtake.models.lora_header import read_lora_header
from longtake.models.lora_names import Lora, scheme_of
from longtake.settings import Settings
from longtake.video import Check

ASKED_S = 20.0
"""Most seconds that the hosts have to answer whether they have a LoRA."""


@dataclass(frozen=True)
class Transports:
    """The transports of a check's HTTP requests.

    urls: sends those to the hosts of URLs (see `fetch.fetch_file`).
    hub: sends those to the hub (see `lora_hub.download`).
    """

    urls: httpx.BaseTransport | None
    hub: httpx.BaseTransport | None


def check_lora(lora: Lora, settings: Settings, caller: str, transports: Transports, check: Check) -> None:
    """Raises the error with which a request would fail that names this LoRA, as far as it is known without a download.

    The header of a file that is on this machine is read. The host of any other file is asked for it, and only the
    headers of the answer are read.

    caller: the id of the API key whose request names the LoRA.
    check: called again and again. It may raise an exception to end the work.

    Raises the same errors as `open_lora` and `read_lora_header`.
    """
    hurried = settings.model_copy(update={"fetch_s": min(settings.fetch_s, ASKED_S)})
    sources = LoraSources(
        fetch=partial(_ask_host, settings=hurried, transport=transports.urls, check=check),
        hub_file=partial(_ask_hub, settings=hurried, transport=transports.hub, check=check),
        caller=caller,
    )
    _read_header(lora, settings, sources)


def check_local_lora(lora: Lora, settings: Settings) -> None:
    """Raises the error with which a request of this machine's own user would fail that names this LoRA, as far as it is
    known without a network.

    Only a LoRA on this machine is looked at: its header is read. A path that is neither a file, nor a URL, a data URI
    or the name of a hub repository is an error. Raises the same errors as `open_lora`, and InvalidRequest for a file
    that is no LoRA.
    """
    if scheme_of(lora.path):
        return
    try:
        _read_header(lora, settings, LoraSources(hub_file=_on_hub, any_path=True))
    except BadCheckpoint as error:
        raise InvalidRequest(error.message) from error


def _read_header(lora: Lora, settings: Settings, sources: LoraSources) -> None:
    """Reads a LoRA's header. Does nothing if `sources` raises `_IsThere` because the file is elsewhere."""
    try:
        with open_lora(lora, settings, sources) as file:
            if file.header is None:
                read_lora_header(file.path, file.name)
    except _IsThere:
        return


def _on_hub(lora: Lora) -> NoReturn:
    """Raises `_IsThere` for every LoRA: the hub is not asked."""
    raise _IsThere


class _IsThere(Exception):
    """Raised to end a check before a download: the file is, or may be, elsewhere."""


def _ask_host(
    url: str,
    folder: Path,
    max_bytes: int,
    *,
    settings: Settings,
    transport: httpx.BaseTransport | None,
    check: Check,
) -> Path:
    """Asks the host of a URL for the file, and raises `_IsThere` if the answer is the file. A data URI is decoded to
    a new file in `folder`, whose path is returned. Raises the same errors as `fetch_file`."""

    def end(answer: httpx.Response) -> None:
        if answer.is_success:
            if (declared := answer.headers.get("content-length", "")).isdigit():
                check_bytes(int(declared), max_bytes)
            raise _IsThere

    return fetch_file(
        url,
        folder,
        max_bytes=max_bytes,
        pace=pace_of(settings),
        transport=transport,
        check=check,
        hooks={"response": [end]},
    )


def _ask_hub(lora: Lora, *, settings: Settings, transport: httpx.BaseTransport | None, check: Check) -> NoReturn:
    """Raises `_IsThere` if the hub (Hugging Face) or this machine has the LoRA, otherwise the error of
    `lora_hub.download`."""
    lora_hub.check_there(lora, settings, public_folder(settings), transport=transport, check=check)
    raise _IsThere
