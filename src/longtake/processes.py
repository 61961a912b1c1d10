"""Identities of processes of this machine, and whether such a process has ended."""

import hashlib
import os

from longtake.system import boot_id, start_ticks

UNKNOWN = 0
"""The value for an unknown start time of a process."""


def born(pid: int) -> int:
    """Returns the time when a process started, in clock ticks since the boot; 0 (UNKNOWN) if it is unknown."""
    try:
        return start_ticks(pid) or UNKNOWN
    except OSError:
        return UNKNOWN


def has_ended(pid: int, started: int) -> bool:
    """Returns True only if it is certain that a process of this machine has ended.

    It has ended if there is no process with its id, or one that started at another time. If neither can be found out,
    for example because no file descriptor is free, the result is False.

    pid: the id of the process.
    started: its start time, which `born` returned while it lived. If it is 0 (UNKNOWN), the result is False.

    May be called only on Linux (see `system.boot_id`).
    """
    if started == UNKNOWN:
        return False
    try:
        now = start_ticks(pid)
    except OSError:
        return False
    if now is not None:
        return now != started
    # Linux can hide the processes of other users (hidepid). A signal tells that there is such a process.
    try:
        os.kill(pid, 0)
    except PermissionError:
        return False
    except OSError:
        pass
    return True


def mark() -> str:
    """Returns the identity of this process, with which the name of its temporary folder begins.

    It has the form `machine.pid.born.`. `machine` is a short id of the machine's current boot; it is empty on systems
    other than Linux.
    """
    return f"{_machine()}.{os.getpid()}.{born(os.getpid())}."


def state_of(name: str) -> bool | None:
    """Returns the state of the process that made a folder: True if it lives, False if it has ended, None if unknown.

    The state is unknown if the process ran on another machine, before the last boot or on a system other than Linux,
    or if the name has no mark.

    name: the name of the folder. It begins with the `mark` of the process that made it.
    """
    machine, pid, started, *_ = (*name.split("."), "", "", "")
    if machine == "" or machine != _machine() or not pid.isdigit() or not started.isdigit():
        return None
    if int(started) == UNKNOWN:
        return None
    return not has_ended(int(pid), int(started))


def _machine() -> str:
    boot = boot_id()
    return boot and hashlib.sha256(boot.encode()).hexdigest()[:16]
