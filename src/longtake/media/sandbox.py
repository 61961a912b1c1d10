"""A sandboxed child process that decodes untrusted files, and the messages between the child and this process.

A message begins with the length of its header in bytes (4 bytes, big endian), followed by the header as JSON. If the
header has the fields `shape` and `dtype`, the bytes of an array follow. If the child dies, hangs or breaks this format,
the caller gets an UnsupportedVideo error.
"""

import contextlib
import json
import math
import os
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from longtake import errors, system

_OPEN_FILES = 64
_MAX_HEADER_BYTES = 1 << 20
_LENGTH = struct.Struct(">I")


@dataclass(frozen=True)
class Limits:
    """Limits for reading one file.

    max_pixels: largest number of pixels of one frame.
    max_duration_s, max_frames: longest video in seconds and in frames.
    max_animation_pixels: largest number of pixels of all frames of a GIF or WebP file together. These formats can store
        many large frames in few bytes.
    memory_bytes: largest address space of the child in bytes.
    cpu_s, wall_s: largest number of seconds of processor time and of elapsed time for one call. A call probes the file
        or reads one chunk of frames or one block of sound.
    """

    max_pixels: int = 4096 * 4096
    max_duration_s: float = 3600
    max_frames: int = 60 * 3600
    max_animation_pixels: int = 20_000_000_000
    memory_bytes: int = 2 << 30
    cpu_s: float = 240
    wall_s: float = 120


class Pipe(Protocol):
    """An unbuffered byte stream. `write` may write only a part of the data, and returns how many bytes it wrote."""

    def write(self, data: bytes | memoryview, /) -> int | None: ...


def send_message(pipe: Pipe, header: dict[str, Any], payload: NDArray[Any] | None = None) -> None:
    """Writes one message with an optional array, whose shape and dtype are added to the header."""
    if payload is not None:
        header = header | {"shape": payload.shape, "dtype": str(payload.dtype)}
    text = json.dumps(header).encode()
    parts = [memoryview(_LENGTH.pack(len(text)) + text)]
    if payload is not None and payload.size:
        parts.append(np.ascontiguousarray(payload).reshape(-1).view(np.uint8).data)
    for part in parts:
        while part:
            part = part[pipe.write(part) or 0 :]


Answer = tuple[dict[str, Any], NDArray[Any] | None]
"""A reply of the child: its header, and its array or None."""


