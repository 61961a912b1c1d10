"""Finds the file of the LoRA that a request names: in the LoRA folder, at a URL, in a data URI, or on the hub (Hugging
Face)."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import httpx

from longtake.errors import BadCheckpoint, DownloadFailed, FileTooLarge, InvalidRequest, machine_error
from longtake.media.download import shown_url
from longtake.media.fetch import local_path
from longtake.models import lora_hub
from longtake.models.lora_downloads import (
    delete_oldest,
    mark_used,
    private_folder,
    public_folder,
    unfinished_folder,
)
from longtake.models.lora_header import LoraHeader, read_lora_header
from longtake.models.lora_hub import HubLora
from longtake.models.lora_names import SUFFIX, Lora, choose_file, is_hub_url, lora_at, may_be_repository, scheme_of
from longtake.models.safe import inside
from longtake.outbound import http_url
from longtake.plans import shortened_url
from longtake.settings import Settings, expanded
from longtake.temporary import temporary_folder
from longtake.video import Check, no_check

Fetch = Callable[[str, Path, int], Path]
"""A function that writes the content of a URL or data URI to a new file in a folder, and returns the file's path.

Its arguments are the URL, the folder and the limit in bytes. A server's function refuses addresses that are not public.
"""

LARGEST_TOGETHER = 4
"""Limit on the total size of the LoRAs of one request, as a multiple of `settings.max_lora_bytes`, the limit of one
LoRA."""

MOST_NAMES = 200
"""Largest number of LoRAs that `installed_names` returns."""

OpenOwn = Callable[[str], AbstractContextManager[Path] | None]
"""A function that looks up a URL among the files that a server stores itself.

It returns a context manager that gives the path of the stored file, or None if the server stores no file at this URL.
"""


def no_own_file(url: str) -> AbstractContextManager[Path] | None:
    """Returns None for every URL: the URL names no file that a server of longtake stores. The default of
    `LoraSources.open_own`, for a process without such a server."""
    return None


FromServer = Callable[[Lora], Path | None]
"""A function that looks up a LoRA of the Hugging Face hub among the files that a server downloaded before the request
began.

