"""Makes a local file of limited size from a URL, a data URI or a path."""

import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from longtake.errors import DownloadFailed, InvalidRequest, machine_error
from longtake.flow import Flow
from longtake.media.data_uri import address_error, check_bytes, decode, is_bare_base64, shortened
from longtake.media.http_body import check_declared, decoded, is_whole
from longtake.outbound import CHECK, http_url
from longtake.settings import Settings
from longtake.version import __version__
from longtake.video import CHECK_EVERY_S, Check, no_check

_MAX_REDIRECTS = 5

_NEW = "source-"
"""Prefix of the names of the files that `fetch_file` creates."""

RETRY_PAUSES_S = (0.5, 1.0, 2.0)
"""Seconds to wait before the second, third and fourth attempt at a download, if the failure may be temporary."""

LONGEST_PAUSE_S = 60.0
"""If a server asks to wait this many seconds or more before the next attempt, the download fails at once."""

ANSWER_S = 60.0
"""Timeout in seconds of each network operation of a download: to connect, to send, and to receive some bytes."""

MOMENTARY = (408, 429, 500, 502, 503, 504)
"""HTTP statuses of failures that may be temporary: the download is tried again."""

Hooks = Mapping[str, Sequence[Callable[..., None]]]
"""Functions that httpx calls during a download, also for each redirect (httpx's argument `event_hooks`).

Functions under the key "request" get each request before it is sent, and functions under "response" get each response
before its body is read. They may raise an exception to end the download.
"""

NO_HOOKS: Hooks = {}


@dataclass(frozen=True)
class Pace:
    """The slowest download that is allowed.

    min_rate: smallest rate in bytes per second. It must be reached in each period of `window_s` seconds, counted from
        the beginning of the response's body.
    window_s: length of these periods in seconds.
    total_s: most seconds that the whole download may take, with all redirects and all attempts.
    """

    min_rate: int
    window_s: float
    total_s: float


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
        deadline = time.monotonic() + pace.total_s
        return _Download(bare, _new_file(folder), max_bytes, pace, deadline, transport, check, hooks).run()
    local = local_file(url) if allow_local else None
    if local is not None:
        check_bytes(local.stat().st_size, max_bytes)
        return local
    if not allow_local or is_bare_base64(bare):
        raise address_error(url)
    if _is_folder(bare):
        raise InvalidRequest(f"{shortened(url)!r} is a folder, not a file.", value=shortened(url))
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


