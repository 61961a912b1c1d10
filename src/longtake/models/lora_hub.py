"""Downloads LoRAs from the hub (Hugging Face), within the same limits as files at any other URL. Needs no torch.

The hub's own library is not used: it has no lower limit for the rate of a download, and reacts slowly to a
cancellation.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote
from weakref import WeakValueDictionary

import httpx

from longtake.errors import DownloadFailed, FileTooLarge, InvalidRequest
from longtake.media.fetch import ANSWER_S, environment_proxy, fetch_file, pace_of
from longtake.models.hub import GATED, NO_REPOSITORY, sha256
from longtake.models.lora_downloads import delete_oldest, last_use, mark_used, unfinished_folder
from longtake.models.lora_names import MOST_NAME, SUFFIX, Lora, choose_file
from longtake.outbound import PublicTransport, http_url
from longtake.settings import Settings
from longtake.temporary import temporary_folder
from longtake.video import CHECK_EVERY_S, Check, no_check

MOST_LISTED = 2**20
"""The largest number of bytes of the hub's list of a repository's files. A list of 3,000 files has fewer."""

LISTING_S = ANSWER_S
"""Seconds within which the hub's list of a repository's files must have arrived."""

_MOST_PART = 255
"""The largest number of bytes of one component of a file's path, which is the limit of common file systems."""

_LOCKS: WeakValueDictionary[Path, threading.Lock] = WeakValueDictionary()
_LOCKS_CHANGE = threading.Lock()


@dataclass(frozen=True)
class HubLora:
    """The file of a LoRA on the hub.

    path: where it is on this machine.
    is_new: True if it was downloaded now, and not earlier.
    """

    path: Path
    is_new: bool


def hub_transport(settings: Settings) -> httpx.BaseTransport | None:
    """Returns the transport with which a server sends requests to the hub.

    The transport allows public hosts, trusted ones and the hub itself. If the environment names a proxy for the hub,
    the result is None, which allows every host, because the proxy then decides which hosts are allowed.
    """
    url = hub_endpoint(settings)
    try:
        hub, proxy = http_url(url).raw_host.decode("ascii"), environment_proxy(url)
    except ValueError:
        return PublicTransport(settings.trusted_hosts)  # a download will say what is wrong with the hub's URL
    return None if proxy is not None else PublicTransport((*settings.trusted_hosts, hub))


def hub_endpoint(settings: Settings) -> str:
    """Returns the URL of the hub, without a slash at its end."""
    from huggingface_hub import constants

    return (settings.hf_endpoint or constants.ENDPOINT).rstrip("/")


def download(
    lora: Lora,
    settings: Settings,
    home: Path,
    *,
    token: str | None = None,
    transport: httpx.BaseTransport | None = None,
    check: Check = no_check,
) -> HubLora:
    """Returns the file of a LoRA in a hub repository. The newest version is downloaded unless it is on this machine.

    If the hub does not name the newest version, or the settings are offline, the most recently used version on this
    machine is returned. While one thread downloads a file, others that name it in the same way wait.

    home: the folder of downloads from the hub. The file becomes `home`/owner--name/version/path.
    token: an access token, which is sent to the hub's own host and to no other; None sends none.
    transport: sends the HTTP requests. With None every host is allowed, and the proxies of the environment are used.
    check: called again and again. It may raise an exception to end the work.

    Raises `DownloadFailed` if there is no such file, or if the newest version cannot be downloaded. Raises
    `InvalidRequest` if the LoRA names no file and the repository does not have exactly one, and `FileTooLarge` for a
    file above `settings.max_lora_bytes`.
    """
    folder = home / lora.path.replace("/", "--")
    repository = _Repository(lora, folder, settings, token, transport, check)
    with _one_at_a_time(folder / (lora.weight_name or ""), check):
        try:
            return repository.newest()
        except DownloadFailed:
            found = None if repository.has_answered else _last_used(lora, folder)
            if found is None:
                raise
            return HubLora(found, is_new=False)


@contextmanager
def _one_at_a_time(key: Path, check: Check) -> Iterator[None]:
    """Context manager for a block that only one thread of this process may run at a time, for each `key`.

    check: called again and again while another thread is in the block. It may raise an exception to end the wait.
    """
    with _LOCKS_CHANGE:
        lock = _LOCKS.setdefault(key, threading.Lock())
    while not lock.acquire(timeout=CHECK_EVERY_S):
        check()
    try:
        yield
    finally:
        lock.release()