It returns the path of the LoRA's file, or None if the file must be downloaded now.
"""


def no_hub_file(lora: Lora) -> Path | None:
    """Returns None for every LoRA: none was downloaded in advance. This function is the default of
    `LoraSources.hub_file`."""
    return None


@dataclass(frozen=True)
class LoraSources:
    """The sources of LoRAs besides the LoRA folder and the Hugging Face hub.

    fetch: a function that downloads a URL. With None, only URLs that were downloaded earlier can be used.
    open_own: a function that looks up a URL among the files that the server stores itself (see `OpenOwn`).
    hub_file: a function that looks up a LoRA of the hub among the files that the server downloaded before the request
        began (see `FromServer`).
    hub_transport: sends the requests to the hub (see `lora_hub.hub_transport`). With None every host is allowed, and
        the proxies of the environment are used.
    any_path: True allows files anywhere on the disk and http from every host, and sends the access token in the
        settings to the hub. Set it only for the machine's own user, as on the command line.
    caller: the id of the API key whose request names the LoRA; None for the machine's own user. A LoRA that was
        downloaded from a URL, or with the access token, is not used for another caller.
    check: called again and again while a LoRA is downloaded from the hub or read. It may raise an exception to end the
        work.
    """

    fetch: Fetch | None = None
    open_own: OpenOwn = no_own_file
    hub_file: FromServer = no_hub_file
    hub_transport: httpx.BaseTransport | None = None
    any_path: bool = False
    caller: str | None = None
    check: Check = no_check


NO_SOURCES = LoraSources()
"""No sources besides the LoRA folder and the Hugging Face hub."""


@dataclass(frozen=True)
class LoraFile:
    """The file of a LoRA.

    path: where it is on this machine.
    name: its name for messages, which does not tell where it is on this machine.
    header: its header, if it has been read already; otherwise None.
    is_temporary: True if the file is deleted after this use.
    """

    path: Path
    name: str
    header: LoraHeader | None = None
    is_temporary: bool = False


@contextmanager
def open_lora(lora: Lora, settings: Settings, sources: LoraSources = NO_SOURCES) -> Iterator[LoraFile]:
    """Context manager that gives the file of a LoRA.

    A file at a URL or on the Hugging Face hub is downloaded, unless it already was.

    Raises `InvalidRequest` if `lora` names no usable file, `DownloadFailed` if the download fails, `FileTooLarge` for a
    file above `settings.max_lora_bytes`, and `BadCheckpoint` if the file at the URL is no LoRA.
    """
    url = lora.path.strip()
    scheme = scheme_of(url)
    own = sources.open_own(url) if scheme in ("http", "https") else None
    if own is not None:
        with own as path:
            yield _within_limit(LoraFile(path, _name_of(url)), settings)
    elif scheme in ("http", "https"):
        yield _from_url(url, settings, sources)
    elif scheme == "data":
        if sources.fetch is None:
            raise InvalidRequest("A LoRA cannot be a data URI here.", value=shortened_url(url))
        with temporary_folder(settings) as folder:
            path = sources.fetch(url, folder, settings.max_lora_bytes)
            yield LoraFile(path, shortened_url(url), is_temporary=True)
    else:
        yield _local_or_from_hub(lora, settings, sources)


def _local_or_from_hub(lora: Lora, settings: Settings, sources: LoraSources) -> LoraFile:
    any_path = sources.any_path
    try:
        local = _local(lora, settings, any_path=any_path)
    # A NUL byte, a name that is too long, or (until Python 3.12) links that lead to each other.
    except (ValueError, OSError, RuntimeError) as error:
        if machine_error(error) is not None:
            raise
        surrogate = "it has half a character in it (a lone surrogate)"
        reason = surrogate if isinstance(error, UnicodeError) else getattr(error, "strerror", None) or str(error)
        raise InvalidRequest(
            f"The LoRA path {lora.path[:100]!r} is no path: {reason}.", value=lora.path[:100]
        ) from None
    if local is not None:
        return _within_limit(LoraFile(local, local.name), settings)
    shown = lora.path[:100] if lora.path.isprintable() else ascii(lora.path[:100])[1:-1]
    if lora.path.lower().endswith(SUFFIX):
        place = "on this machine" if any_path else "in the LoRA folder"
        raise InvalidRequest(f"There is no LoRA file '{shown}' {place}.", value=lora.path[:100])
    if may_be_repository(lora.path):
        file = sources.hub_file(lora) or download_from_hub(lora, settings, sources).path
        return LoraFile(file, file.name)
    files = "a file or folder on this machine" if any_path else "a file below the LoRA folder"
    raise InvalidRequest(
        f"The LoRA '{shown}' is neither {files}, a URL (https://...), a data URI nor a hub repository (owner/name).",
        value=lora.path[:100],
    )


def _local(lora: Lora, settings: Settings, *, any_path: bool) -> Path | None:
    """Returns the LoRA's file if `lora.path` is a file or folder on the disk, otherwise None.

    any_path: True allows a path outside the LoRA folder.
    Raises `InvalidRequest` in these cases:
    - `any_path` is False, and the path is absolute, has `..` or a hidden folder, or is in the server's data folder.
    - The path is a file, and `lora.weight_name` is another name.
    - The path is a folder without the file `lora.weight_name` or, if that is None, without exactly one LoRA file.
    """
    anywhere = expanded(str(local_path(lora.path))) if any_path else None
    if anywhere is not None and anywhere.exists():
        place = anywhere.resolve()
    else:
        if not any_path:
            _check_reachable(lora.path, settings)
        place = settings.loras_dir / lora.path
        if not lora.path or not place.exists():
            return None
        try:
            place = inside(settings.loras_dir, lora.path)
        except BadCheckpoint:
            raise _out_of_folder(lora.path) from None
    if place.is_file():
        if lora.weight_name not in (None, place.name):
            raise InvalidRequest(
                f"The LoRA {lora.path[:100]} is itself a file, so weight_name {lora.weight_name[:100]!r} names no file "
                "in it.",
                value=lora.weight_name,
            )
        return place
    files = [file for file in place.iterdir() if file.suffix == SUFFIX]
    names = sorted(file.name for file in files if any_path or not file.name.startswith("."))
    name = choose_file(lora, names, "folder")
    try:
        return inside(place, name)
    except BadCheckpoint:
        raise InvalidRequest(f"The LoRA file {name[:100]!r} leads out of its folder.", value=lora.path) from None


def installed_names(settings: Settings) -> list[str]:
    """Returns the names by which requests can name the LoRA files in the LoRA folder and its subfolders, sorted.

    Left out are downloaded LoRAs, and all other files that requests may not name, such as links that lead out of the
    folder, or cannot name, because the name is not UTF-8. At most 200 (MOST_NAMES) names are returned.
    """
    folder = settings.loras_dir
    files = chain(folder.glob(f"*{SUFFIX}"), folder.glob(f"*/*{SUFFIX}"))
    names = sorted(path.relative_to(folder).as_posix() for path in files)
    return list(islice((name for name in names if _is_usable(name, settings)), MOST_NAMES))


def _is_usable(name: str, settings: Settings) -> bool:
    """Returns True if a request can and may name this file, whose path is relative to the LoRA folder."""
    try:
        name.encode()  # a UnicodeError if the name's bytes on the disk are not UTF-8
        place = _local(Lora(name), settings, any_path=False)
    except (InvalidRequest, OSError, RuntimeError, UnicodeError):
        return False
    return place is not None and place.suffix == SUFFIX


def _check_reachable(path: str, settings: Settings) -> None:
    """Raises `InvalidRequest` if a request may not name this path. These paths are refused:

    - an absolute path, and one with `..`;
    - a path with a name that begins with a dot, such as the folder of downloads;
    - a path in the server's data folder, if that is in the LoRA folder.

    path: a path that is relative to the LoRA folder. It need not exist.
    """
    folder, data = settings.loras_dir.resolve(), settings.data_dir.resolve()
    if os.path.isabs(path) or ".." in Path(path).parts:  # the same answer whether there is such a file or not
        raise _out_of_folder(path)
    place = (folder / path).resolve()
    below = place.relative_to(folder).parts if place.is_relative_to(folder) else ()
    is_hidden = any(part.startswith(".") for part in (*Path(path).parts, *below))
    is_data = data.is_relative_to(folder) and place.is_relative_to(data)
    if is_hidden or is_data:
        raise InvalidRequest(
            f"The LoRA path {path[:100]!r} is not for requests: names that begin with a dot, and the server's own "
            "data, cannot be used as LoRAs.",
            value=path[:100],
        )


def _out_of_folder(path: str) -> InvalidRequest:
    return InvalidRequest(f"The LoRA path {path[:100]!r} leads out of the LoRA folder.", value=path[:100])


def _within_limit(file: LoraFile, settings: Settings) -> LoraFile:
    """Returns `file` itself. Raises `FileTooLarge` if it has more than `settings.max_lora_bytes` bytes."""
    size = file.path.stat().st_size
    if size > settings.max_lora_bytes:
        raise FileTooLarge(f"The LoRA {file.name} has {size} bytes; the limit is {settings.max_lora_bytes}.")
    return file


def _from_url(url: str, settings: Settings, sources: LoraSources) -> LoraFile:
    """Returns the file of a LoRA at a URL. Each URL is downloaded once for each caller.

    The file is in the caller's private folder. Its name is the URL's SHA-256. A download that is no LoRA, such as an
    error page, is not kept, so the next request downloads the URL again.

    Raises `InvalidRequest` for http from a host that is not trusted. Raises `DownloadFailed` if the URL was not
    downloaded earlier, and `settings.offline` is True or `sources.fetch`, the function that downloads, is None. Raises
    `BadCheckpoint` if the download is no LoRA.
    """
    name = _name_of(url)
    _check_encrypted(http_url(url), settings, sources)
    target = _target(url, settings, sources.caller)
    header = _header_of(target, name)
    if header is not None and mark_used(target):
        return LoraFile(target, name, header)
    if settings.offline or sources.fetch is None:
        raise DownloadFailed(f"The LoRA {name} cannot be downloaded: there is no network here.")
    with unfinished_folder(settings) as temporary:
        path = sources.fetch(url, temporary, settings.max_lora_bytes)
        _within_limit(LoraFile(path, name), settings)
        header = read_lora_header(path, name)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.utime(path)  # the file may be older than others, and must not be deleted at once
        path.replace(target)
    delete_oldest(settings)
    return LoraFile(target, name, header)


def needs_download(url: str, settings: Settings, caller: str) -> bool:
    """Returns True if a server has to download the LoRA at a URL before a request of this caller can run.

    url: an http(s) URL, or the address of a LoRA on the Hugging Face hub. The result is False if it is malformed.

    - An http(s) URL: False if it was downloaded for this caller before, if the setting `offline` is on, or if it is an
      http URL whose host is not trusted. Otherwise True.
    - A LoRA on the hub: False if it is in the LoRA folder. Otherwise True, even if it was downloaded before, because
      the hub may have a newer version. Also True if the settings are offline; the download then finds the version on
      this machine, or fails.
    """
    if is_hub_url(url):
        try:
            return _local(lora_at(url), settings, any_path=False) is None
        except (InvalidRequest, ValueError, OSError, RuntimeError):
            return False
    try:
        _check_encrypted(http_url(url), settings, NO_SOURCES)
    except (InvalidRequest, ValueError):
        return False
    return not settings.offline and not _target(url, settings, caller).exists()


def _target(url: str, settings: Settings, caller: str | None) -> Path:
    """Returns the path at which the LoRA at a URL is stored for a caller; None means the user of this machine."""
    return private_folder(settings, caller) / f"{hashlib.sha256(url.encode()).hexdigest()}{SUFFIX}"


def _check_encrypted(url: httpx.URL, settings: Settings, sources: LoraSources) -> None:
    """Raises `InvalidRequest` if a LoRA's URL is neither https nor an allowed http URL.

    An http URL is allowed if its host is one of `settings.trusted_hosts`, or if `sources.any_path` is True, which means
    that the user of this machine names the LoRA.
    """
    trusted = {host.lower() for host in settings.trusted_hosts}
    if url.scheme != "https" and not sources.any_path and url.host not in trusted:
        raise InvalidRequest(
            f"The LoRA {shown_url(url)[:200]} is neither at an https:// URL nor an upload to this server; http is "
            "accepted from trusted hosts only.",
            value=str(url)[:200],
        )


def _name_of(url: str) -> str:
    """Returns a URL for messages, without credentials and query, because these can be secrets."""
    try:
        return shown_url(http_url(url))[:200]
    except ValueError as error:
        raise InvalidRequest(f"The LoRA {url[:100]!r} {error}.", value=url[:100]) from None


def _header_of(path: Path, name: str) -> LoraHeader | None:
    """Returns the header of the file at `path`; None if it is not a LoRA. `name` is the file's name for messages."""
    try:
        return read_lora_header(path, name)
    except BadCheckpoint:
        return None


def download_from_hub(lora: Lora, settings: Settings, sources: LoraSources) -> HubLora:
    """Returns the file of a LoRA in a hub repository. Downloads it if the newest version is not on this machine.

    Raises DownloadFailed if there is no such file or the download fails, InvalidRequest if the repository has several
    files and the LoRA names none, and FileTooLarge for a file above `settings.max_lora_bytes`.
    """
    # What only the access token gives access to is stored apart from what the hub gives to everybody.
    token = settings.hf_token.get_secret_value() if settings.hf_token is not None and sources.any_path else None
    home = public_folder(settings) if token is None else private_folder(settings, sources.caller) / "hub"
    return lora_hub.download(lora, settings, home, token=token, transport=sources.hub_transport, check=sources.check)
