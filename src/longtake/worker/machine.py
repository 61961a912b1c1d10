"""Lets requests wait when the server's machine fails, for example because the disk is full."""

import shutil
from collections.abc import Callable
from pathlib import Path
from time import monotonic

ROOM_BYTES = 16 * 1024**2
"""A disk with less free space than this many bytes counts as full. Requests then wait, and their attempts do not
count as failed."""

PAUSE_S = 3.0
"""Seconds before the first repetition of an attempt that failed because of this machine. Each further pause is twice as
long."""

LONGEST_PAUSE_S = 60.0
"""Longest pause in seconds before an attempt that failed because of this machine is repeated."""

LOOK_S = 0.25
"""Seconds between two checks of the free disk space."""


def pause_s(earlier: int) -> float:
    """Returns the seconds to wait before an attempt that failed because of this machine is repeated: 3, 6, 12 ... 60.

    `earlier`: the number of earlier pauses of this request.
    """
    doublings = min(earlier, 30)  # With many more the result would be too large for a float.
    return min(PAUSE_S * 2.0**doublings, LONGEST_PAUSE_S)


def has_room(folder: Path) -> bool:
    """Returns False if the disk of a folder has less than 16 MiB (ROOM_BYTES) of free space, True if that is unknown.

    If the folder does not exist, its nearest parent folder that exists is checked.
    """
    free = free_bytes(folder)
    return free is None or free >= ROOM_BYTES


def free_bytes(folder: Path) -> int | None:
    """Returns the number of free bytes on the disk of a folder; None if that is unknown.

    If the folder does not exist, its nearest parent folder that exists is used.
    """
    try:
        existing = next((path for path in (folder, *folder.parents) if path.exists()), folder)
        return shutil.disk_usage(existing).free
    except OSError:
        return None


def wait_for_room(folder: Path, pause_s: float, wait: Callable[[float], bool]) -> bool:
    """Waits until a request that failed because of this machine may be tried again.

    Returns True if the failed attempt counts towards the maximum number of attempts.
    - If the disk is full, waits until it has room. The attempt does not count, because no request could succeed.
    - Otherwise waits `pause_s` seconds. The attempt counts, because the request may need more than this machine has.

    `folder`: the folder of the request's files, on the disk that is checked. If the disk is full, this folder is
        deleted first. The disk counts as full only if it is still full afterwards.
    `wait`: waits for the given number of seconds, and returns True if the waiting must end now, for example because the
        server stops. The result is then the same as after a full wait.
    """
    if not has_room(folder):
        shutil.rmtree(folder, ignore_errors=True)
    counts = has_room(folder)
    until = monotonic() + (pause_s if counts else 0)
    while (monotonic() < until or not has_room(folder)) and not wait(LOOK_S):
        pass
    return counts
