"""Downloads LoRAs from the hub (Hugging Face), within the same limits as files at any other URL. Needs no torch.

The hub's own library is not used: it has no lower limit for the rate of a download, and reacts slowly to a
cancellation.
"""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote
from weakref import WeakValueDictionary

import httpx

from longtake.errors import DownloadFailed, FileTooLarge, InvalidRequest
from longtake.media.fetch import fetch_file, pace_of
from longtake.models.hub import sha256
from longtake.models.hub_access import HubAccess, NoSuchFile, hub_endpoint, is_plain
from longtake.models.lora_downloads import delete_oldest, last_use, mark_used, unfinished_folder
from longtake.models.lora_names import SUFFIX, Lora, choose_file
from longtake.settings import Settings
from longtake.video import CHECK_EVERY_S, Check, no_check

MOST_LISTED = 2**20
"""The largest number of bytes of the Hugging Face hub's list of a repository's files. A list of 3,000 files has
fewer."""

_LOCKS: WeakValueDictionary[Path, threading.Lock] = WeakValueDictionary()
_LOCKS_CHANGE = threading.Lock()


@dataclass(frozen=True)
class HubLora:
    """The file of a LoRA on the Hugging Face hub.

    path: where it is on this machine.
    is_new: True if it was downloaded now, and not earlier.
    """

    path: Path
    is_new: bool


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
    folder = _folder(lora, home)
    repository = _Repository(lora, folder, HubAccess(lora.path, settings, token, transport, check))
    with _one_at_a_time(folder / (lora.weight_name or ""), check):
        return _newest_or_last_used(repository)


def check_there(
    lora: Lora, settings: Settings, home: Path, *, transport: httpx.BaseTransport | None, check: Check
) -> None:
    """Raises the error of `download` if that would find no file. Only asks the hub, and downloads nothing.

    The arguments are those of `download`.
    """
    access = HubAccess(lora.path, settings, None, transport, check)
    _newest_or_last_used(_Repository(lora, _folder(lora, home), access, only_asks=True))


def _folder(lora: Lora, home: Path) -> Path:
    return home / lora.path.replace("/", "--")


def _newest_or_last_used(repository: "_Repository") -> HubLora:
    """Returns the newest version of a LoRA's file, or the last used one if the hub does not name the newest."""
    try:
        return repository.newest()
    except DownloadFailed:
        found = None if repository.has_answered else _last_used(repository.lora, repository.folder)
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


@dataclass
class _Repository:
    """A hub repository that has a LoRA.

    lora: the LoRA as the request names it.
    folder: the folder of the repository's files on this machine.
    access: asks the Hugging Face hub for the files of the repository.
    only_asks: True ends a download as soon as the hub has said that it has the file. The returned path then need not
        exist.
    has_answered: True as soon as the hub has named the newest version of the LoRA's file.
    """

    lora: Lora
    folder: Path
    access: HubAccess
    only_asks: bool = False
    has_answered: bool = field(default=False, init=False)

    def newest(self) -> HubLora:
        """Returns the newest version of the LoRA's file. Downloads it if it is not on this machine.

        Raises `DownloadFailed` if there is no such file or the download fails, `InvalidRequest` if the LoRA names no
        file and the repository does not have exactly one, and `FileTooLarge` above `settings.max_lora_bytes`.
        """
        self.access.check_online()
        lora = self.lora
        if lora.weight_name is not None and lora.weight_name.endswith(SUFFIX) and is_plain(lora.weight_name):
            try:
                return self._file(lora.weight_name)
            except NoSuchFile:
                pass  # the list says which files there are
        name = choose_file(lora, self._names(), "hub repository")
        try:
            return self._file(name)
        except NoSuchFile:
            raise self.access.failed(f"the hub lists the file {name}, but does not have it") from None

    def _names(self) -> list[str]:
        """Returns the names of the repository's LoRA files, as the Hugging Face hub lists them."""
        try:
            entries = self.access.listed(MOST_LISTED)
        except FileTooLarge:
            raise InvalidRequest(
                f"The hub repository {self.lora.path} has too many files to list: name one as weight_name.",
                value=self.lora.path,
            ) from None
        return [entry["rfilename"] for entry in entries if entry["rfilename"].endswith(SUFFIX)]

    def _file(self, name: str) -> HubLora:
        """Returns the repository's file at the path `name`, after a download if its newest version is not here yet.

        Raises `NoSuchFile` if the Hugging Face hub has no such file, and `DownloadFailed` for all other failures.
        """
        address, seen = f"{hub_endpoint(self.access.settings)}/{self.lora.path}/resolve/main/{quote(name)}", _Seen()

        def begin(request: httpx.Request) -> None:
            self.access.authorise(request)
            if request.url == address:  # and not a redirect
                seen.version = seen.sha256 = None

        def find_here(answer: httpx.Response) -> None:
            self.access.check_answer(answer)
            seen.add(answer, is_from_hub=self.access.is_hub(answer.url))
            self.has_answered = self.has_answered or seen.version is not None
            here = None if seen.version is None else self._place(name, seen.version)
            if here is not None and self.only_asks:
                raise _IsHere(here)
            if here is not None and here.is_file() and mark_used(here):
                raise _IsHere(here)

        try:
            with unfinished_folder(self.access.settings) as temporary:
                path = fetch_file(
                    address,
                    temporary,
                    max_bytes=self.access.settings.max_lora_bytes,
                    pace=pace_of(self.access.settings),
                    transport=self.access.transport,
                    check=self.access.check,
                    hooks={"request": [begin], "response": [find_here]},
                )
                return HubLora(self._keep(path, name, seen), is_new=True)
        except _IsHere as here:
            return HubLora(here.path, is_new=False)

    def _keep(self, path: Path, name: str, seen: "_Seen") -> Path:
        """Verifies the downloaded file at `path`, moves it to its final path, and returns that path.

        name: the file's name on the Hugging Face hub.
        seen: the version and the SHA-256 that the hub has stated for it.
        Raises `DownloadFailed` if the hub stated no version, or if the SHA-256 differs.
        """
        if seen.version is None:
            raise self.access.failed(f"the hub does not say which version of {name} it has sent (ETag)")
        if seen.sha256 not in (None, sha256(path, self.access.check)):
            raise self.access.failed(f"{name} came damaged: its SHA-256 is not the hub's")
        target = self._place(name, seen.version)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise self.access.failed(f"{name} is the name of a file and of a folder") from None
        delete_oldest(self.access.settings)
        return target

    def _place(self, name: str, version: str) -> Path:
        return self.folder / version / name


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

        is_from_hub: True if the Hugging Face hub itself sent the answer, False for another host.
        """
        linked = answer.headers.get("x-linked-etag") if is_from_hub else None
        tag = linked or (answer.headers.get("etag") if answer.is_success and self.version is None else None)
        if not tag:
            return
        text = tag.strip().removeprefix("W/").strip('"').lower()
        is_hexadecimal = re.fullmatch("[0-9a-f]{16,128}", text) is not None
        self.version = (text if is_hexadecimal else hashlib.sha256(text.encode()).hexdigest())[:16]
        self.sha256 = text if linked and is_hexadecimal and len(text) == 64 else None
