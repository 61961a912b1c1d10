"""Functions whose work differs between operating systems: for processes, limits, networks, event loops and flushing.

All other modules, except `host_memory`, use only what Linux, macOS and Windows have; `tests/test_system.py` checks
that. Where a system has no means for the work of a function, the function does nothing or returns a default value.
"""

import contextlib
import ctypes
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:  # the decode processes, which start for each file, need no asyncio
    from asyncio import AbstractEventLoop

_F_SETPIPE_SZ, _PIPE_BYTES = 1031, 1 << 20
_BYTES_ACKED = 120
"""The offset in bytes of `tcpi_bytes_acked`, the number of acknowledged bytes, in Linux's `struct tcp_info`."""
_FIRST_WINDOWS_ERROR = 0xC000_0000
_NOBODY = 65534
_MORE_THREADS = 1000
_GIVING_WAY = 5
"""The number that `give_way` adds to a process's niceness. Niceness 19, the largest one, is the lowest priority."""
_CPU_CLOCK_OF_PROCESS = 2
_PR_SET_PDEATHSIG = 1
_CAP_KILL, _CAP_SETUID = 1 << 5, 1 << 7

RUN_ON = ("Linux",)
"""The systems, by the names of `platform.system()`, on which the tests have run."""

SEPARATE_PROCESS: dict[str, Any] = {
    "start_new_session": True,  # has no effect on Windows
    "creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
}
"""Arguments of `subprocess.Popen` for a child process that Ctrl-C in this process's terminal does not reach."""


def kill(process: "subprocess.Popen[bytes]") -> None:
    """Kills a process that was started with SEPARATE_PROCESS, and the processes that it started.

    On Windows only the process itself is killed. Does nothing if the process has ended.
    """
    if process.returncode is not None:
        return
    if not hasattr(os, "killpg"):
        process.kill()
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def end_with_starter() -> None:
    """Makes the kernel kill this process as soon as the thread that started it ends. Does nothing except on Linux.

    So this process also ends if its parent process is killed. Call the function again after a change of the user, which
    undoes this.
    """
    if linux_machine() is not None:
        control(_PR_SET_PDEATHSIG, signal.SIGKILL)


def ignore_stop_signals() -> None:
    """Makes this process ignore SIGTERM and Ctrl-C (SIGINT), as well as each process that it starts.

    For a process whose starter decides when it ends. A service manager such as systemd sends SIGTERM to all processes
    of a service, so without this the process would end at once while its starter still finishes its work.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def control(option: int, value: int) -> None:
    """Sets an attribute of this process by Linux's system call `prctl(option, value)`."""
    ctypes.CDLL(None).prctl(*(ctypes.c_ulong(number) for number in (option, value, 0, 0, 0)))


def end_name(code: int) -> str | None:
    """Returns the name of what ended a process by force, or None if the process ended itself.

    The name is that of a signal, such as "SIGKILL", or on Windows that of an error, such as "error 0xC0000005".

    code: the return code of the process. A negative one is minus the number of a signal. On Windows a process that
        crashed has the number of the error as its return code.
    """
    if code >= _FIRST_WINDOWS_ERROR:
        return f"error 0x{code:X}"
    if code >= 0:
        return None
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def limit_resources(memory_bytes: int, open_files: int) -> None:
    """Limits this process to `memory_bytes` bytes of memory and `open_files` open files.

    The process can then no longer write to files or leave a core dump. On Linux it can start only a limited number of
    threads. A limit that the system lacks is left out: that of the memory on macOS, all limits on Windows.
    """
    limits = {"RLIMIT_AS": memory_bytes, "RLIMIT_CORE": 0, "RLIMIT_FSIZE": 0, "RLIMIT_NOFILE": open_files}
    # The limit of threads applies to all threads of the user, so it is above the number that the machine has now.
    if (threads := num_threads()) is not None:
        limits["RLIMIT_NPROC"] = threads + _MORE_THREADS
    _limit(limits)


