"""Downloads one file from an http or https URL."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from longtake.errors import DownloadFailed, InvalidRequest, machine_error
from longtake.media.data_uri import check_bytes, shortened
from longtake.media.download_errors import reason
from longtake.media.http_body import check_declared, decoded, is_whole
from longtake.media.pace import Meter, Pace, TooSlow
from longtake.outbound import CHECK, http_url
from longtake.version import __version__
from longtake.video import CHECK_EVERY_S, Check

_MAX_REDIRECTS = 5

RETRY_PAUSES_S = (0.5, 1.0, 2.0)
"""Seconds to wait before the second, third and fourth attempt at a download, if the failure may be temporary."""

LONGEST_PAUSE_S = 60.0
"""If a server asks to wait this many seconds or more before the next attempt, the download fails at once."""

ANSWER_S = 60.0
"""Timeout in seconds of each network operation of a download: to connect, to send, and to receive some bytes."""

MOMENTARY = (408, 429, 500, 502, 503, 504)
"""HTTP statuses of failures that may be temporary: the download is tried again."""

_STRONG_ETAG = re.compile(r'"[!#-~]{1,200}"')
"""Matches an ETag that says of two files with the same ETag that all their bytes are equal. A weak one says less."""

Hooks = Mapping[str, Sequence[Callable[..., None]]]
"""Functions that httpx calls during a download, also for each redirect (httpx's argument `event_hooks`).

Functions under the key "request" get each request before it is sent, and functions under "response" get each response
before its body is read. They may raise an exception to end the download.
"""

NO_HOOKS: Hooks = {}


class _Momentary(Exception):
    """A failure that may be temporary, so the download is tried again.

    sentence: the message for the user if no attempt succeeds.
    pause_s: seconds that the server asks to wait before the next attempt; None if it does not ask.
    is_stall: True if the file came too slowly. Then another attempt is worth it only if this one brought much.
    """

    def __init__(self, sentence: str, pause_s: float | None = None, *, is_stall: bool = False) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.pause_s = pause_s
        self.is_stall = is_stall


@dataclass
class _Part:
    """The beginning of the file, which earlier attempts have saved.

    num_bytes: its length.
    etag: the strong ETag of the version that it belongs to. None if the host states none; then the next attempt begins
        at the first byte.
    whole_bytes: the length of the whole file in this version; None if the host has not stated it.
    """

    num_bytes: int = 0
    etag: str | None = None
    whole_bytes: int | None = None

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of a request for the rest of the file; none if the next attempt begins at the first byte."""
        if self.etag is None or not self.num_bytes:
            return {}
        return {"Range": f"bytes={self.num_bytes}-", "If-Range": self.etag}

    def is_continued_by(self, response: httpx.Response) -> bool:
        """Returns True if the response has exactly the rest of the file, in the version of this part."""
        if not self.headers or response.status_code != 206 or response.headers.get("etag") != self.etag:
            return False
        return "content-encoding" not in response.headers and is_whole(response.headers, self.num_bytes)

    def restart(self, response: httpx.Response | None = None) -> None:
        """Makes this part empty. The next bytes are those of the response, if there is one."""
        headers = httpx.Headers() if response is None or "content-encoding" in response.headers else response.headers
        etag, declared = headers.get("etag", ""), headers.get("content-length", "")
        self.num_bytes = 0
        self.etag = etag if _STRONG_ETAG.fullmatch(etag) else None
        self.whole_bytes = int(declared) if declared.isdigit() else None

    def check_end(self) -> None:
        """Raises httpx.RemoteProtocolError if the whole file has another length, though the host has ended it here. A
        host may do so if it does not state the length with the rest of a file (`content-range: bytes 100-149/*`)."""
        if self.whole_bytes not in (None, self.num_bytes):
            raise httpx.RemoteProtocolError(f"it sent {self.num_bytes} of {self.whole_bytes} bytes")


@dataclass(frozen=True)
class Download:
    """The download of one file.

    url, path: the address of the file, and the path of the new file, which does not exist after an error.
    max_bytes, pace: the largest size of the file, and the slowest download that is allowed.
    transport: sends the HTTP requests; see `fetch.fetch_file`.
    check: a function that is called again and again, and may end the download by raising an exception.
    hooks: functions that are called with each request and response.
    on_bytes: called with the number of bytes that have arrived since its last call. Bytes that arrive a second time,
        because the file had to be begun anew, do not count.
    """

    url: str
    path: Path
    max_bytes: int
    pace: Pace
    transport: httpx.BaseTransport | None
    check: Check
    hooks: Hooks
    on_bytes: Callable[[int], None] = lambda _: None

    def run(self) -> Path:
        """Downloads the file and returns its path. After a broken connection it continues where the file broke off, if
        the host states the version of the file (ETag) and sends parts of it; otherwise it begins anew.

        Raises DownloadFailed, FileTooLarge, InvalidRequest or OSError as `fetch.fetch_file` does.
        """
        try:
            address = http_url(self.url)
        except ValueError as error:
            shown = shortened(self.url)
            raise InvalidRequest(f"{shown!r} {error}.", value=shown) from None
        try:
            return _Attempts(self, address, time.monotonic() + self.pace.total_s).run()
        except BaseException:
            self.path.unlink(missing_ok=True)
            raise


class _Attempts:
    """The attempts at a download.

    address: the URL of the file.
    deadline: time (`time.monotonic`) by which the download must end.
    """

    def __init__(self, download: Download, address: httpx.URL, deadline: float) -> None:
        self._download = download
        self._address = address
        self._deadline = deadline
        self._part = _Part()
        self._most_bytes = 0
        """The largest length that the file has had."""

    def run(self) -> Path:
        """Downloads the file and returns its path.

        An attempt that brings as many bytes as the slowest download brings in one period counts as a new beginning, so
        a large file is not given up because its connection breaks now and then.
        """
        pauses = iter(RETRY_PAUSES_S)
        pace = self._download.pace
        while True:
            before = self._part.num_bytes
            try:
                self._attempt()
                return self._download.path
            except _Momentary as failure:
                has_brought_much = self._part.num_bytes - before >= pace.min_rate * pace.window_s
                if has_brought_much and self._part.headers:
                    pauses = iter(RETRY_PAUSES_S)
                elif failure.is_stall:
                    raise DownloadFailed(failure.sentence) from None
                self._pause(failure, next(pauses, None))

    def _pause(self, failure: _Momentary, pause_s: float | None) -> None:
        """Waits before the next attempt, as long as the server asks, and `pause_s` seconds if it does not ask.

        Raises DownloadFailed if there is no next attempt, because `pause_s` is None or because the time is too short.
        """
        wait_s = failure.pause_s if failure.pause_s is not None else pause_s
        if pause_s is None or wait_s is None:
            raise DownloadFailed(failure.sentence) from None
        if wait_s >= min(LONGEST_PAUSE_S, self._deadline - time.monotonic()):
            asks = "" if failure.pause_s is None else f" It asks to wait {wait_s:g} s, which is too long."
            raise DownloadFailed(f"{failure.sentence}{asks}") from None
        until = time.monotonic() + wait_s
        while (left_s := until - time.monotonic()) > 0:
            self._download.check()
            time.sleep(min(left_s, CHECK_EVERY_S))

    def _attempt(self) -> None:
        """Tries once to download the file, or the rest of it.

        Raises _Momentary if another attempt may succeed, otherwise DownloadFailed or FileTooLarge. Raises OSError if
        this machine is at fault and not the host (see `machine_error`), for example because its disk is full.
        """
        download, address = self._download, self._address
        headers = {"User-Agent": f"longtake/{__version__}", "Accept-Encoding": "identity", **self._part.headers}
        response_hooks = [_check_redirect, *download.hooks.get("response", ())]
        hooks = {"request": [*download.hooks.get("request", ())], "response": response_hooks}
        try:
            with httpx.Client(headers=headers, transport=download.transport, event_hooks=hooks) as client:
                for _ in range(_MAX_REDIRECTS + 1):
                    if address.scheme not in ("http", "https") or not address.raw_host:
                        raise DownloadFailed("The address leads to something other than http or https.")
                    meter = Meter(shown_url(address), download.pace)
                    with self._get(client, address, meter) as response:
                        if response.next_request is not None:
                            address = response.next_request.url
                            continue
                        self._check_status(response, address)
                        self._save(response, meter)
                        return
        except TooSlow as error:
            raise _Momentary(error.message, is_stall=True) from None
        # httpx raises an ImportError for a SOCKS proxy, which needs another library.
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, OverflowError, OSError, ImportError) as error:
            if (ours := machine_error(error)) is not None:
                if ours is error:  # which disk: an error of writing does not say it
                    ours.filename = ours.filename or str(download.path)
                raise ours from None
            where = f"{shown_url(address)}{self._through(address)}"
            if isinstance(error, (TimeoutError, httpx.TimeoutException)):
                raise _Momentary(f"{where} did not deliver the file in time.", is_stall=True) from None
            sentence = f"The file could not be downloaded from {where}: {reason(error)}."
            if isinstance(error, (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)):
                raise _Momentary(sentence) from None
            raise DownloadFailed(sentence) from None
        raise DownloadFailed(f"{shortened(download.url)} was redirected more than {_MAX_REDIRECTS} times.")

    def _check_status(self, response: httpx.Response, address: httpx.URL) -> None:
        """Raises _Momentary (a retry may help) or DownloadFailed unless the response of `address` is the whole file, or
        exactly the rest of it.
        """
        status = response.status_code
        if status in (200, 203) or (status == 206 and is_whole(response.headers)):
            return
        if self._part.is_continued_by(response):
            return
        if status in (206, 416) and self._part.headers:  # the file was changed, or the host sends another part
            self._part.restart()
            raise _Momentary(f"{shown_url(address)} answered {status} instead of the rest of the file.")
        if status == 206:
            raise DownloadFailed(f"{shown_url(address)} answered 206 with a part of the file instead of the whole.")
        sentence = f"{shown_url(address)}{self._through(address)} answered {status} instead of the file."
        if status in MOMENTARY:
            raise _Momentary(sentence, _retry_after_s(response.headers.get("retry-after", "")))
        raise DownloadFailed(sentence)

    def _through(self, address: httpx.URL) -> str:
        """Returns " through the proxy ..." for an error message, or "" if `address` is requested without a proxy."""
        proxy = None if self._download.transport is not None else environment_proxy(str(address))
        return "" if proxy is None else f" through the proxy {proxy} (set in the environment)"

    def _get(self, client: httpx.Client, address: httpx.URL, meter: Meter) -> AbstractContextManager[httpx.Response]:
        """Requests `address`. Returns a context manager that yields the response before its body is read."""

        def check() -> None:  # also ends a body that comes too slowly
            self._download.check()
            meter.check(time.monotonic())

        timeout_s = min(ANSWER_S, self._remaining_s())
        return client.stream("GET", address, timeout=timeout_s, extensions={CHECK: check})

    def _save(self, response: httpx.Response, meter: Meter) -> None:
        """Writes the body of a response to the file: behind the bytes that are there, or from the first byte on."""
        part, download = self._part, self._download
        if not part.is_continued_by(response):
            part.restart(response)
            download.path.unlink(missing_ok=True)
        declared = response.headers.get("content-length", "")
        if declared.isdigit():
            check_bytes(part.num_bytes + int(declared), download.max_bytes)
            check_declared(int(declared), download.max_bytes, download.path.parent)
        meter.start(time.monotonic())
        try:
            with download.path.open("ab" if part.num_bytes else "xb") as file:
                for piece in decoded(response):
                    meter.add(len(piece), time.monotonic())
                    check_bytes(part.num_bytes + len(piece), download.max_bytes)
                    self._remaining_s()
                    download.check()
                    file.write(piece)
                    self._count(len(piece))
            part.check_end()
        except httpx.ReadTimeout:
            meter.check(time.monotonic())  # says how slow the download was, if that is the reason
            raise

    def _count(self, num_bytes: int) -> None:
        """Counts bytes that were written to the file, and reports those that are new."""
        self._part.num_bytes += num_bytes
        if self._part.num_bytes > self._most_bytes:
            self._download.on_bytes(self._part.num_bytes - self._most_bytes)
            self._most_bytes = self._part.num_bytes

    def _remaining_s(self) -> float:
        """Returns the seconds until the deadline. Raises TimeoutError if it has passed."""
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds


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
