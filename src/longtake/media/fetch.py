"""Makes a local file of limited size from a URL, a data URI or a path."""

import base64
import binascii
import re
import secrets
import time
from pathlib import Path
from urllib.parse import unquote_to_bytes

import httpx

from longtake.errors import DownloadFailed, FileTooLarge, InvalidRequest
from longtake.version import __version__

_MAX_REDIRECTS = 5
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*={0,2}")


def fetch_file(
    url: str,
    folder: Path,
    *,
    max_bytes: int,
    allow_local: bool = False,
    timeout_s: float = 60,
    transport: httpx.BaseTransport | None = None,
) -> Path:
    """Returns the path of a local file with the content of `url`.

    url: an http(s) URL, a data URI or, if `allow_local`, the path of a local file. Downloads and data URIs are written
        to a new file in `folder`; a local path is returned unchanged.
    max_bytes: largest size of the file in bytes.
    timeout_s: seconds for the whole download with all redirects.
    transport: sends the HTTP requests; a server passes `outbound.PublicTransport`. With None every host is allowed, and
        the proxies of the environment are used.

    Raises DownloadFailed if the download fails, FileTooLarge above `max_bytes`, and InvalidRequest if `url` is none of
    these forms, is malformed or names no file. After an error there is no new file in `folder`.
    """
    scheme = url.partition(":")[0].lower()
    if scheme == "data":
        path = _new_file(folder)
        path.write_bytes(_data_uri(url, max_bytes))
        return path
    if scheme in ("http", "https") and "://" in url:
        return _download(url, _new_file(folder), max_bytes, time.monotonic() + timeout_s, transport)
    if allow_local:
        return _local(Path(url), max_bytes)
    raise InvalidRequest(
        f"{_short(url)!r} is neither an http(s) address nor a data URI; upload the file or give such an address.",
        value=_short(url),
    )


def _new_file(folder: Path) -> Path:
    return folder / f"source-{secrets.token_hex(8)}"


def _local(path: Path, max_bytes: int) -> Path:
    if not path.is_file():
        raise InvalidRequest(f"There is no file {str(path)!r}.", value=str(path))
    _check_bytes(path.stat().st_size, max_bytes)
    return path


def _check_bytes(count: int, max_bytes: int) -> None:
    if count > max_bytes:
        raise FileTooLarge(
            f"The file is larger than {max_bytes} bytes, the most that is accepted.", ctx={"max_size": max_bytes}
        )


def _data_uri(uri: str, max_bytes: int) -> bytes:
    """Returns the data in a URI `data:[type][;base64],...` (RFC 2397). The type in the URI is ignored.

    Raises InvalidRequest if the URI is malformed, FileTooLarge if the data has more than `max_bytes` bytes.
    """
    header, comma, body = uri.partition(",")
    if not comma:
        raise InvalidRequest("The data URI has no comma between its type and its data.", value=_short(uri))
    if not header.lower().endswith(";base64"):
        _check_bytes((len(body) + 2) // 3, max_bytes)
        data = unquote_to_bytes(body)
        _check_bytes(len(data), max_bytes)
        return data
    if "%" not in body:
        _check_bytes(len(body) * 3 // 4 - 2, max_bytes)
    _check_bytes(len(body) // 4, max_bytes)
    text = unquote_to_bytes(body)
    if not _BASE64.fullmatch(text):
        raise InvalidRequest("The data URI holds characters that base64 does not have.", value=_short(uri))
    try:
        data = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise InvalidRequest("The data URI's base64 ends too early or has wrong padding.", value=_short(uri)) from None
    _check_bytes(len(data), max_bytes)
    return data


def _download(url: str, path: Path, max_bytes: int, deadline: float, transport: httpx.BaseTransport | None) -> Path:
    headers = {"User-Agent": f"longtake/{__version__}", "Accept-Encoding": "identity"}
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidRequest(f"{_short(url)!r} is not an address: {_reason(error)}.", value=_short(url)) from None
    try:
        with httpx.Client(
            headers=headers, follow_redirects=False, timeout=_remaining_s(deadline), transport=transport
        ) as client:
            for _ in range(_MAX_REDIRECTS + 1):
                if address.scheme not in ("http", "https") or not address.host:
                    raise DownloadFailed("The address leads to something other than http or https.")
                with client.stream("GET", address, timeout=_remaining_s(deadline)) as response:
                    if response.next_request is not None:
                        address = response.next_request.url
                        continue
                    if response.status_code != httpx.codes.OK:
                        raise DownloadFailed(f"{_named(address)} answered {response.status_code} instead of the file.")
                    _save(response, path, max_bytes, deadline)
                    return path
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OverflowError, OSError) as error:
        path.unlink(missing_ok=True)
        if isinstance(error, (TimeoutError, httpx.TimeoutException)):
            raise DownloadFailed(f"{_named(address)} did not deliver the file in time.") from None
        raise DownloadFailed(f"The file could not be downloaded from {_named(address)}: {_reason(error)}.") from None
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    raise DownloadFailed(f"The address was redirected more than {_MAX_REDIRECTS} times.")


def _save(response: httpx.Response, path: Path, max_bytes: int, deadline: float) -> None:
    declared = response.headers.get("content-length", "")
    if declared.isdigit():
        _check_bytes(int(declared), max_bytes)
    received = 0
    with path.open("xb") as file:
        for piece in response.iter_bytes():
            received += len(piece)
            _check_bytes(received, max_bytes)
            _remaining_s(deadline)
            file.write(piece)


def _remaining_s(deadline: float) -> float:
    """Returns the seconds until `deadline` (`time.monotonic`). Raises TimeoutError if it has passed."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def _named(url: httpx.URL) -> str:
    """Returns the URL for an error message, without credentials and query, because these can be secrets."""
    return f"{url.scheme}://{url.host}{url.path}"


def _reason(error: Exception) -> str:
    return str(error).rstrip(".") or "no answer"


def _short(url: str) -> str:
    return url if len(url) <= 80 else url[:77] + "..."
