"""The folder of downloaded LoRAs: which callers may use a download, how long it is kept, and what is deleted."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from longtake import clock
from longtake.periodic import Repeating
from longtake.processes import mark
from longtake.settings import Settings, make_folder
from longtake.temporary import delete_unchanged, sweep_folders

FETCHED = ".fetched"
"""The name of the folder of downloaded LoRAs, inside the LoRA folder. Requests cannot name files in it."""

ABANDONED_S = 3600.0
"""After this many seconds without a new byte, an unfinished download counts as left behind by a process that was
killed."""

SWEEP_S = 600.0
"""Seconds between two searches for abandoned downloads."""

_HUB, _CALLERS, _UNFINISHED = "hub", "callers", "unfinished"


def public_folder(settings: Settings) -> Path:
    """Returns the folder of LoRAs that the Hugging Face hub serves without an access token. The requests of all callers
    use it."""
    return settings.loras_dir / FETCHED / _HUB


def private_folder(settings: Settings, caller: str | None) -> Path:
    """Returns the folder of the LoRAs that were downloaded for one caller, from a URL or with an access token.

    No other caller's request uses these files: the URL may contain a secret, or its host may give the file to this
    caller only.

    caller: the id of an API key; None means the user of this machine.
    """
    # A caller without a key has the id "", so the name of this machine's user must not be the hash of any text.
    name = "own" if caller is None else hashlib.sha256(caller.encode()).hexdigest()[:32]
    return settings.loras_dir / FETCHED / _CALLERS / name


@contextmanager
def unfinished_folder(settings: Settings) -> Iterator[Path]:
    """Context manager that gives a new folder for a download, which is deleted at the end of the `with` block.

    First it calls `sweep`, which deletes the folders that killed processes have left.
    """
    sweep(settings)
    make_folder(settings.loras_dir, "loras_dir")
    parent = settings.loras_dir / FETCHED / _UNFINISHED
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=mark(), dir=parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def delete_oldest(settings: Settings) -> None:
    """Deletes the least recently used downloads until the remaining ones fit in `settings.lora_disk_bytes` bytes.

    The most recently used download is always kept, and its bytes do not count.
    """
    found = []
    for file in (settings.loras_dir / FETCHED).rglob("*.safetensors"):
        with suppress(FileNotFoundError):  # another process has deleted it
            stat = file.stat()
            found.append((_last_use(stat), stat.st_size, file))
    total = 0
    for _, size, file in sorted(found, reverse=True)[1:]:
        total += size
        if total > settings.lora_disk_bytes:
            file.unlink(missing_ok=True)


def sweep(settings: Settings, *, abandoned_s: float = ABANDONED_S) -> None:
    """Deletes unfinished downloads of processes that were killed, and downloads in folders that only version 0.1 used.

    - The folder of a process that is known to have ended is deleted. That of a process that is known to live stays.
    - All else is deleted if it has not changed for `abandoned_s` seconds, but not while the system's clock cannot be
      trusted (see `clock.is_steady`).
    """
    root = settings.loras_dir / FETCHED
    sweep_folders(root / _UNFINISHED, abandoned_s)
    if not clock.is_steady():
        return
    before = clock.now() - abandoned_s
    known = {_HUB, _CALLERS, _UNFINISHED}
    outdated = [path for path in root.glob("*") if path.name not in known]
    for path in (*outdated, *root.rglob("*.incomplete")):
        delete_unchanged(path, before)


def last_use(path: Path) -> float:
    """Returns when a download was last used, as Unix time; 0 if it is gone."""
    try:
        return _last_use(path.stat())
    except FileNotFoundError:
        return 0.0


def _last_use(stat: os.stat_result) -> float:
    # Versions before 0.2 changed the modification time of a file that was used.
    return max(stat.st_atime, stat.st_mtime)


def mark_used(path: Path) -> bool:
    """Records that a download was used now. Returns False if it is gone, because another request deleted it.

    Sets the file's access time. Its modification time stays the same: `loras.LoraCache` would read a file with a new
    modification time again.
    """
    try:
        os.utime(path, ns=(int(clock.now() * 1e9), path.stat().st_mtime_ns))
    except FileNotFoundError:
        return False
    return True


def lora_sweeper(settings: Settings, *, every_s: float = SWEEP_S, abandoned_s: float = ABANDONED_S) -> Repeating:
    """Returns the thread that calls `sweep` every `every_s` seconds. The caller must start it.

    abandoned_s: seconds without a change after which an unfinished download is deleted.
    """

    def run() -> float:
        sweep(settings, abandoned_s=abandoned_s)
        return every_s

    return Repeating(
        "LoRA sweeper",
        run,
        failure="Unfinished downloads of LoRAs could not be deleted",
        is_temporary=lambda error: isinstance(error, OSError),
        retry_s=every_s,
    )
