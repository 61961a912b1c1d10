"""Finds the file of the LoRA that a request names: in the LoRA folder, at a URL, or on the hub (Hugging Face)."""

import hashlib
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from longtake.errors import BadCheckpoint, DownloadFailed, FileTooLarge, InvalidRequest
from longtake.models import hub
from longtake.models.safe import inside
from longtake.settings import Settings

Fetch = Callable[[str, Path, int], Path]
"""A function that downloads a URL to a new file in a folder, and returns the file's path.

Its arguments are the URL, the folder and the limit in bytes. It refuses addresses that are not public.
"""

FETCHED = ".fetched"
"""The name of the folder of downloaded LoRAs, inside the LoRA folder."""

_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


@dataclass(frozen=True)
class Lora:
    """A LoRA as a request names it.

    path: an https:// URL, a hub repository (`owner/name`), or a file or folder in the LoRA folder.
    weight_name: the name of the file in the repository or folder; None picks its only .safetensors file.
    """

    path: str
    weight_name: str | None = None


def resolve(lora: Lora, settings: Settings, *, fetch: Fetch | None = None, any_path: bool = False) -> Path:
    """Returns the path of a LoRA's file. A file at a URL or on the hub is downloaded, unless it already was.

    fetch: a function that downloads a URL. With None, only URLs that were downloaded earlier can be used.
    any_path: True allows files anywhere on the disk, and sends the token in the settings to the hub. Set it only for
        the machine's own user, as on the command line.
    Raises `InvalidRequest` if `lora` names no usable file, `DownloadFailed` if the download fails, and `FileTooLarge`
    for a file above `settings.max_lora_bytes`.
    """
    try:
        local = _local(lora, settings, any_path=any_path)
    except (ValueError, OSError) as error:  # raised for a NUL byte or a name that is too long, for example
        raise InvalidRequest(f"The LoRA path {lora.path[:100]!r} is no path: {error}.", value=lora.path) from None
    if local is not None:
        return _within_limit(local, settings)
    if lora.path.lower().startswith("https://"):
        return _from_url(lora, settings, fetch)
    if _SCHEME.match(lora.path):
        raise InvalidRequest(f"The LoRA {lora.path[:100]!r} is not an https:// URL.", value=lora.path)
    if _REPO.fullmatch(lora.path) and ".." not in lora.path:
        return _from_hub(lora, settings, authorised=any_path)
    raise InvalidRequest(
        f"The LoRA {lora.path[:100]!r} is neither a file below the LoRA folder, an https:// URL nor a hub repository.",
        value=lora.path,
    )


def _local(lora: Lora, settings: Settings, *, any_path: bool) -> Path | None:
    """Returns the LoRA's file if `lora.path` is a file or folder on the disk, otherwise None.

    In a folder, `choose_file` chooses the file. Raises `InvalidRequest` if it finds none, or if `any_path` is False and
    the path leads out of the LoRA folder.

    any_path: True allows a path outside the LoRA folder.
    """
    if any_path and Path(lora.path).expanduser().exists():
        place = Path(lora.path).expanduser().resolve()
    else:
        place = settings.loras_dir / lora.path
        if not lora.path or not place.exists():
            return None
        try:
            place = inside(settings.loras_dir, lora.path)
        except BadCheckpoint:
            raise InvalidRequest(
                f"The LoRA path {lora.path[:100]!r} leads out of the LoRA folder.", value=lora.path
            ) from None
    if place.is_file():
        return place
    names = sorted(file.name for file in place.iterdir() if file.suffix == ".safetensors")
    name = choose_file(lora, names, "folder")
    try:
        return inside(place, name)
    except BadCheckpoint:
        raise InvalidRequest(f"The LoRA file {name[:100]!r} leads out of its folder.", value=lora.path) from None


