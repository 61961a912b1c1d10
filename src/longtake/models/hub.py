"""The model hub (Hugging Face): lists the files of repositories, and downloads them. Needs no torch."""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from longtake.errors import DownloadFailed, FileTooLarge, machine_error, os_reason
from longtake.media.download import Download, Hooks
from longtake.media.fetch import pace_of
from longtake.models.hub_access import HubAccess, NoSuchFile, hub_endpoint, hub_transport, is_plain
from longtake.settings import Settings
from longtake.video import CHECK_EVERY_S, Check, no_check

MOST_LISTED = 2**23
"""The largest number of bytes of the Hugging Face hub's list of a repository's files. A list of 20,000 files has
fewer."""

_PIECE_BYTES = 2**23
"""The number of bytes that are read at once when a file's SHA-256 is computed."""

_SHA256 = re.compile("[0-9a-f]{64}")

OnBytes = Callable[[int], None]
"""A callback that receives the number of bytes that arrived since the last call."""


@dataclass(frozen=True)
class HubFile:
    """A file of a hub repository.

    repo: the repository, as `owner/name`.
    path: the file's path in the repository.
    num_bytes: the file's size.
    sha256: the file's SHA-256 in hexadecimal; None for a small file, for which the Hugging Face hub states none.
    """

    repo: str
    path: str
    num_bytes: int
    sha256: str | None


def _access(repo: str, settings: Settings, check: Check = no_check) -> HubAccess:
    """Returns how a repository is asked for its files, with the access token of the settings.

    check: called again and again. It may raise an exception to end the work.
    """
    token = settings.hf_token.get_secret_value() if settings.hf_token else None
    return HubAccess(repo, settings, token, hub_transport(settings), check)


def files(repo: str, settings: Settings) -> list[HubFile]:
    """Returns the files of a repository. Those whose name is no plain path are left out.

    Raises `DownloadFailed` if the Hugging Face hub does not list the files, if the list is too long (MOST_LISTED), or
    if `settings.offline` is True. Raises OSError if this machine is at fault (see `errors.TEMPORARY`), for example
    because too many files are open.
    """
    access = _access(repo, settings)
    access.check_online()
    try:
        entries = access.listed(MOST_LISTED, with_sizes=True)
        return [_hub_file(repo, entry) for entry in entries]
    except FileTooLarge:
        raise access.failed(f"the hub's list of its files has more than {MOST_LISTED} bytes") from None
    except (ValueError, LookupError, TypeError):
        raise access.failed("the hub's list of its files cannot be read") from None


def _hub_file(repo: str, entry: Mapping[str, Any]) -> HubFile:
    """Returns the file that an entry of the Hugging Face hub's list describes.

    Raises ValueError, LookupError or TypeError if the entry has no size, or a malformed one or a malformed SHA-256.
    """
    size, stored_apart = entry["size"], entry.get("lfs")
    digest = stored_apart["sha256"] if stored_apart else None
    if type(size) is not int or size < 0 or (digest is not None and not _SHA256.fullmatch(digest)):
        raise ValueError
    return HubFile(repo, entry["rfilename"], size, digest)


def fetch(
    file: HubFile,
    folder: Path,
    settings: Settings,
    on_bytes: OnBytes = lambda _: None,
) -> Path:
    """Downloads a file to `folder` / `file.path`, and returns that path.

    A file of the right size that is there already is not downloaded again. If the connection breaks, this call
    continues the download; but if the call fails, the next one begins anew. After a download, the size is verified, and
    also the SHA-256 if the Hugging Face hub states one. While one call downloads or verifies the file, other calls for
    the same file wait, in this process and in others. The hosts to which the hub redirects the download must be public,
    or trusted by the settings, and not slower than the settings allow.

    on_bytes: a callback that gets the number of bytes that have arrived since its last call. It is called several times
        a second, also with 0: while nothing arrives, the file is verified, or another call has it. For a file that is
        there already, it gets the file's size, once. It may raise a `LongtakeError` to end the work.
    Raises `DownloadFailed` if the file cannot be downloaded, does not fit on the disk or is damaged. Raises OSError if
    this machine is at fault (see `errors.TEMPORARY`), for example because its disk fails.
    """
    if not is_plain(file.path):
        raise DownloadFailed(f"{file.repo} names the file {file.path[:200]!r}, which is no plain path.")
    access, target = _access(file.repo, settings, lambda: on_bytes(0)), folder / file.path
    if not _is_here(target, file):
        access.check_online()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(_hidden(folder, file, ".lock"), on_bytes):
            if _is_here(target, file):
                on_bytes(file.num_bytes)
            else:
                _download(file, folder, access, on_bytes)
    except OSError as error:
        if (ours := machine_error(error)) is not None:
            raise ours from None
        raise access.failed(os_reason(error)) from error  # the error's own text names a path of this machine
    return target