class DecodeProcess:
    """A child process that decodes one untrusted file. If the file crashes the decoder, the calling process goes on.

    module: name of the Python module that the child runs as its program (`python -m`).
    argument: facts for the program, such as the path of the file. The child's command line has one argument: a JSON
        object with these facts and, under the key "limits", the fields of `limits`.
    limits: the child applies them to itself, except `wall_s`: `call` kills the child if a reply takes longer.

    A thread writes to the child and reads from it, one request after the other. So a call can end at its time limit on
    every operating system, whatever the child does. Thread-safe: calls from several threads run one after another.
    """

    def __init__(self, module: str, argument: dict[str, Any], limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._failure: str | None = None
        """A sentence on why the process cannot be called any more; None while it can be called."""
        self._cwd = tempfile.TemporaryDirectory(prefix="longtake-")
        arguments = json.dumps(argument | {"limits": asdict(limits)})
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._cwd.name,
            env=_environment(),
            bufsize=0,
            **system.SEPARATE_PROCESS,
        )
        self._requests: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self._replies: SimpleQueue[Answer | Exception] = SimpleQueue()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        system.enlarge_pipe(self._process.stdout.fileno())
        threading.Thread(
            target=self._exchange, args=(self._process.stdin, self._process.stdout), name="decoder", daemon=True
        ).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def call(self, request: dict[str, Any]) -> Answer:
        """Sends a request and returns the reply's header and array.

        If the child replies with an error, `call` raises it as a LongtakeError, and the child can be called again. If
        the child dies, sends a wrong message or takes longer than `limits.wall_s`, it is killed. Then this call and all
        later calls raise UnsupportedVideo.
        """
        with self._lock:
            if self._failure is not None:
                raise errors.UnsupportedVideo(self._failure)
            try:
                self._requests.put(request)
                reply = self._replies.get(timeout=self._limits.wall_s)
            except Empty:
                reply = TimeoutError()
            except BaseException:
                # After an interruption the reply is still to come and would be taken for the next one, so the process
                # is closed.
                self._failure = "The video was being read when the reading was interrupted."
                self.close()
                raise
            if isinstance(reply, Exception):
                self._failure = self._reason(reply)
                self.close()
                raise errors.UnsupportedVideo(self._failure)
        header, payload = reply
        if "error" in header:
            raise _error(header)
        return header, payload

    def close(self) -> None:
        """Kills the process. Does nothing if it is already closed."""
        self._failure = self._failure or "The video is no longer open."
        system.kill(self._process)
        self._process.wait()
        self._requests.put(None)
        self._cwd.cleanup()

    def _exchange(self, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        """Sends each request and puts its reply, or the error in its place, into the queue of replies.

        Ends after an error or at the request None, and closes both pipes.
        """
        with contextlib.suppress(OSError), stdin, stdout:
            while (request := self._requests.get()) is not None:
                try:
                    send_message(stdin, request)
                    self._replies.put(_receive(stdout, self._limits.memory_bytes))
                except Exception as error:
                    self._replies.put(error)
                    return

    def _reason(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"Reading the video took longer than {self._limits.wall_s:g} s and was stopped."
        if not isinstance(error, EOFError | OSError):
            return "Reading the video gave an answer that makes no sense; the file is not safe to read."
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1)
        code = self._process.poll()
        name = None if code is None else system.end_name(code)
        if name == "SIGXCPU":
            return f"Reading the video took more than {self._limits.cpu_s:g} s of processor time and was stopped."
        if name == "SIGKILL":
            return "The process reading the video was killed, most likely because memory ran out."
        if name is not None:
            return f"The video crashed its decoder ({name}); the file is broken or hostile."
        return f"The process reading the video stopped (exit status {code}); the file is broken or hostile."


def _receive(pipe: IO[bytes], max_bytes: int) -> Answer:
    """Reads one message and returns its header and array.

    max_bytes: largest size of the array in bytes.

    Raises EOFError if the pipe ends, and ValueError, TypeError or KeyError for a message that is not as it should be.
    """
    (length,) = _LENGTH.unpack(_read(pipe, np.empty(_LENGTH.size, np.uint8)).tobytes())
    if length > _MAX_HEADER_BYTES:
        raise ValueError(f"a header of {length} bytes")
    header = json.loads(_read(pipe, np.empty(length, np.uint8)).tobytes())
    if not isinstance(header, dict):
        raise TypeError(f"a header of the type {type(header).__name__}")
    if "shape" not in header:
        return header, None
    dtype = np.dtype(header["dtype"])
    num_bytes = math.prod(header["shape"]) * dtype.itemsize
    if dtype.hasobject or not 0 <= num_bytes <= max_bytes:
        raise ValueError(f"an array of {num_bytes} bytes of {dtype}")
    payload: NDArray[Any] = np.empty(header["shape"], dtype)
    if payload.size:
        _read(pipe, payload.reshape(-1).view(np.uint8))
    return header, payload


def _read(pipe: IO[bytes], buffer: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Fills `buffer` with bytes of the pipe and returns it. Raises EOFError if the pipe ends."""
    view = buffer.data
    while view:
        count = pipe.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        view = view[count:]
    return buffer


@contextlib.contextmanager
def decode_process(module: str, argument: dict[str, Any], limits: Limits) -> Iterator[DecodeProcess]:
    """Context manager: starts a DecodeProcess and kills it when the `with` block ends.

    The arguments are those of DecodeProcess, and the errors too.
    """
    process = DecodeProcess(module, argument, limits)
    try:
        yield process
    finally:
        process.close()


def start_child() -> tuple[dict[str, Any], Limits, Pipe]:
    """Restricts the calling child process, reserves its standard output for replies, and reads its argument.

    Returns (argument, limits, pipe): the `argument` and the `limits` of DecodeProcess, and the pipe for replies.
    """
    argument: dict[str, Any] = json.loads(sys.argv[1])
    limits = Limits(**argument.pop("limits"))
    system.allow_cpu_seconds(limits.cpu_s)
    confine_process(limits)
    # Replies go to a copy of standard output, which itself now leads to standard error. So text that a codec prints
    # cannot get between the replies.
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return argument, limits, replies


def send_error(pipe: Pipe, error: Exception) -> None:
    """Sends an error as the reply. An error that is not a LongtakeError is sent as UnsupportedVideo."""
    if isinstance(error, errors.LongtakeError):
        send_message(pipe, {"error": type(error).__name__, "message": error.message, "ctx": error.ctx})
        return
    reason = f"The video could not be read ({type(error).__name__}: {error})."
    if isinstance(error, MemoryError):
        reason = "Reading the video needs more memory than is allowed."
    send_message(pipe, {"error": errors.UnsupportedVideo.__name__, "message": reason})


def confine_process(limits: Limits) -> None:
    """Restricts the calling process: limited memory, no writing to files, no core dump and, on Linux, no network.

    Restrictions that the operating system does not support are skipped. The parent's time limit works on every system.
    """
    system.leave_network()
    system.limit_resources(limits.memory_bytes, _OPEN_FILES)


def _environment() -> dict[str, str]:
    """Returns the child's environment variables: those that Python needs, and settings that save memory.

    Other variables are left out, because they can hold secrets.
    """
    inherited = {
        name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "LANG") if name in os.environ
    }
    return inherited | {
        "PYTHONPATH": str(Path(errors.__file__).parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
    }


def _error(header: dict[str, Any]) -> errors.LongtakeError:
    """Returns the error that the header of a child's reply describes.

    The child can only send UnsupportedVideo, VideoTooLong, VideoTooLarge and InvalidRequest. Any other class name
    becomes UnsupportedVideo.
    """
    kinds = {
        kind.__name__: kind
        for kind in (errors.UnsupportedVideo, errors.VideoTooLong, errors.VideoTooLarge, errors.InvalidRequest)
    }
    kind = kinds.get(str(header["error"]), errors.UnsupportedVideo)
    return kind(str(header["message"]), ctx=header.get("ctx"))
