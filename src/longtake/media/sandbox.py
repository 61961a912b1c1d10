"""A child process that touches hostile bytes so that this one need not: limits, a pipe, and a sentence when it dies."""

import contextlib
import json
import os
import selectors
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import longtake
from longtake import errors

_CLONE_NEWUSER = 0x1000_0000
_CLONE_NEWNET = 0x4000_0000
_PR_SET_NO_NEW_PRIVS = 38
_F_SETPIPE_SZ = 1031
_PIPE_BYTES = 1 << 20
_MAX_HEADER_BYTES = 1 << 20
_LENGTH = struct.Struct(">I")


@dataclass(frozen=True)
class Limits:
    """What one source may cost.

    `max_pixels` is of one frame; `memory_bytes` is the child's address space; `cpu_s` and `wall_s` are of one call:
    the probe, one chunk of frames, or one block of sound.
    """

    max_pixels: int = 4096 * 4096
    max_duration_s: float = 3600
    max_frames: int = 60 * 3600
    memory_bytes: int = 2 << 30
    cpu_s: float = 240
    wall_s: float = 120


class Pipe(Protocol):
    """A raw stream of bytes: a pipe or a socket's file."""

    def write(self, data: bytes | memoryview, /) -> int | None: ...


def send(pipe: Pipe, header: dict[str, Any], payload: NDArray[Any] | None = None) -> None:
    """A message: length and JSON of the header, then the array's bytes, whose shape and type the header tells."""
    if payload is not None:
        header = header | {"shape": payload.shape, "dtype": str(payload.dtype)}
    text = json.dumps(header).encode()
    parts = [memoryview(_LENGTH.pack(len(text)) + text)]
    if payload is not None and payload.size:
        parts.append(np.ascontiguousarray(payload).reshape(-1).view(np.uint8).data)
    for part in parts:
        while part:
            part = part[pipe.write(part) or 0 :]


class Child:
    """The process that runs `module` with one JSON argument, asked one thing at a time."""

    def __init__(self, module: str, argument: dict[str, Any], limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._death: str | None = None
        self._cwd = tempfile.TemporaryDirectory(prefix="longtake-")
        spoken = json.dumps(argument | {"limits": asdict(limits)})
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, spoken],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._cwd.name,
            env=_environment(),
            bufsize=0,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        _widen(self._stdout.fileno())

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, request: dict[str, Any]) -> tuple[dict[str, Any], NDArray[Any] | None]:
        """The answer's header and array. Whatever the child did wrong is one error of longtake.errors."""
        with self._lock:
            if self._death is not None:
                raise errors.UnsupportedVideo(self._death)
            try:
                send(self._stdin, request)
                header, payload = self._receive(time.monotonic() + self._limits.wall_s)
            except (TimeoutError, EOFError, OSError, ValueError) as error:
                self._death = self._why(error)
                self.close()
                raise errors.UnsupportedVideo(self._death) from None
            except BaseException:
                # An answer left half in the pipe would be taken for the next one.
                self._death = "The video was being read when the reading was interrupted."
                self.close()
                raise
        if "error" in header:
            raise _error(header)
        return header, payload

    def close(self) -> None:
        """Ends the process, whatever it is doing; may be called twice."""
        self._death = self._death or "The video is no longer open."
        self._process.kill()
        self._process.wait()
        for pipe in (self._stdin, self._stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        self._cwd.cleanup()

    def _receive(self, deadline: float) -> tuple[dict[str, Any], NDArray[Any] | None]:
        (length,) = _LENGTH.unpack(self._read(np.empty(_LENGTH.size, np.uint8), deadline).tobytes())
        if length > _MAX_HEADER_BYTES:
            raise ValueError("a header that long is not ours")
        header: dict[str, Any] = json.loads(self._read(np.empty(length, np.uint8), deadline).tobytes())
        if "shape" not in header:
            return header, None
        payload: NDArray[Any] = np.empty(header["shape"], np.dtype(header["dtype"]))
        if payload.nbytes > self._limits.memory_bytes:
            raise ValueError("more than the child can hold")
        if payload.size:
            self._read(payload.reshape(-1).view(np.uint8), deadline)
        return header, payload

    def _read(self, room: NDArray[np.uint8], deadline: float) -> NDArray[np.uint8]:
        view = room.data
        with selectors.DefaultSelector() as selector:
            selector.register(self._stdout, selectors.EVENT_READ)
            while view:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError
                count = self._stdout.readinto(view)  # type: ignore[attr-defined]
                if not count:
                    raise EOFError
                view = view[count:]
        return room

    def _why(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"Reading the video took longer than {self._limits.wall_s:g} s and was stopped."
        if isinstance(error, ValueError):
            return "Reading the video gave an answer that makes no sense; the file is not safe to read."
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1)
        code = self._process.poll()
        if code == -signal.SIGXCPU:
            return f"Reading the video took more than {self._limits.cpu_s:g} s of processor time and was stopped."
        if code == -signal.SIGKILL:
            return "The process reading the video was killed, most likely because memory ran out."
        if code is not None and code < 0:
            return f"The video crashed its decoder ({signal.Signals(-code).name}); the file is broken or hostile."
        return f"The process reading the video stopped (exit status {code}); the file is broken or hostile."


@contextlib.contextmanager
def running(module: str, argument: dict[str, Any], limits: Limits) -> Iterator[Child]:
    """A child that is gone when the block ends, however it ends."""
    child = Child(module, argument, limits)
    try:
        yield child
    finally:
        child.close()


def confine(limits: Limits) -> None:
    """Called first thing in the child: bounded memory, no files written, no core dump, and no network where possible.

    What this system does not offer is gone without: the wall clock of the parent always holds.
    """
    _leave_the_network()
    try:
        import resource
    except ImportError:
        return
    for kind, value in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (value, value))


def renew_cpu_seconds(seconds: float) -> None:
    """From now on the process may use that much processor time before SIGXCPU ends it."""
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


def _leave_the_network() -> None:
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.unshare(_CLONE_NEWNET):
        libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)


def _environment() -> dict[str, str]:
    """Nothing of ours but what Python needs to start: no secrets, and arenas and threads kept small."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "LANG") if name in os.environ}
    return kept | {
        "PYTHONPATH": str(Path(longtake.__file__).parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
    }


def _widen(descriptor: int) -> None:
    if sys.platform.startswith("linux"):
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, _F_SETPIPE_SZ, _PIPE_BYTES)


def _error(header: dict[str, Any]) -> errors.LongtakeError:
    kinds = {
        kind.__name__: kind
        for kind in (errors.UnsupportedVideo, errors.VideoTooLong, errors.VideoTooLarge, errors.InvalidRequest)
    }
    kind = kinds.get(str(header["error"]), errors.UnsupportedVideo)
    return kind(str(header["message"]), ctx=header.get("ctx"))