def choose_file(lora: Lora, names: Sequence[str], kind: str) -> str:
    """Returns the name of a LoRA's file: `lora.weight_name`, or if that is None, the only name in `names`.

    names: the names of the files to choose from, in the folder or repository that `lora.path` names.
    kind: "folder" or "hub repository", for messages.

    Raises `InvalidRequest` if `weight_name` is not in `names`, or if it is None and `names` does not have exactly one
    entry.
    """
    listed = ", ".join(names[:20]) or "no .safetensors file"
    if lora.weight_name is not None:
        if lora.weight_name not in names:
            raise InvalidRequest(
                f"The {kind} {lora.path} has no {lora.weight_name[:100]!r}; it has {listed}.", value=lora.weight_name
            )
        return lora.weight_name
    if len(names) != 1:
        reason = f"has several files ({listed}): name one as weight_name" if names else f"has {listed}"
        raise InvalidRequest(f"The {kind} {lora.path} {reason}.", value=lora.path, ctx={"files": list(names)})
    return names[0]


def _within_limit(file: Path, settings: Settings) -> Path:
    """Returns `file` itself. Raises `FileTooLarge` if it has more than `settings.max_lora_bytes` bytes."""
    size = file.stat().st_size
    if size > settings.max_lora_bytes:
        raise FileTooLarge(f"The LoRA {file.name} has {size} bytes; the limit is {settings.max_lora_bytes}.")
    return file


def _from_url(lora: Lora, settings: Settings, fetch: Fetch | None) -> Path:
    """Returns the file of a LoRA at a URL. Each URL is downloaded once; its file is named after the URL's SHA-256.

    Raises `DownloadFailed` if the URL was not downloaded earlier, and the settings are offline or `fetch` is None.
    """
    folder = settings.loras_dir / FETCHED / "urls"
    target = folder / f"{hashlib.sha256(lora.path.encode()).hexdigest()}.safetensors"
    if target.exists():
        target.touch()
        return target
    if settings.offline or fetch is None:
        raise DownloadFailed(f"The LoRA {lora.path[:200]} cannot be downloaded: there is no network here.")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        _within_limit(fetch(lora.path, Path(temporary), settings.max_lora_bytes), settings).rename(target)
    _delete_oldest(settings)
    return target


def _from_hub(lora: Lora, settings: Settings, *, authorised: bool) -> Path:
    """Returns the file of a LoRA in a hub repository. The newest version is downloaded unless it is on this machine.

    If the hub does not list the repository's files, or the settings are offline, an earlier download of the file is
    returned, the most recently used one.

    authorised: True sends the token in the settings, if there is one, to the hub. False sends no token.
    Raises `DownloadFailed` if the files cannot be listed and nothing was downloaded earlier, or if the download fails.
    Raises `InvalidRequest` if `choose_file` does, and `FileTooLarge` for a file above the limit.
    """
    folder = settings.loras_dir / FETCHED / lora.path.replace("/", "--")
    try:
        listed = hub.files(lora.path, settings, authorised=authorised)
        files = [file for file in listed if file.path.endswith(".safetensors")]
    except DownloadFailed:
        cached = sorted(folder.glob("*/**/*.safetensors"), key=lambda file: file.stat().st_mtime)
        by_name = {"/".join(file.relative_to(folder).parts[1:]): file for file in cached}
        if not by_name:
            raise
        return by_name[choose_file(lora, list(by_name), "hub repository")]
    name = choose_file(lora, [file.path for file in files], "hub repository")
    file = next(file for file in files if file.path == name)
    if file.num_bytes > settings.max_lora_bytes:
        raise FileTooLarge(
            f"{name} of {lora.path} has {file.num_bytes} bytes; the limit is {settings.max_lora_bytes}.",
            value=lora.path,
        )
    version = folder / (file.sha256 or str(file.num_bytes))[:16]
    target = hub.fetch(file, version, settings, authorised=authorised)
    target.touch()
    _delete_oldest(settings)
    return target


def _delete_oldest(settings: Settings) -> None:
    """Deletes the least recently used downloads until the remaining ones fit in `settings.lora_disk_bytes` bytes.

    The most recently used download is always kept, and its bytes do not count.
    """
    files = (settings.loras_dir / FETCHED).rglob("*.safetensors")
    total = 0
    for file in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True)[1:]:
        total += file.stat().st_size
        if total > settings.lora_disk_bytes:
            file.unlink(missing_ok=True)
