"""A stand-in for a decoder that a hostile file has taken over: the program of a decode process that does as it is told.

Requests are {"do": name, ...}: `try_all` tries to break out, `read` reads the file, `spin` computes and never answers,
`crowd` starts threads without end and never answers. The answers to the requests of
`media.source` are those of the argument `answers`.
"""

import contextlib
import ctypes
import errno
import mmap
import os
import pathlib
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from longtake.media import confinement, sandbox
from longtake.media.limits import Limits
from longtake.media.messages import receive_request, send_message
from longtake.media.sandbox import DecodeProcess, start_child

ROOT = Path(__file__).parents[2]

LIBC = ctypes.CDLL(None, use_errno=True)

MACHINE = os.uname().machine
CLONE = getattr(confinement._CLONE, MACHINE, 0)
LARGEST_CALL = 480
X32_GETPID = 0x4000_0000 | 39
"""The number of a system call of the third machine type that Linux runs on x86_64 processors."""

_ALLOWED = {getattr(numbers, MACHINE, 0) for numbers in (*confinement.CALLS.values(), confinement._CLONE)}
_NOT_TRIED = {"x86_64": {34, 57, 58, 153, 335, 336}, "aarch64": {58}}.get(MACHINE, set())
"""System calls that would stop or end this process or the terminal if they were allowed: pause, fork, vfork, vhangup.
Also uretprobe and uprobe, which no filter can refuse. They work only where the kernel itself has put them into code;
otherwise they fail or end the process."""

FORBIDDEN_CALLS = sorted({*range(LARGEST_CALL)} - _ALLOWED - _NOT_TRIED)


@contextlib.contextmanager
def taken_over(
    path: Path,
    limits: Limits = Limits(),  # noqa: B008
    answers: tuple[bytes, ...] = (),
) -> Iterator[DecodeProcess]:
    """Starts this program as the decode process of a file. Its answers to ordinary requests are `answers`."""
    ordinary = sandbox._environment
    places = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    argument = {"answers": [answer.hex() for answer in answers]}
    sandbox._environment = lambda: ordinary() | {"PYTHONPATH": places}
    try:
        process = DecodeProcess(__name__, path, argument, limits)
    finally:
        sandbox._environment = ordinary
    with contextlib.closing(process):
        yield process