def _last_used(lora: Lora, folder: Path) -> Path | None:
    """Returns the most recently used file of a LoRA in the folder of its repository; None if there is none.

    Raises `InvalidRequest` if `lora` names no file, and the folder has several.
    """
    files = sorted(folder.glob(f"*/**/*{SUFFIX}"), key=last_use)
    by_name = {"/".join(file.relative_to(folder).parts[1:]): file for file in files}
    if not by_name or lora.weight_name not in (None, *by_name):
        return None
    found = by_name[choose_file(lora, list(by_name), "hub repository")]
    return found if mark_used(found) else None


class _IsHere(Exception):
    """Raised to end a download: the newest version of the file is on this machine already, at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path


class _NoSuchFile(Exception):
    """Raised if the hub has no file of the requested name, or no such repository."""


@dataclass
class _Repository:
    """A hub repository that has a LoRA.

    folder: the folder of the repository's files on this machine.
    has_answered: True as soon as the hub has named the newest version of the LoRA's file.
    token: an access token, which is sent to the hub's own host; None sends none.
    transport: sends the HTTP requests. With None every host is allowed.
    check: called again and again. It may raise an exception to end the work.
    """

    lora: Lora
    folder: Path
    settings: Settings
    token: str | None
    transport: httpx.BaseTransport | None
    check: Check
    has_answered: bool = field(default=False, init=False)

    def newest(self) -> HubLora:
        """Returns the newest version of the LoRA's file. Downloads it if it is not on this machine.

        Raises `DownloadFailed` if there is no such file or the download fails, `InvalidRequest` if the LoRA names no
        file and the repository does not have exactly one, and `FileTooLarge` above `settings.max_lora_bytes`.
        """
        from huggingface_hub import constants

        lora = self.lora
        if self.settings.offline or constants.HF_HUB_OFFLINE:
            variable = "LONGTAKE_OFFLINE" if self.settings.offline else "HF_HUB_OFFLINE"
            raise DownloadFailed(f"The hub cannot be asked for {lora.path}: {variable} is set.")
        if lora.weight_name is not None and _is_plain(lora.weight_name):
            try:
                return self._file(lora.weight_name)
            except _NoSuchFile:
                pass  # the list says which files there are
        name = choose_file(lora, self._names(), "hub repository")
        try:
            return self._file(name)
        except _NoSuchFile:
            raise self._failed(f"the hub lists the file {name}, but does not have it") from None

    def _names(self) -> list[str]:
        """Returns the names of the repository's LoRA files, as the hub lists them."""
        hurry = replace(pace_of(self.settings), total_s=LISTING_S)
        with temporary_folder(self.settings) as folder:
            try:
                path = fetch_file(
                    f"{hub_endpoint(self.settings)}/api/models/{self.lora.path}",
                    folder,
                    max_bytes=MOST_LISTED,
                    pace=hurry,
                    transport=self.transport,
                    check=self.check,
                    hooks={"request": [self._authorise], "response": [self._check_access]},
                )
            except _NoSuchFile:
                self._no_repository()
            except FileTooLarge:
                raise InvalidRequest(
                    f"The hub repository {self.lora.path} has too many files to list: name one as weight_name.",
                    value=self.lora.path,
                ) from None
            content = path.read_bytes()
        try:
            names = [item["rfilename"] for item in json.loads(content).get("siblings", ())]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise self._failed("the hub's list of its files cannot be read") from None
        return [name for name in names if isinstance(name, str) and _is_plain(name)]

    def _file(self, name: str) -> HubLora:
        """Returns the repository's file at the path `name`, after a download if its newest version is not here yet.

        Raises `_NoSuchFile` if the hub has no such file, and `DownloadFailed` for all other failures.
        """
        address, seen = f"{hub_endpoint(self.settings)}/{self.lora.path}/resolve/main/{quote(name)}", _Seen()

        def begin(request: httpx.Request) -> None:
            self._authorise(request)
            if request.url == address:  # and not a redirect
                seen.version = seen.sha256 = None

        def find_here(answer: httpx.Response) -> None:
            self._check_access(answer)
            seen.add(answer, is_from_hub=self._is_hub(answer.url))
            self.has_answered = self.has_answered or seen.version is not None
            here = None if seen.version is None else self._place(name, seen.version)
            if here is not None and here.is_file() and mark_used(here):
                raise _IsHere(here)

        try:
            with unfinished_folder(self.settings) as temporary:
                path = fetch_file(
                    address,
                    temporary,
                    max_bytes=self.settings.max_lora_bytes,
                    pace=pace_of(self.settings),
                    transport=self.transport,
                    check=self.check,
                    hooks={"request": [begin], "response": [find_here]},
                )
                return HubLora(self._keep(path, name, seen), is_new=True)
        except _IsHere as here:
            return HubLora(here.path, is_new=False)

    def _keep(self, path: Path, name: str, seen: "_Seen") -> Path:
        """Verifies the downloaded file at `path`, moves it to its final path, and returns that path.

        name: the file's name on the hub.
        seen: the version and the SHA-256 that the hub has stated for it.
        Raises `DownloadFailed` if the hub stated no version, or if the SHA-256 differs.
        """
        if seen.version is None:
            raise self._failed(f"the hub does not say which version of {name} it has sent (ETag)")
        if seen.sha256 not in (None, sha256(path, self.check)):
            raise self._failed(f"{name} came damaged: its SHA-256 is not the hub's")
        target = self._place(name, seen.version)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise self._failed(f"{name} is the name of a file and of a folder") from None
        delete_oldest(self.settings)
        return target

    def _place(self, name: str, version: str) -> Path:
        return self.folder / version / name

    def _is_hub(self, url: httpx.URL) -> bool:
        hub = httpx.URL(hub_endpoint(self.settings))
        return (url.scheme, url.host, url.port) == (hub.scheme, hub.host, hub.port)

    def _authorise(self, request: httpx.Request) -> None:
        """Adds the access token to a request, unless it goes to another host than the hub."""
        if self.token is not None and self._is_hub(request.url):
            request.headers["Authorization"] = f"Bearer {self.token}"

    def _check_access(self, answer: httpx.Response) -> None:
        """Raises an error if `answer` is the hub's refusal of a request (status 401, 403 or 404).

        The error is `_NoSuchFile` if only the file is missing, otherwise `DownloadFailed`, which says why.
        """
        code, status = answer.headers.get("x-error-code"), answer.status_code
        if status not in (401, 403, 404) or not self._is_hub(answer.url):
            return
        if code == "GatedRepo":
            raise self._failed(GATED)
        if code == "RepoNotFound" or (status == 401 and self.token is None):
            self._no_repository()
        if status == 404:
            raise _NoSuchFile
        raise self._failed(
            f"the hub refuses access (status {status})"
            + ("" if self.token is None else "; is LONGTAKE_HF_TOKEN right?")
        )

    def _no_repository(self) -> NoReturn:
        raise self._failed(NO_REPOSITORY)

    def _failed(self, reason: str) -> DownloadFailed:
        return DownloadFailed(f"{self.lora.path} cannot be fetched: {reason}.", value=self.lora.path)