class _Momentary(Exception):
    """A failure that may be temporary, so the download is tried again.

    sentence: the message for the user if no attempt succeeds.
    pause_s: seconds that the server asks to wait before the next attempt; None if it does not ask.
    """

    def __init__(self, sentence: str, pause_s: float | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.pause_s = pause_s


@dataclass(frozen=True)
class _Download:
    """The download of one file.

    url, path: the address of the file, and the path of the new file, which does not exist after an error.
    deadline, check: time (`time.monotonic`) by which it must end, and a function that may end it by an exception.
    max_bytes, pace: the largest size of the file, and the slowest download that is allowed.
    transport, hooks: what sends the HTTP requests, and functions that are called with each request and response.
    """

    url: str
    path: Path
    max_bytes: int
    pace: Pace
    deadline: float
    transport: httpx.BaseTransport | None
    check: Check
    hooks: Hooks

    def run(self) -> Path:
        """Downloads the file and returns its path. Raises DownloadFailed, FileTooLarge, InvalidRequest or OSError."""
        try:
            address = http_url(self.url)
        except ValueError as error:
            shown = shortened(self.url)
            raise InvalidRequest(f"{shown!r} {error}.", value=shown) from None
        try:
            return self._attempts(address)
        except BaseException:
            self.path.unlink(missing_ok=True)
            raise

    def _attempts(self, address: httpx.URL) -> Path:
        for pause_s in (*RETRY_PAUSES_S, None):
            try:
                return self._attempt(address)
            except _Momentary as failure:
                wait_s = failure.pause_s if failure.pause_s is not None else pause_s
                longest_s = min(LONGEST_PAUSE_S, self.deadline - time.monotonic())
                if pause_s is not None and wait_s is not None and wait_s >= longest_s:
                    raise DownloadFailed(
                        f"{failure.sentence} It asks to wait {wait_s:g} s, which is too long."
                    ) from None
                if pause_s is None or wait_s is None:
                    raise DownloadFailed(failure.sentence) from None
                self.path.unlink(missing_ok=True)
                self._pause(wait_s)
        raise AssertionError("the last attempt returns or raises")

    def _pause(self, seconds: float) -> None:
        """Waits `seconds` seconds. Meanwhile it calls `self.check`, four times a second."""
        until = time.monotonic() + seconds
        while (left_s := until - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left_s, CHECK_EVERY_S))

    def _attempt(self, address: httpx.URL) -> Path:
        """Tries to download the file once. Returns its path.

        Raises _Momentary if another attempt may succeed, otherwise DownloadFailed or FileTooLarge. Raises OSError if
        this machine is at fault and not the host (see `machine_error`), for example because its disk is full.
        """
        headers = {"User-Agent": f"longtake/{__version__}", "Accept-Encoding": "identity"}
        response_hooks = [_check_redirect, *self.hooks.get("response", ())]
        hooks = {"request": [*self.hooks.get("request", ())], "response": response_hooks}
        try:
            with httpx.Client(headers=headers, transport=self.transport, event_hooks=hooks) as client:
                for _ in range(_MAX_REDIRECTS + 1):
                    if address.scheme not in ("http", "https") or not address.raw_host:
                        raise DownloadFailed("The address leads to something other than http or https.")
                    meter = _Meter(shown_url(address), self.pace)
                    with self._get(client, address, meter) as response:
                        if response.next_request is not None:
                            address = response.next_request.url
                            continue
                        self._check_status(response, address)
                        self._save(response, meter)
                        return self.path
        # httpx raises an ImportError for a SOCKS proxy, which needs another library.
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, OverflowError, OSError, ImportError) as error:
            if (ours := machine_error(error)) is not None:
                if ours is error:  # which disk: an error of writing does not say it
                    ours.filename = ours.filename or str(self.path)
                raise ours from None
            where = f"{shown_url(address)}{self._through(address)}"
            if isinstance(error, (TimeoutError, httpx.TimeoutException)):
                raise DownloadFailed(f"{where} did not deliver the file in time.") from None
            sentence = f"The file could not be downloaded from {where}: {_reason(error)}."
            if isinstance(error, (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)):
                raise _Momentary(sentence) from None
            raise DownloadFailed(sentence) from None
        raise DownloadFailed(f"{shortened(self.url)} was redirected more than {_MAX_REDIRECTS} times.")

    def _check_status(self, response: httpx.Response, address: httpx.URL) -> None:
        """Raises _Momentary (a retry may help) or DownloadFailed unless the response of `address` is the whole file."""
        status = response.status_code
        if status in (200, 203) or (status == 206 and is_whole(response.headers)):
            return
        if status == 206:
            raise DownloadFailed(f"{shown_url(address)} answered 206 with a part of the file instead of the whole.")
        sentence = f"{shown_url(address)}{self._through(address)} answered {status} instead of the file."
        if status in MOMENTARY:
            raise _Momentary(sentence, _retry_after_s(response.headers.get("retry-after", "")))
        raise DownloadFailed(sentence)

    def _through(self, address: httpx.URL) -> str:
        """Returns " through the proxy ..." for an error message, or "" if `address` is requested without a proxy."""
        proxy = None if self.transport is not None else environment_proxy(str(address))
        return "" if proxy is None else f" through the proxy {proxy} (set in the environment)"

    def _get(self, client: httpx.Client, address: httpx.URL, meter: "_Meter") -> AbstractContextManager[httpx.Response]:
        """Requests `address`. Returns a context manager that yields the response before its body is read."""

        def check() -> None:  # also ends a body that comes too slowly
            self.check()
            meter.check(time.monotonic())

        timeout_s = min(ANSWER_S, self._remaining_s())
        return client.stream("GET", address, timeout=timeout_s, extensions={CHECK: check})

    def _save(self, response: httpx.Response, meter: "_Meter") -> None:
        declared = response.headers.get("content-length", "")
        if declared.isdigit():
            check_declared(int(declared), self.max_bytes, self.path.parent)
        meter.start(time.monotonic())
        try:
            with self.path.open("xb") as file:
                for piece in decoded(response):
                    meter.add(len(piece), time.monotonic())
                    check_bytes(meter.received, self.max_bytes)
                    self._remaining_s()
                    self.check()
                    file.write(piece)
        except httpx.ReadTimeout:
            meter.check(time.monotonic())  # says how slow the download was, if that is the reason
            raise

    def _remaining_s(self) -> float:
        """Returns the seconds until the deadline. Raises TimeoutError if it has passed."""
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds


