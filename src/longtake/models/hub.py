"""The model hub (Hugging Face): lists the files of repositories, and downloads them. Needs no torch."""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from longtake.errors import DownloadFailed, FileTooLarge, LongtakeError, machine_error, os_reason
from longtake.media.fetch import environment_proxy
from longtake.models.hub_access import GATED, NO_REPOSITORY, HubAccess, hub_transport, is_plain
from longtake.settings import Settings
from longtake.video import CHECK_EVERY_S, Check

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


def _token(settings: Settings) -> str | Literal[False]:
    """Returns the access token for the hub from the settings, or False if they have none.

    False tells the hub's library to send no access token, not even one that is stored on this machine.
    """
    return settings.hf_token.get_secret_value() if settings.hf_token else False


def files(repo: str, settings: Settings) -> list[HubFile]:
    """Returns the files of a repository. Those whose name is no plain path are left out.

    Raises `DownloadFailed` if the Hugging Face hub does not list the files, if the list is too long (MOST_LISTED), or
    if `settings.offline` is True. Raises OSError if this machine is at fault (see `errors.TEMPORARY`), for example
    because too many files are open.
    """
    access = HubAccess(repo, settings, _token(settings) or None, hub_transport(settings))
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
    the same file wait, in this process and in others.

    on_bytes: a callback that gets the number of bytes that have arrived since its last call. While the file is
        verified, or another call has it, it gets 0. For a file that is there already, it gets the file's size, once.
        It may raise a `LongtakeError` to end the work.
    Raises `DownloadFailed` if the file cannot be downloaded, does not fit on the disk or is damaged. Raises OSError if
    this machine is at fault (see `errors.TEMPORARY`), for example because its disk fails.
    """
    if not is_plain(file.path):
        raise DownloadFailed(f"{file.repo} names the file {file.path[:200]!r}, which is no plain path.")
    target = folder / file.path
    if settings.offline and not _is_here(target, file):
        raise DownloadFailed(f"{file.path} of {file.repo} is not here, and LONGTAKE_OFFLINE is set.")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _lock(_hidden(folder, file, ".lock"), on_bytes):
            if _is_here(target, file):
                on_bytes(file.num_bytes)
            else:
                _download(file, folder, settings, on_bytes)
    except LongtakeError:
        raise
    except Exception as error:  # transport, access and disk errors of several libraries
        _raise_failed(file.repo, error)
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


def _download(file: HubFile, folder: Path, settings: Settings, on_bytes: OnBytes) -> None:
    """Downloads a file, verifies its size and its SHA-256, and then moves it to `folder` / `file.path`.

    Until then the file is in a folder of its own. A killed process leaves that folder, and the next call deletes it.

    on_bytes: a callback that gets the number of bytes that have arrived since its last call. It may raise an error to
        end the work.
    Raises `DownloadFailed` if the file cannot be downloaded, does not fit on the disk or is damaged, and OSError if
    this machine is at fault.
    """
    from huggingface_hub import hf_hub_download

    unfinished = _hidden(folder, file, ".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    free = shutil.disk_usage(folder).free
    if free < file.num_bytes:
        raise DownloadFailed(
            f"The disk for downloads has {free} bytes free; {file.path} of {file.repo} needs {file.num_bytes}."
        )
    arrived = 0

    def count(num_bytes: int) -> None:
        nonlocal arrived
        arrived += num_bytes
        if arrived > file.num_bytes + _PIECE_BYTES:
            raise DownloadFailed(f"The hub sends more than the {file.num_bytes} bytes of {file.path} of {file.repo}.")
        on_bytes(num_bytes)

    target = folder / file.path
    try:
        hf_hub_download(
            file.repo,
            file.path,
            local_dir=unfinished,
            endpoint=settings.hf_endpoint,
            token=_token(settings),
            tqdm_class=_progress_class(count),
        )
        _verify(unfinished / file.path, file, on_bytes)
        target.parent.mkdir(parents=True, exist_ok=True)
        (unfinished / file.path).replace(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _hidden(folder: Path, file: HubFile, suffix: str) -> Path:
    """Returns the path of a helper file of the download of `file`, in a hidden folder of `folder`. It ends with
    `suffix`."""
    return folder / ".cache" / "longtake" / f"{file.path}{suffix}"


def _progress_class(on_bytes: OnBytes) -> type[Any]:
    """Returns a class of progress bars that draw nothing, and call `on_bytes` with the number of new bytes.

    The hub's library takes a class, because it creates its progress bars itself. It may create two for one file: one
    for the file's bytes, and one for the same bytes on their way through the network. Only the first one counts bytes;
    the others call `on_bytes` with 0.
    """
    from tqdm import tqdm  # type: ignore[import-untyped]

    bars: list[Any] = []

    class BytesReported(tqdm):  # type: ignore[misc]
        """A progress bar that calls `on_bytes` and draws nothing."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **(kwargs | {"disable": True}))
            bars.append(self)
            self.update(kwargs.get("initial") or 0)

        def update(self, n: float | None = 1) -> None:
            on_bytes(int(n or 0) if self is bars[0] else 0)

    return BytesReported


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


def _raise_failed(repo: str, error: Exception) -> NoReturn:
    """Raises `DownloadFailed`, with a sentence that tells users why `repo` could not be read or downloaded.

    If this machine is at fault, for example because its disk is full, raises the error of the operating system instead.

    error: the exception of the hub's library.
    """
    ours = machine_error(error)
    if ours is not None:
        raise ours from None
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):
        reason = GATED
    elif isinstance(error, RepositoryNotFoundError):
        reason = NO_REPOSITORY
    elif isinstance(error, OSError) and error.strerror:
        reason = os_reason(error)  # the error's own text names a path of this machine
    else:
        first_line = str(error).partition("\n")[0][:150]
        proxy = environment_proxy(constants.ENDPOINT)
        through = "" if proxy is None else f" through the proxy {proxy} (set in the environment)"
        reason = f"the hub did not answer{through} ({type(error).__name__}: {first_line})"
    raise DownloadFailed(f"{repo} cannot be fetched: {reason}.", value=repo) from error