@dataclass
class _Seen:
    """Facts about a file, read from the headers of the responses to its download.

    version: a short name of its version, which is safe in a path; None if no response names one.
    sha256: its SHA-256 in hexadecimal; None if no response names it.
    """

    version: str | None = None
    sha256: str | None = None

    def add(self, answer: httpx.Response, *, is_from_hub: bool) -> None:
        """Reads the version and the SHA-256 from the headers of one more answer, if they have them.

        The hub redirects a download of a large file to another host. The redirect's header `X-Linked-Etag` has the
        file's SHA-256.

        is_from_hub: True if the hub itself sent the answer, False for another host.
        """
        linked = answer.headers.get("x-linked-etag") if is_from_hub else None
        tag = linked or (answer.headers.get("etag") if answer.is_success and self.version is None else None)
        if not tag:
            return
        text = tag.strip().removeprefix("W/").strip('"').lower()
        is_hexadecimal = re.fullmatch("[0-9a-f]{16,128}", text) is not None
        self.version = (text if is_hexadecimal else hashlib.sha256(text.encode()).hexdigest())[:16]
        self.sha256 = text if linked and is_hexadecimal and len(text) == 64 else None


def _is_plain(name: str) -> bool:
    """Returns True if the name of a file in a repository ends with .safetensors and is safe as a path inside a folder.

    Returns False for a name that is too long, is absolute, leads out of the folder, or has a backslash or an
    unprintable character.
    """
    try:
        parts = [part.encode() for part in name.split("/")]
    except UnicodeError:  # half a character
        return False
    is_short = len(name) <= MOST_NAME and all(0 < len(part) <= _MOST_PART for part in parts)
    return (
        is_short and name.endswith(SUFFIX) and name.isprintable() and "\\" not in name and not {b".", b".."} & {*parts}
    )