def _is_here(target: Path, file: HubFile) -> bool:
    """Returns True if there is a file of the right size at `target`."""
    return target.is_file() and target.stat().st_size == file.num_bytes


@contextmanager
def _lock(path: Path, on_bytes: OnBytes) -> Iterator[None]:
    """Context manager for a block that only one thread of all processes on this machine may run at a time.

    path: the lock's file. It is created, with its folder.
    on_bytes: called with 0 again and again while another thread is in the block. It may raise an exception to end the
        wait.
    """
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(WeakFileLock(path, timeout=CHECK_EVERY_S))
                break
            except TimeoutError:
                on_bytes(0)
        yield


def _download(file: HubFile, folder: Path, access: HubAccess, on_bytes: OnBytes) -> None:
    """Downloads a file, verifies its size and its SHA-256, and then moves it to `folder` / `file.path`.

    Until then the file has another path. A killed process leaves it there, and the next call deletes it.

    on_bytes: a callback that gets the number of bytes that have arrived since its last call. It may raise an error to
        end the work.
    Raises `DownloadFailed` if the file cannot be downloaded, does not fit on the disk or is damaged, and OSError if
    this machine is at fault.
    """
    unfinished, target = _hidden(folder, file, ".part"), folder / file.path
    unfinished.unlink(missing_ok=True)
    free = shutil.disk_usage(folder).free
    if free < file.num_bytes:
        raise DownloadFailed(
            f"The disk for downloads has {free} bytes free; {file.path} of {file.repo} needs {file.num_bytes}."
        )
    address = f"{hub_endpoint(access.settings)}/{quote(file.repo)}/resolve/main/{quote(file.path)}"
    hooks: Hooks = {"request": [access.authorise], "response": [access.check_answer]}
    pace = pace_of(access.settings)
    # At the lowest rate a large file takes longer than other downloads may last.
    pace = replace(pace, total_s=pace.total_s + file.num_bytes / pace.min_rate)
    try:
        Download(address, unfinished, file.num_bytes, pace, access.transport, access.check, hooks, on_bytes).run()
        _verify(unfinished, file, on_bytes)
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished.replace(target)
    except NoSuchFile:
        raise access.failed(f"the hub lists the file {file.path}, but does not have it") from None
    except FileTooLarge:
        raise access.failed(f"the hub sends more than the {file.num_bytes} bytes of {file.path}") from None
    finally:
        unfinished.unlink(missing_ok=True)


def _hidden(folder: Path, file: HubFile, suffix: str) -> Path:
    """Returns the path of a helper file of the download of `file`, in a hidden folder of `folder`. It ends with
    `suffix`. Its name is a hash, so that no two files of a repository (such as `a` and `a.part/b`) get the same one."""
    return folder / ".cache" / "longtake" / f"{hashlib.sha256(file.path.encode()).hexdigest()[:32]}{suffix}"


def _verify(path: Path, file: HubFile, on_bytes: OnBytes) -> None:
    """Raises `DownloadFailed` if the size or the SHA-256 of a download is not the one that the Hugging Face hub states.

    on_bytes: called with 0 between the pieces of the file. It may raise an exception to end the work.
    """
    size = path.stat().st_size
    if size != file.num_bytes:
        raise DownloadFailed(f"{file.path} of {file.repo} came with {size} bytes instead of {file.num_bytes}.")
    if file.sha256 is not None and file.sha256 != sha256(path, lambda: on_bytes(0)):
        raise DownloadFailed(f"{file.path} of {file.repo} came damaged: its SHA-256 is not the hub's.")


def sha256(path: Path, check: Check) -> str:
    """Returns the SHA-256 of a file in hexadecimal.

    check: called after each piece of the file is read. It may raise an exception to end the work.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
            check()
    return digest.hexdigest()