def limit_memory(memory_bytes: int) -> None:
    """Limits the address space of this process to `memory_bytes` bytes. macOS and Windows have no such limit."""
    _limit({"RLIMIT_AS": memory_bytes})


def _limit(limits: Mapping[str, int]) -> None:
    """Sets resource limits of this process, except those that the system lacks.

    limits: name of the limit in Python's module `resource`, such as RLIMIT_AS -> its value.
    """
    try:
        import resource
    except ImportError:
        return
    for name, value in limits.items():
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(getattr(resource, name), (value, value))


def give_way() -> None:
    """Lowers the priority of this process, so that other processes get the processor first. Does nothing on Windows."""
    if hasattr(os, "nice"):
        os.nice(_GIVING_WAY)


def num_threads() -> int | None:
    """Returns the number of threads of all processes of this machine; None on systems other than Linux."""
    try:
        return int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
    except (OSError, ValueError, IndexError):
        return None


def allow_open_files(wanted: int) -> int:
    """Lets this process open `wanted` files at a time, or as many as the system permits if that is fewer.

    Returns how many it may open then, at most `wanted`. Windows has no such limit: there `wanted` is returned.
    """
    try:
        import resource
    except ImportError:
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    possible = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def acknowledged_bytes(connection: socket.socket) -> int | None:
    """Returns how many bytes the other end of a TCP connection has acknowledged since its beginning.

    Returns None if the connection is closed, and on systems other than Linux.
    """
    if not sys.platform.startswith("linux"):
        return None
    try:
        facts = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED + 8)
    except OSError:
        return None
    return int.from_bytes(facts[_BYTES_ACKED:], sys.byteorder) if len(facts) == _BYTES_ACKED + 8 else None


def allow_cpu_seconds(seconds: float) -> None:
    """Ends this process by the signal SIGXCPU when it has used `seconds` more seconds of processor time.

    Does nothing on Windows, which has no such limit, and on Linux, where the parent process can measure the time with
    `cpu_seconds`.
    """
    if sys.platform.startswith("linux"):
        return
    try:
        import resource
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    allowed = int(used.ru_utime + used.ru_stime + seconds) + 1
    if hard != resource.RLIM_INFINITY:
        allowed = min(allowed, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CPU, (allowed, hard))


def cpu_seconds(pid: int) -> float | None:
    """Returns the processor time that a process has used, in seconds.

    Returns None if the process has ended, and on systems other than Linux.
    """
    if not sys.platform.startswith("linux"):
        return None
    try:
        # The number of the clock of a process consists of its id, inverted, and of the kind of clock (Linux'
        # include/linux/posix-timers.h).
        return time.clock_gettime(~pid << 3 | _CPU_CLOCK_OF_PROCESS)
    except OSError:
        return None


def thread_count(pid: int) -> int | None:
    """Returns how many threads a process has.

    Returns None if the process has ended, or its facts cannot be read, and on systems other than Linux.
    """
    try:
        # The name of the program stands in brackets and can hold anything, so the fields are counted after it.
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[17])
    except (OSError, ValueError, IndexError):
        return None


def leave_root() -> None:
    """Changes this process's user from root to nobody, its group to nobody's, and removes all other groups.

    Does nothing for other users and on Windows. Each change that the system does not permit is left out (see
    `can_leave_root`).
    """
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return
    with contextlib.suppress(OSError):
        os.setgroups([])
    with contextlib.suppress(OSError):
        os.setgid(_NOBODY)
    with contextlib.suppress(OSError):
        if _has_capability(_CAP_KILL):
            os.setuid(_NOBODY)
        else:
            # Root may then end only its own processes. This one still counts as one, because its saved user is root.
            os.setresuid(_NOBODY, _NOBODY, 0)


def can_leave_root() -> bool:
    """Returns False if this process's user is root and the system does not let it become another user, otherwise True.

    It is False in containers that lack the capability CAP_SETUID, or that know no other user than root.
    """
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return True
    return _has_capability(_CAP_SETUID) and _is_known_user(_NOBODY)


