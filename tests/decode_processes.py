"""Decode processes that start in milliseconds, for tests of other things than their start.

A decode process needs a fifth of a second of processor time to import the decoder, and hundreds of tests read a video.
So one process has imported it, and forks for each file. Everything else is as usual: the process confines itself, gets
the file as an open descriptor, and is killed in the end.
"""

import contextlib
import gc
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from types import SimpleNamespace
from typing import Any

PROGRAMS = ("longtake.media.decode_server", "longtake.media.still")


def _connected() -> tuple[socket.socket, socket.socket]:
    """Returns the two ends of a connection that keeps messages apart."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class Forked:
    """A forked decode process, with the attributes and methods of `subprocess.Popen` that the parent process uses.

    status: a connection to the process that has forked it. It receives the process's number, and at its end its return
        code. The number belongs to the process until this connection is closed.
    """

    def __init__(self, stdin: int, stdout: int, status: socket.socket) -> None:
        self.stdin, self.stdout = os.fdopen(stdin, "wb", buffering=0), os.fdopen(stdout, "rb", buffering=0)
        self.returncode: int | None = None
        self._status, self._lock = status, threading.Lock()
        self.pid = int(status.recv(20))

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        with self._lock:
            if self.returncode is None:
                self._status.settimeout(timeout)
                try:
                    self.returncode = int(self._status.recv(20))
                except (BlockingIOError, TimeoutError):
                    raise subprocess.TimeoutExpired("decode process", timeout or 0) from None
                self._status.close()
            return self.returncode


class Forker:
    """The process that forks, which starts with the first decode process. It ends with this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None

    def start(self, command: Sequence[str], *, env: dict[str, str], pass_fds: tuple[int], **_: Any) -> Forked:
        """Takes the place of `subprocess.Popen` for the command of a decode process, with one file in `pass_fds`."""
        module, argument = command[-2:]
        assert module in PROGRAMS
        (stdin, to_child), (from_child, stdout), (status, theirs) = os.pipe(), os.pipe(), _connected()
        try:
            request = json.dumps([module, json.loads(argument)]).encode()
            with self._lock:
                connection = self._connection = self._connection or self._started(env)
                socket.send_fds(connection, [request], [stdin, stdout, *pass_fds, theirs.fileno()])
        finally:
            os.close(stdin)
            os.close(stdout)
            theirs.close()
        return Forked(to_child, from_child, status)

    def _started(self, env: dict[str, str]) -> socket.socket:
        ours, theirs = _connected()
        places = os.pathsep.join((env["PYTHONPATH"], *filter(None, sys.path)))
        subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.decode_processes", str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            env=env | {"PYTHONPATH": places},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        return ours


_FORKER = Forker()

SUBPROCESS = SimpleNamespace(
    Popen=_FORKER.start, PIPE=subprocess.PIPE, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired
)
"""Takes the place of the module `subprocess` in `media.sandbox`."""


def _serve(connection: socket.socket) -> None:
    """Forks a process for each request, until the connection is closed."""
    programs: dict[str, Callable[[], None]] = {name: import_module(name).main for name in PROGRAMS}
    for name in import_module(PROGRAMS[0])._IMPORTED_WHEN_NEEDED:
        import_module(name)
    gc.freeze()
    while True:
        request, fds, _, _ = socket.recv_fds(connection, 65536, 4)
        if not request:
            return
        module, argument = json.loads(request)
        if os.fork() == 0:
            connection.close()
            os._exit(_watch(programs[module], argument, *fds))
        for fd in fds:
            os.close(fd)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _watch(program: Callable[[], None], argument: dict[str, Any], stdin: int, stdout: int, file: int, fd: int) -> int:
    """Forks the decode process, and tells its number and its return code. Then waits until the code has been read."""
    with socket.socket(fileno=fd) as status:
        pid = os.fork()
        if pid == 0:
            status.detach()
            os.close(fd)
            os._exit(_decode(program, argument | {"file": file, "parent": os.getppid()}, stdin, stdout))
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpgid(pid, pid)  # so that it can be killed as a group
        for each in (stdin, stdout, file):
            os.close(each)
        status.sendall(f"{pid}".encode())
        end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert end is not None
        with contextlib.suppress(OSError):
            status.sendall(f"{end.si_status if end.si_code == os.CLD_EXITED else -end.si_status}".encode())
            status.recv(1)
    return 0


def _decode(program: Callable[[], None], argument: dict[str, Any], stdin: int, stdout: int) -> int:
    """Runs the program of a decode process as `python -m` does, and returns its exit status."""
    os.dup2(stdin, 0)
    os.dup2(stdout, 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.close(stdin)
    os.close(stdout)
    sys.stdin = open(0)  # noqa: SIM115
    sys.argv = ["-m", json.dumps(argument)]
    try:
        program()
    except BaseException:
        return 1
    return 0


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
