"""Tells the processes of this machine apart, also from later ones with the same process id. Linux only."""

import os
from pathlib import Path


def boot_id() -> str:
    """Returns an id of this machine's current boot and process-id namespace. Empty where the system has none."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def start_ticks(pid: int) -> int | None:
    """Returns when a process of this machine started, in clock ticks since the boot. None if it is gone or a zombie."""
    try:
        _, _, rest = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")
    except OSError:
        return None
    state, *fields = rest.split()
    return None if state in (b"Z", b"X") else int(fields[18])