class _Meter:
    """Counts the bytes of a download, and raises DownloadFailed if they arrive too slowly.

    name, pace: the URL, for error messages, and the slowest download that is allowed.

    The argument `now` of the methods is the present time, as `time.monotonic` returns it.
    """

    def __init__(self, name: str, pace: Pace) -> None:
        self.received = 0
        """The number of bytes of the body so far."""
        self._name = name
        self._pace = pace
        self._flow: Flow | None = None

    def start(self, now: float) -> None:
        """Begins to measure the rate. It is called at the time `now`, when the body of the response begins."""
        self._flow = Flow(self._pace.min_rate, self._pace.window_s, now)

    def add(self, num_bytes: int, now: float) -> None:
        """Counts `num_bytes` received bytes. Then raises DownloadFailed if they arrive too slowly."""
        self.received += num_bytes
        self.check(now)

    def check(self, now: float) -> None:
        """Raises DownloadFailed if a period of `pace.window_s` seconds is over at `now` and had too few bytes."""
        slow = None if self._flow is None else self._flow.slow_period(now, self.received)
        if slow is not None:
            raise DownloadFailed(
                f"{self._name} delivered {_kilobytes(slow.rate)} KB/s over {slow.seconds:.3g} s; a download needs at "
                f"least {_kilobytes(self._pace.min_rate)} KB/s."
            )


def _kilobytes(num_bytes: float) -> str:
    return f"{round(num_bytes / 1024, 1):g}"


def environment_proxy(url: str) -> str | None:
    """Returns the URL of the proxy that the environment sets for `url`, without credentials; None if it sets none."""
    parts, proxies = urlsplit(url), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.hostname or ""):
        return None
    scheme, _, rest = proxy.rpartition("://")
    return f"{scheme or 'http'}://{rest.rpartition('@')[2]}"


def _check_redirect(response: httpx.Response) -> None:
    """Raises DownloadFailed if a response redirects from https to http, or to a URL that is neither https nor http."""
    found = re.match(r"\s*([a-z][a-z0-9+.-]*):", response.headers.get("location", ""), re.IGNORECASE)
    if not response.has_redirect_location or found is None:  # a relative address keeps the scheme
        return
    scheme, name = found[1].lower(), shown_url(response.url)
    if scheme == "http" and response.url.scheme == "https":
        raise DownloadFailed(f"{name} redirects to an http address. An https address may only lead to https addresses.")
    if scheme not in ("http", "https"):
        kind = "a data URI" if scheme == "data" else f"a {scheme[:20]}: address"
        raise DownloadFailed(f"{name} redirects to {kind}. Only redirects to http and https addresses are followed.")


def _retry_after_s(header: str) -> float | None:
    """Returns the seconds that a `Retry-After` header asks to wait, or None if it is neither a number nor a date."""
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def shown_url(url: httpx.URL) -> str:
    """Returns a URL as text for an error message, without credentials and query, because these can be secrets."""
    return f"{url.scheme}://{url.netloc.decode('ascii')}{url.raw_path.decode('ascii').partition('?')[0]}"


def _reason(error: Exception) -> str:
    """Returns a phrase that says why `error` was raised, for an error message. It does not name any local file."""
    if isinstance(error, UnicodeError):
        return "it redirects to an address whose host is no name"
    return getattr(error, "strerror", None) or str(error).rstrip(".") or "no answer"
