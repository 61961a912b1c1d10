"""What a slot does when its machine fails, for example because the disk is full: the request waits."""

import shutil
from collections.abc import Callable
from pathlib import Path
from time import monotonic

ROOM_BYTES = 16 * 1024**2
"""With less free disk space than this, no attempt begins again, and none counts as failed."""

PAUSE_S = 3.0
"""Seconds before a request is tried again after its first attempt, if that counts. Each further pause doubles."""

LOOK_S = 0.25
"""Seconds between two looks at the free disk space."""


def has_room(folder: Path) -> bool:
    """Returns True if the disk of a folder, or of the folder in which it would be, has 16 MiB (ROOM_BYTES) of space."""
    return (free_bytes(folder) or 0) >= ROOM_BYTES


def free_bytes(folder: Path) -> int | None:
    """Returns the free bytes of the disk of a folder, or of the one in which it would be; None if unknown."""
    existing = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    try:
        return shutil.disk_usage(existing).free
    except OSError:
        return None


def wait_for_room(folder: Path, attempt: int, wait: Callable[[float], bool]) -> bool:
    """Waits until a request whose attempt this machine has spoilt may be tried again. Returns True if the attempt
    counts towards the maximum number of attempts.

    - If the disk is full, waits until it has room. The attempt does not count: nothing could succeed meanwhile.
    - Otherwise waits some seconds (see PAUSE_S). The attempt counts: perhaps the request needs more than there is.

    `folder`: the folder of the request's files. If the disk is full, they are deleted first, and if it then has room,
        it counts as not full.
    `attempt`: the number of the attempt; the first is 1.
    `wait`: waits for the given number of seconds, and returns True if this function shall wait no longer.
    """
    if not has_room(folder):
        shutil.rmtree(folder, ignore_errors=True)
    counts = has_room(folder)
    until = monotonic() + (PAUSE_S * 2 ** (attempt - 1) if counts else 0)
    while (monotonic() < until or not has_room(folder)) and not wait(LOOK_S):
        pass
    return counts
