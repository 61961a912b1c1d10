"""Identifies processes of this machine by their start time, because process ids are reused. Works on Linux only.

On other systems `boot_id` returns an empty string and `start_ticks` returns None.
"""

import os
from pathlib import Path


def boot_id() -> str:
    """Returns an id of the machine's current boot and of this process's PID namespace.

    Returns an empty string on systems other than Linux.
    """
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def start_ticks(pid: int) -> int | None:
    """Returns the time when the process `pid` started, in clock ticks since the machine's boot.

    Returns None if the process has ended, even if it remains as a zombie. Also returns None on systems other than
    Linux.
    """
    try:
        _, _, rest = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")
    except OSError:
        return None
    state, *fields = rest.split()
    return None if state in (b"Z", b"X") else int(fields[18])