def call(name: str, *arguments: int | bytes | ctypes.c_long | None) -> int:
    """Calls a function of libc. Raises OSError if it fails."""
    result = int(getattr(LIBC, name)(*arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def attempts(folder: Path, port: int) -> dict[str, Callable[[], object]]:
    """Ways out of the process, by name. Each raises an OSError with EPERM if it is closed, and hurts nobody if not.

    folder: a folder with the file `victim` and the unix socket `socket`, to which all users have access.
    port: a TCP port on which a program listens.
    """
    parent = os.getppid()
    victim = str(folder / "victim")
    infinity = resource.RLIM_INFINITY
    kinds = {name: getattr(resource, f"RLIMIT_{name}") for name in ("AS", "FSIZE", "CPU", "NOFILE", "NPROC", "CORE")}
    ways: dict[str, Callable[[], object]] = {
        "read a file": lambda: Path(victim).read_bytes(),
        "read the users of the machine": lambda: Path("/etc/passwd").read_text(),
        "list a folder": lambda: os.listdir(folder),
        "see a file": lambda: os.stat(victim),
        "see a link": lambda: os.readlink("/proc/self/exe"),
        "go to a folder": lambda: os.chdir(folder),
        "read the parent's secrets": lambda: Path(f"/proc/{parent}/environ").read_bytes(),
        "open the parent's memory": lambda: os.open(f"/proc/{parent}/mem", os.O_RDWR),
        "make a file": lambda: (folder / "new").touch(),
        "write to a file": lambda: os.write(os.open(victim, os.O_RDWR), b"x"),
        "write to mapped memory": lambda: mmap.mmap(os.open(victim, os.O_RDWR), 0),
        "cut a file": lambda: os.truncate(victim, 0),
        "delete a file": lambda: os.unlink(victim),
        "rename a file": lambda: os.rename(victim, folder / "other"),
        "link a file": lambda: os.link(victim, folder / "linked"),
        "make a symbolic link": lambda: os.symlink(victim, folder / "link"),
        "make a folder": lambda: os.mkdir(folder / "made"),
        "change a file's rights": lambda: os.chmod(victim, 0o777),
        "change a file's times": lambda: os.utime(victim),
        "make a pipe with a name": lambda: os.mkfifo(folder / "fifo"),
        "make a pipe": os.pipe,
        "make a file in memory": lambda: os.memfd_create("x"),
        "duplicate a descriptor": lambda: os.dup(0),
        "connect by TCP": lambda: socket.socket().connect(("127.0.0.1", port)),
        "connect to a unix socket": lambda: socket.socket(socket.AF_UNIX).connect(str(folder / "socket")),
        "make a UDP socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "make a pair of sockets": socket.socketpair,
        "fork": os.fork,
        "start a program": lambda: subprocess.run([sys.executable, "-c", ""], check=False),
        "become a program": lambda: os.execv(sys.executable, [sys.executable, "-c", "print('YES')"]),
        "run a shell": lambda: os.posix_spawn("/bin/sh", ["sh", "-c", "true"], {}),
        "signal the parent": lambda: os.kill(parent, 0),
        "signal itself": lambda: os.kill(os.getpid(), signal.SIGCONT),
        "start a session": os.setsid,
        "become root": lambda: os.setuid(0),
        "change its groups": lambda: os.setgroups([0]),
        "trace the parent": lambda: call("ptrace", 0x4206, parent, None, None),
        "read the parent's memory": lambda: call("process_vm_readv", parent, None, 0, None, 0, 0),
        "join the parent's network": lambda: call("setns", os.open(f"/proc/{parent}/ns/net", os.O_RDONLY), 0),
        "make a user namespace": lambda: call("unshare", 0x1000_0000),
        "mount": lambda: call("mount", b"none", bytes(folder), b"no such file system", 0, None),
        "change its root": lambda: call("chroot", bytes(folder / "none")),
        "outlive its parent": lambda: call("prctl", 1, 0, 0, 0, 0),
        "dump its memory": lambda: call("prctl", 4, 1, 0, 0, 0),
        "share memory": lambda: call("shmget", 0, 4096, 0o1600),
        "send messages": lambda: call("msgget", 0, 0o1600),
        "watch files": lambda: call("inotify_init"),
        "change its priority": lambda: os.setpriority(os.PRIO_PROCESS, 0, 19),
        "change its processors": lambda: os.sched_setaffinity(0, {0}),
        "set a timer": lambda: signal.setitimer(signal.ITIMER_REAL, 100),
        "change an open file": lambda: call("fcntl", 0, 4, 0),
        "control a device": lambda: call("ioctl", 0, 0x541B, bytes(8)),
    }
    for name, kind in kinds.items():
        ways[f"raise the limit {name}"] = lambda kind=kind: resource.setrlimit(kind, (infinity, infinity))  # type: ignore[misc]
    for number in (*FORBIDDEN_CALLS, X32_GETPID):
        values = [ctypes.c_long(value) for value in (number, *(-1,) * 6)]  # no call does any harm with such arguments
        ways[f"system call {number}"] = lambda values=values: call("syscall", *values)  # type: ignore[misc]
    # The ways to start a process that a thread may not use, and those to put a thread into other namespaces.
    for name, flags in {
        "process": 17,
        "process with this memory": 0x100 | 17,
        "process that is a sibling": 0x8000,
    }.items():
        values = [ctypes.c_long(value) for value in (CLONE, flags, 0, 0, 0, 0)]
        ways[f"clone a {name}"] = lambda values=values: call("syscall", *values)  # type: ignore[misc]
    return ways


def tried(way: Callable[[], object]) -> str:
    """Returns "no" if the way is closed, otherwise "YES" and where it led."""
    try:
        return f"YES {way()!r}"
    except ValueError:  # Python raises it in place of EPERM for a limit that may not be raised
        return "no"
    except OSError as error:
        return "no" if error.errno == errno.EPERM else f"YES {error!r}"


def try_all(folder: Path, port: int) -> dict[str, str]:
    """Tries all ways in this thread, and reading a file in a new thread too."""
    found = {name: tried(way) for name, way in attempts(folder, port).items()}

    def in_thread() -> None:
        found["read a file in a thread"] = tried((folder / "victim").read_bytes)

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    return found | {"user": str(os.getuid())}


def main() -> None:
    child = start_child()
    while request := receive_request(sys.stdin.buffer):
        match request:
            case {"do": "try_all", "folder": folder, "port": port}:
                send_message(child.replies, try_all(pathlib.Path(folder), port))
            case {"do": "spin"}:
                while True:
                    pass
            case {"do": "crowd"}:
                never = threading.Event()
                while True:
                    with contextlib.suppress(RuntimeError):  # the limit of the user's threads
                        threading.Thread(target=never.wait, daemon=True).start()
            case {"do": "read"}:
                with child.file.open("rb") as file:
                    send_message(child.replies, {"size": len(file.read())})
            case _:
                child.replies.write(bytes.fromhex(child.argument["answers"].pop(0)))


if __name__ == "__main__":
    main()
