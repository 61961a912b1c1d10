"""The LoRA that a request names becomes a file on this machine: below the LoRA folder, from a URL, or from the hub."""

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
"""Downloads a URL into a new file of a folder, of at most so many bytes; it refuses addresses that are not public."""

FETCHED = ".fetched"
_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


@dataclass(frozen=True)
class Lora:
    """A LoRA as a request names it: `path` is a URL, a hub repository, or a file or folder below the LoRA folder.

    `scale` multiplies its effect (1 = as trained); `weight_name` picks the file where there are several.
    """

    path: str
    scale: float = 1.0
    weight_name: str | None = None


def resolve(lora: Lora, settings: Settings, *, fetch: Fetch | None = None, any_path: bool = False) -> Path:
    """The file of a LoRA. `any_path`: the machine's own user asks, as on the command line, so that it may lie anywhere
    and the hub is asked with the token of the settings.

    Raises `InvalidRequest` (or its `DownloadFailed`, `FileTooLarge`) with a sentence.
    """
    try:
        local = _local(lora, settings, any_path=any_path)
    except (ValueError, OSError) as error:  # a NUL byte, an endless name
        raise InvalidRequest(f"The LoRA path {lora.path[:100]!r} is no path: {error}.", value=lora.path) from None
    if local is not None:
        return _sized(local, settings)
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
    name = pick(lora, names, "folder")
    try:
        return inside(place, name)
    except BadCheckpoint:
        raise InvalidRequest(f"The LoRA file {name[:100]!r} leads out of its folder.", value=lora.path) from None


def pick(lora: Lora, names: Sequence[str], kind: str) -> str:
    """The file that is meant among those of a folder or repository."""
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


def _sized(file: Path, settings: Settings) -> Path:
    size = file.stat().st_size
    if size > settings.max_lora_bytes:
        raise FileTooLarge(f"The LoRA {file.name} has {size} bytes; the limit is {settings.max_lora_bytes}.")
    return file


def _from_url(lora: Lora, settings: Settings, fetch: Fetch | None) -> Path:
    folder = settings.loras_dir / FETCHED / "urls"
    target = folder / f"{hashlib.sha256(lora.path.encode()).hexdigest()}.safetensors"
    if target.exists():
        target.touch()
        return target
    if settings.offline or fetch is None:
        raise DownloadFailed(f"The LoRA {lora.path[:200]} cannot be downloaded: there is no network here.")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as passing:
        _sized(fetch(lora.path, Path(passing), settings.max_lora_bytes), settings).rename(target)
    _forget_oldest(settings)
    return target


def _from_hub(lora: Lora, settings: Settings, *, authorised: bool) -> Path:
    folder = settings.loras_dir / FETCHED / lora.path.replace("/", "--")
    try:
        listed = hub.files(lora.path, settings, authorised=authorised)
        files = [file for file in listed if file.path.endswith(".safetensors")]
    except DownloadFailed:
        kept = sorted(folder.glob("*/**/*.safetensors"), key=lambda file: file.stat().st_mtime)
        by_name = {"/".join(file.relative_to(folder).parts[1:]): file for file in kept}
        if not by_name:
            raise
        return by_name[pick(lora, list(by_name), "hub repository")]
    name = pick(lora, [file.path for file in files], "hub repository")
    file = next(file for file in files if file.path == name)
    if file.num_bytes > settings.max_lora_bytes:
        raise FileTooLarge(
            f"{name} of {lora.path} has {file.num_bytes} bytes; the limit is {settings.max_lora_bytes}.",
            value=lora.path,
        )
    version = folder / (file.sha256 or str(file.num_bytes))[:16]
    target = hub.fetch(file, version, settings, authorised=authorised)
    target.touch()
    _forget_oldest(settings)
    return target


def _forget_oldest(settings: Settings) -> None:
    files = (settings.loras_dir / FETCHED).rglob("*.safetensors")
    total = 0
    for file in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True)[1:]:
        total += file.stat().st_size
        if total > settings.lora_disk_bytes:
            file.unlink(missing_ok=True)
