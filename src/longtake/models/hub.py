"""The model hub (Hugging Face): lists the files of repositories, and downloads them. Needs no torch."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from longtake.errors import DownloadFailed, LongtakeError, machine_error
from longtake.media.fetch import ANSWER_S, environment_proxy
from longtake.settings import Settings
from longtake.video import CHECK_EVERY_S, Check

GATED = "its licence must be accepted on the hub first, and LONGTAKE_HF_TOKEN set"
"""The end of an error message: why the hub refuses access to a repository whose licence has to be accepted."""

NO_REPOSITORY = "the hub has no such repository, or it is private and LONGTAKE_HF_TOKEN is not set"
"""The end of an error message: why the hub shows no repository of the requested name."""

_PIECE_BYTES = 2**23
"""The number of bytes that are read at once when a file's SHA-256 is computed."""

OnBytes = Callable[[int], None]
"""A callback that receives the number of bytes that arrived since the last call."""


@dataclass(frozen=True)
class HubFile:
    """A file of a hub repository.

    repo: the repository, as `owner/name`.
    path: the file's path in the repository.
    num_bytes: the file's size.
    sha256: the file's SHA-256 in hexadecimal; None for a small file, for which the hub states none.
    """

    repo: str
    path: str
    num_bytes: int
    sha256: str | None


def _token(settings: Settings) -> str | bool:
    """Returns the access token for the hub from the settings, or False if they have none.

    False tells the hub's library to send no access token, not even one that is stored on this machine.
    """
    return settings.hf_token.get_secret_value() if settings.hf_token else False


def files(repo: str, settings: Settings, *, answer_s: float = ANSWER_S) -> list[HubFile]:
    """Returns the files of a repository.

    answer_s: the longest time in seconds that the hub may stay silent.
    Raises `DownloadFailed` if the hub does not list the files, or if `settings.offline` is True. Raises OSError if
    this machine is at fault (see `errors.TEMPORARY`), for example because too many files are open.
    """
    from huggingface_hub import HfApi

    if settings.offline:
        raise DownloadFailed(f"The hub cannot be asked for {repo}: LONGTAKE_OFFLINE is set.")
    try:
        info = HfApi(endpoint=settings.hf_endpoint, token=_token(settings)).model_info(
            repo, files_metadata=True, timeout=answer_s
        )
    except Exception as error:  # transport, access and naming errors of several libraries
        _raise_failed(repo, error)
    return [
        HubFile(repo, item.rfilename, item.size or 0, item.lfs.sha256 if item.lfs else None)
        for item in info.siblings or ()
    ]


def fetch(
    file: HubFile,
    folder: Path,
    settings: Settings,
    on_bytes: OnBytes = lambda _: None,
) -> Path:
    """Downloads a file to `folder` / `file.path`, and returns that path.

    A file of the right size that is there already is not downloaded again. If the connection breaks, this call
    continues the download; but if the call fails, the next one begins anew. After a download, the size is verified, and
    also the SHA-256 if the hub states one. While one call downloads or verifies the file, other calls for the same file
    wait, in this process and in others.

    on_bytes: a callback that gets the number of bytes that have arrived since its last call. While the file is
        verified, or another call has it, it gets 0. For a file that is there already, it gets the file's size, once.
        It may raise a `LongtakeError` to end the work.
    Raises `DownloadFailed` if the file cannot be downloaded, does not fit on the disk or is damaged. Raises OSError if
    this machine is at fault (see `errors.TEMPORARY`), for example because its disk fails.
    """
    if ".." in Path(file.path).parts or Path(file.path).is_absolute():
        raise DownloadFailed(f"{file.repo} names the file {file.path[:200]!r}, which is no plain path.")
    target = folder / file.path
    if settings.offline and not _is_here(target, file):
        raise DownloadFailed(f"{file.path} of {file.repo} is not here, and LONGTAKE_OFFLINE is set.")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _lock(folder / ".cache" / "longtake" / f"{file.path}.lock", on_bytes):
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
    """Downloads a file to `folder` / `file.path`, and verifies its size and its SHA-256. Deletes a file that is not
    verified, because the next call would take it for a verified one.

    on_bytes: a callback that gets the number of bytes that have arrived since its last call. It may raise an error to
        end the work.
    Raises `DownloadFailed` if the file cannot be downloaded, does not fit on the disk or is damaged, and OSError if
    this machine is at fault.
    """
    from huggingface_hub import hf_hub_download

    free = shutil.disk_usage(folder).free
    if free < file.num_bytes:
        raise DownloadFailed(
            f"The disk for downloads has {free} bytes free; {file.path} of {file.repo} needs {file.num_bytes}."
        )
    target = folder / file.path
    hf_hub_download(
        file.repo,
        file.path,
        local_dir=folder,
        endpoint=settings.hf_endpoint,
        token=_token(settings),
        tqdm_class=_progress_class(on_bytes),
    )
    try:
        _verify(target, file, on_bytes)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _progress_class(on_bytes: OnBytes) -> type[Any]:
    """Returns a class of progress bars that draw nothing, and call `on_bytes` with the number of new bytes.

    The hub's library takes a class, because it creates its progress bars itself.
    """
    from tqdm import tqdm  # type: ignore[import-untyped]

    class BytesReported(tqdm):  # type: ignore[misc]
        """A progress bar that calls `on_bytes` and draws nothing."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **(kwargs | {"disable": True}))
            on_bytes(kwargs.get("initial") or 0)

        def update(self, n: float | None = 1) -> None:
            on_bytes(int(n or 0))

    return BytesReported


def _verify(path: Path, file: HubFile, on_bytes: OnBytes) -> None:
    """Raises `DownloadFailed` if the size or the SHA-256 of a download is not the one that the hub states.

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
        reason = error.strerror  # the error's own text names a path of this machine
    else:
        first_line = str(error).partition("\n")[0][:150]
        proxy = environment_proxy(constants.ENDPOINT)
        through = "" if proxy is None else f" through the proxy {proxy} (set in the environment)"
        reason = f"the hub did not answer{through} ({type(error).__name__}: {first_line})"
    raise DownloadFailed(f"{repo} cannot be fetched: {reason}.", value=repo) from error