def _has_capability(capability: int) -> bool:
    """Returns True if this process has a capability of Linux, or if the system has no capabilities.

    capability: the capability's bit in the kernel's mask.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return True
    return any(int(line.split()[1], 16) & capability for line in lines if line.startswith("CapEff:"))


def _is_known_user(user: int) -> bool:
    """Returns False if Linux runs this process in a user namespace without a user of this number, otherwise True."""
    try:
        rows = [
            [int(number) for number in line.split()] for line in Path("/proc/self/uid_map").read_text().splitlines()
        ]
    except OSError:
        return True
    return any(first <= user < first + count for first, _, count in rows)


def linux_machine() -> str | None:
    """Returns the machine type of this process, such as x86_64, if it is a 64-bit process on Linux; otherwise None."""
    return os.uname().machine if sys.platform.startswith("linux") and sys.maxsize > 1 << 32 else None


def inherited(file: BinaryIO, path: Path) -> tuple[int | str, dict[str, Any]]:
    """Returns (name, keywords) with which a child process can open a file that this process has open.

    name: what the child has to pass to `open`.
    keywords: keyword arguments for the subprocess.Popen that starts the child.

    The child needs no access to the file's path, except on Windows, where it opens the path.

    file, path: the open file and its path.
    """
    if sys.platform == "win32":
        return str(path), {}
    return file.fileno(), {"pass_fds": (file.fileno(),)}


def enlarge_pipe(descriptor: int) -> None:
    """Gives a pipe a buffer of 1 MiB, so that frames pass in fewer steps. Does nothing on systems other than Linux."""
    if sys.platform.startswith("linux"):
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, _F_SETPIPE_SZ, _PIPE_BYTES)


def event_loop_factory() -> "Callable[[], AbstractEventLoop] | None":
    """Returns uvloop's function that makes an event loop for asyncio, or None if uvloop is not installed.

    With None, asyncio uses Python's own event loop, which is slower. There is no uvloop for Windows.
    """
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def flush(path: Path) -> None:
    """Flushes a file or a folder to disk. Does nothing for a folder on Windows, which cannot flush folders."""
    is_windows = os.name == "nt"
    if is_windows and path.is_dir():
        return
    opened = os.open(path, os.O_RDWR if is_windows else os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def is_open_to_others(path: Path) -> bool:
    """Returns True if other users have any right to a file or folder. Links are followed.

    Returns False if it does not exist, and always on Windows, where access control lists decide, not the mode.
    """
    try:
        return os.name != "nt" and bool(path.stat().st_mode & 0o077)
    except FileNotFoundError:
        return False


def close_to_others(path: Path) -> bool:
    """Removes other users' rights to a file or folder. Returns True if they then have none, or if it does not exist.

    Returns False if they keep some, which happens in these cases:
    - The file or the link to it is not this user's.
    - The file system has no permissions.
    - It is a folder for all users (with the sticky bit, such as the system's folder of temporary files).
    """
    if not is_open_to_others(path):
        return True
    mode = path.stat().st_mode
    # Another user's link could lead anywhere, and root would change the permissions there.
    if mode & stat.S_ISVTX or path.lstat().st_uid != os.geteuid():
        return False
    with contextlib.suppress(OSError):
        path.chmod(stat.S_IMODE(mode) & ~0o077)
    return not is_open_to_others(path)


def elapsed_s() -> float:
    """Returns the seconds since a fixed moment in the past. Setting the system's clock does not change them.

    The time for which the machine sleeps counts, except on Windows with Python 3.13 or later.
    """
    # Of the names, Linux has both, and its CLOCK_MONOTONIC stops during sleep. That of macOS does not.
    clock: int | None = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
    return time.monotonic() if clock is None else time.clock_gettime(clock)


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

    Process ids are reused, so a process is identified by its id and this time. Returns None if the process has ended,
    even if it remains as a zombie, and on systems other than Linux. Raises OSError if the system does not tell it.
    """
    try:
        _, _, rest = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *fields = rest.split()
    return None if state in (b"Z", b"X") else int(fields[18])
