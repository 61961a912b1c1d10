"""Lets requests wait when the server's machine fails, for example because the disk is full."""

import shutil
from collections.abc import Callable
from pathlib import Path
from time import monotonic

ROOM_BYTES = 16 * 1024**2
"""With less free disk space than this, no attempt begins again, and none counts as failed."""

PAUSE_S = 3.0
"""Seconds before a request, or the download of its files, is tried again the first time. Each further pause doubles."""

LONGEST_PAUSE_S = 60.0
"""The longest of these pauses in seconds."""

LOOK_S = 0.25
"""Seconds between two looks at the free disk space."""


def pause_s(earlier: int) -> float:
    """Returns the seconds to wait before the next try, if there were `earlier` pauses before (see PAUSE_S)."""
    doublings = min(earlier, 30)  # With many more the result would be too large for a float.
    return min(PAUSE_S * 2.0**doublings, LONGEST_PAUSE_S)


def has_room(folder: Path) -> bool:
    """Returns False if the disk of a folder, or of the one in which it would be, has less than 16 MiB (ROOM_BYTES) of
    space. Returns True if that is unknown."""
    free = free_bytes(folder)
    return free is None or free >= ROOM_BYTES


def free_bytes(folder: Path) -> int | None:
    """Returns the free bytes of the disk of a folder, or of the one in which it would be; None if unknown."""
    try:
        existing = next((path for path in (folder, *folder.parents) if path.exists()), folder)
        return shutil.disk_usage(existing).free
    except OSError:
        return None


def wait_for_room(folder: Path, pause_s: float, wait: Callable[[float], bool]) -> bool:
    """Waits until a request whose attempt this machine has spoilt may be tried again. Returns True if the attempt
    counts towards the maximum number of attempts.

    - If the disk is full, waits until it has room. The attempt does not count: nothing could succeed meanwhile.
    - Otherwise waits `pause_s` seconds. The attempt counts: perhaps the request needs more than there is.

    `folder`: the folder of the request's files. If the disk is full, they are deleted first, and if it then has room,
        it counts as not full.
    `wait`: waits for the given number of seconds, and returns True if this function shall wait no longer.
    """
    if not has_room(folder):
        shutil.rmtree(folder, ignore_errors=True)
    counts = has_room(folder)
    until = monotonic() + (pause_s if counts else 0)
    while (monotonic() < until or not has_room(folder)) and not wait(LOOK_S):
        pass
    return counts
