"""Makes a local file of limited size from a URL, a data URI or a path."""

import secrets
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx

from longtake.errors import InvalidRequest
from longtake.media.data_uri import address_error, check_bytes, decode, is_bare_base64, shortened
from longtake.media.download import NO_HOOKS, Download, Hooks
from longtake.media.pace import Pace
from longtake.settings import Settings
from longtake.video import Check, no_check

_NEW = "source-"
"""Prefix of the names of the files that `fetch_file` creates."""


def pace_of(settings: Settings) -> Pace:
    """Returns the slowest download that the settings allow."""
    return Pace(settings.fetch_min_rate, settings.fetch_window_s, settings.fetch_s)


def fetch_file(
    url: str,
    folder: Path,
    *,
    max_bytes: int,
    pace: Pace,
    allow_local: bool = False,
    transport: httpx.BaseTransport | None = None,
    check: Check = no_check,
    hooks: Hooks = NO_HOOKS,
) -> Path:
    """Downloads or decodes what `url` names, and returns the path of a local file with this content.

    url: an http(s) URL, a data URI or, if `allow_local`, the path or the file URL of a local file. Blanks around a URL
        are ignored. Downloads and data URIs are written to a new file in `folder`; a local file stays where it is.
    max_bytes: largest size of the file in bytes.
    pace: the slowest download that is allowed.
    transport: sends the HTTP requests; a server passes `outbound.PublicTransport`. With None every host is allowed, and
        the proxies of the environment are used.
    check: a function that is called again and again during a download, and may end it by raising an exception. With
        PublicTransport it is also called while nothing arrives, four times a second (CHECK_EVERY_S).
    hooks: functions that are called with each HTTP request and each response's headers (see Hooks).

    Raises DownloadFailed if the download fails, FileTooLarge above `max_bytes`, and InvalidRequest if `url` has none of
    these forms, is malformed or names no file. Raises OSError if this machine is at fault (see `errors.TEMPORARY`), for
    example because its disk is full. After an error there is no new file in `folder`.
    """
    bare = url.strip()
    scheme = bare.partition(":")[0].lower()
    if scheme == "data":
        data = decode(bare, max_bytes)
        path = _new_file(folder)
        path.write_bytes(data)
        return path
    if scheme in ("http", "https") and "://" in bare:
        return Download(bare, _new_file(folder), max_bytes, pace, transport, check, hooks).run()
    local = local_file(url) if allow_local else None
    if local is not None:
        check_bytes(local.stat().st_size, max_bytes)
        return local
    if not allow_local or is_bare_base64(bare):
        raise address_error(url)
    if _is_folder(bare):
        raise InvalidRequest(f"{shortened(url)!r} is a folder, not a file.", value=shortened(url))
    if "://" in bare and scheme != "file":
        raise InvalidRequest(
            f"{shortened(url)!r} is no address that can be read; give a path, an http, https or file URL, or a data "
            "URI.",
            value=shortened(url),
        )
    raise InvalidRequest(f"There is no file {shortened(url)!r}.", value=shortened(url))


def _new_file(folder: Path) -> Path:
    return folder / f"{_NEW}{secrets.token_hex(8)}"


def remove_fetched(folder: Path) -> None:
    """Deletes all files that `fetch_file` has created in a folder, such as those of processes that were killed.

    No process may be using or fetching such a file meanwhile.
    """
    for path in folder.glob(f"{_NEW}*"):
        path.unlink(missing_ok=True)


def local_file(name: str) -> Path | None:
    """Returns the path of the file that a path or a file URL (`file:///...`) names; None if no such file exists."""
    try:
        return next((path for path in (Path(name), local_path(name)) if path.is_file()), None)
    except (OSError, ValueError):  # too long for a name, or with a NUL
        return None


def _is_folder(name: str) -> bool:
    try:
        return name != "" and local_path(name).is_dir()
    except (OSError, ValueError):  # too long for a name, or with a NUL
        return False


def local_path(name: str) -> Path:
    """Returns the path that a file URL (`file:///...`) of this machine names. Any other text is taken as a path."""
    url = urlsplit(name.strip())
    if url.scheme != "file" or url.hostname not in (None, "localhost"):
        return Path(name)
    # A path may have bytes that are not UTF-8; `surrogateescape` keeps them, as Python's own paths do.
    text = unquote(url.path, errors="surrogateescape")
    after_slash = Path(text.removeprefix("/"))  # on Windows this is the path: the URL has /C:/clip.mp4
    return after_slash if after_slash.is_absolute() else Path(text)
