"""A sandboxed child process that decodes an untrusted file. If the file crashes it, the calling process goes on.

`media.confinement` restricts what the child can do. `media.messages` defines the messages between it and this process.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from longtake import errors, system
from longtake.errors import DecoderFailed, LongtakeError, UnsupportedVideo, machine_error
from longtake.media import confinement
from longtake.media.child_errors import sent_error, timeout_error
from longtake.media.limits import Limits
from longtake.media.messages import Answer, ArrayForm, Pipe, receive_answer, send_message
from longtake.media.shared_file import SharedFile
from longtake.threads import start
from longtake.video import CHECK_EVERY_S, Check, no_check

T = TypeVar("T")

_OPEN_FILES = 64
_WATCH_S = 0.1
"""Seconds between two checks of a child's processor time and number of threads."""

MOST_THREADS = 64
"""The largest number of threads of a child. Decoding needs about ten."""

_SENT_FROM_OUTSIDE = frozenset({"SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"})
"""Signals that are not caused by a fault of the process that receives them. The operating system, a user or a service
manager sends them."""


class DecodeProcess:
    """A child process that decodes one untrusted file.

    module: name of the Python module that the child runs as its program (`python -m`). The program must call
        `start_child`.
    path: the file. The child gets it as an open descriptor.
    argument: JSON values that are passed to the program, such as the file's container.
    limits: the limits of the child's memory, and of its time for each call.
    check: called four times a second while a reply is awaited. If it raises an error, the call ends with this error,
        and the child is killed.

    The constructor raises UnsupportedVideo if the file cannot be opened, and DecoderFailed if no process can be started
    or this machine cannot open any more files. Thread-safe: calls from several threads run one after another.
    """

    def __init__(
        self, module: str, path: Path, argument: dict[str, Any], limits: Limits, check: Check = no_check
    ) -> None:
        self._limits = limits
        self._check = check
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._failure: LongtakeError | None = None
        """Why the process cannot be called any more; None while it can be called."""
        self._ready = False
        """True as soon as the child has started and is confined. Before that it reads nothing of the file."""
        self._excess: str | None = None
        """The limit that the child exceeded and was killed for, such as `64 threads`; None if it exceeded none."""
        self._cpu_s = limits.cpu_s
        """The processor time in seconds that the child may use for the present call."""
        self._cpu_start_s: float | None = None
        """Seconds of processor time that the child had used at the last message; None if they cannot be measured."""
        self._requests: SimpleQueue[tuple[dict[str, Any], ArrayForm | None] | None] = SimpleQueue()
        self._replies: SimpleQueue[Answer | Exception] = SimpleQueue()
        started: Future[subprocess.Popen[bytes]] = Future()
        # One thread starts the child and exchanges messages with it. So a call can end at its time limit on every
        # operating system. On Linux the child ends when this thread ends, also if this process is killed.
        _start_thread("decoder", self._run, module, path, argument, started)
        self._process = started.result()
        # A second thread watches the processor time and the child's threads, also between calls.
        try:
            _start_thread("decoder's watcher", self._watch)
        except DecoderFailed as error:
            raise self._fail(error) from error.__cause__

    @property
    def pid(self) -> int:
        return self._process.pid

    def call(self, request: dict[str, Any], form: ArrayForm | None = None, *, cpu_s: float | None = None) -> Answer:
        """Sends a request and returns the reply's header and array.

        form: the form of the array that the reply may have; None if it may have none.
        cpu_s: the processor time in seconds that the call may take; None for the time that the limits allow.

        If the child replies with an error, `call` raises it as a LongtakeError, and the child can be called again. In
        the following cases the child is killed, and this call and all later ones raise:
        - UnsupportedVideo if the file is at fault: the child crashes, exceeds a limit or sends a wrong message.
        - DecoderFailed if it is not: the child cannot start, is killed from outside, or stands still without using
          processor time.
        """
        with self._lock:
            if self._failure is not None:
                raise copy(self._failure)
            self._cpu_s = self._limits.cpu_s if cpu_s is None else cpu_s
            try:
                self._requests.put((request, form))
                reply = self._next_reply()
            except Empty:
                raise self._fail(timeout_error(self._ready, self._limits.wall_s, self._cpu_used_s())) from None
            except BaseException:
                # After an interruption the reply is still to come and would be taken for the next one, so the process
                # is closed.
                self._fail(UnsupportedVideo("The video was being read when the reading was interrupted."))
                raise
            if isinstance(reply, EOFError | OSError):
                raise self._failure or self._fail(self._end())  # it has a failure if it was closed meanwhile
            if isinstance(reply, Exception):
                raise self.reject()
        header, payload = reply
        if "error" in header:
            raise sent_error(header) or self.reject()
        return header, payload

    def _next_reply(self) -> Answer | Exception:
        """Waits for the reply to a request and returns it, or the error that happened instead of a reply.

        Calls `check` while it waits, and raises what `check` raises. Raises Empty if the reply does not come in time.
        """
        until = time.monotonic() + self._limits.wall_s
        while (left_s := until - time.monotonic()) > 0:
            self._check()
            with contextlib.suppress(Empty):
                return self._replies.get(timeout=min(left_s, CHECK_EVERY_S))
        raise Empty

    def reject(self) -> LongtakeError:
        """Kills the child because its reply makes no sense. Returns the error that the caller should raise.

        All later calls raise the same error.
        """
        sentence = "Reading the video gave an answer that makes no sense; the file is not safe to read."
        return self._fail(UnsupportedVideo(sentence))

    def close(self) -> None:
        """Kills the process. Does nothing if it is already closed."""
        self._fail(self._failure or UnsupportedVideo("The video is no longer open."))

    def _fail(self, failure: LongtakeError) -> LongtakeError:
        """Kills the process and returns `failure`, which is the error of all later calls."""
        self._failure = failure
        self._closed.set()
        system.kill(self._process)
        self._process.wait()
        self._requests.put(None)
        return failure

    def _run(
        self, module: str, path: Path, argument: dict[str, Any], started: "Future[subprocess.Popen[bytes]]"
    ) -> None:
        """Starts the child, sends it each request that `call` puts into a queue, and puts the reply, or why there is
        none, into another queue. Runs in a thread of its own until it finds None in place of a request.

        module, path, argument: the child's program (a Python module), the file, and JSON values for the program.
        started: receives the child's process, or the error if it could not be started.
        """
        try:
            process = _started(module, path, argument | {"limits": asdict(self._limits), "parent": os.getpid()})
        except BaseException as error:
            started.set_exception(error)  # the constructor waits for it
            return
        started.set_result(process)
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(OSError), process.stdin as stdin, process.stdout as stdout:
            try:
                receive_answer(stdout, None)
                self._ready = True
                while (waiting := self._requests.get()) is not None:
                    request, form = waiting
                    self._cpu_start_s = system.cpu_seconds(process.pid)
                    send_message(stdin, request)
                    reply = receive_answer(stdout, form)
                    # The child now decodes the next chunk, which has the full time of a call.
                    self._cpu_start_s = system.cpu_seconds(process.pid)
                    self._replies.put(reply)
            except Exception as error:
                self._replies.put(error)
                # The child is killed when this thread ends. Before that, `_end` must find out why it has ended.
                while self._requests.get() is not None:
                    pass

    def _watch(self) -> None:
        """Kills the child when it exceeds a limit. Runs in a thread of its own until the process is closed.

        There are two limits: the processor time of the present call, and MOST_THREADS threads. The kernel cannot limit
        the number of threads itself, because its limit does not apply to root.
        """
        while not self._closed.wait(_WATCH_S):
            if (self._cpu_used_s() or 0) > self._cpu_s:
                self._excess = self._cpu_limit
            elif (system.thread_count(self.pid) or 0) > MOST_THREADS:
                self._excess = f"{MOST_THREADS} threads"
            if self._excess is not None:
                system.kill(self._process)
                return

    @property
    def _cpu_limit(self) -> str:
        return f"{self._cpu_s:g} s of processor time"

    def _cpu_used_s(self) -> float | None:
        """Returns the child's seconds of processor time since its last message; None if they cannot be measured."""
        start, now = self._cpu_start_s, system.cpu_seconds(self.pid)
        return None if start is None or now is None else now - start

    def _end(self) -> LongtakeError:
        """Returns the error for a child that has ended or has closed its pipes, by its exit status or its signal."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1)
        code = self._process.poll()
        name = None if code is None else system.end_name(code)
        if excess := self._cpu_limit if name == "SIGXCPU" else self._excess:
            return UnsupportedVideo(f"Reading the video took more than {excess} and was stopped.")
        if not self._ready:
            return DecoderFailed(f"The process that decodes files could not start ({name or f'exit status {code}'}).")
        if name in _SENT_FROM_OUTSIDE:
            return DecoderFailed(
                f"The process that decodes the file was ended from outside ({name}), most likely because the machine's "
                "memory ran out."
            )
        if name is not None:
            return UnsupportedVideo(f"The video crashed its decoder ({name}); the file is broken or hostile.")
        return UnsupportedVideo(
            f"The process reading the video stopped (exit status {code}); the file is broken or hostile."
        )


class Decoder:
    """Decodes one untrusted file in a child process. If this process fails, and not because of the file, the work is
    repeated once in a new one.

    start: function that starts and returns a child process for the file.

    Thread-safe.
    """

    def __init__(self, start: Callable[[], DecodeProcess]) -> None:
        self._start = start
        self._lock = threading.Lock()
        self._was_restarted = False
        self._process = start()

    def run(self, work: Callable[[DecodeProcess], T]) -> T:
        """Returns `work(process)`, where `process` is the child process that decodes the file.

        If `work` raises DecoderFailed, it is called again with a new child process. A Decoder starts only one new
        process. If `work` raises DecoderFailed with that one, too, the error is passed on.
        """
        while True:
            process = self._process
            try:
                return work(process)
            except DecoderFailed as error:
                with self._lock:
                    if process is self._process:
                        if self._was_restarted:
                            raise DecoderFailed(f"{error.message} A second try failed, too.") from None
                        self._was_restarted = True
                        self._process = self._start()

    def close(self) -> None:
        """Kills the child process. No new one is started afterwards."""
        with self._lock:
            self._was_restarted = True
            self._process.close()


@contextlib.contextmanager
def decoder(
    module: str, path: Path, argument: dict[str, Any], limits: Limits, check: Check = no_check
) -> Iterator[Decoder]:
    """Context manager that starts a process to decode a file, and yields its Decoder. The process is killed at the end.

    module, argument: the Python module that the process runs as its program, and JSON values that are passed to it.
    check: called four times a second while a reply is awaited. It may end the call by raising an error.
    Raises UnsupportedVideo if the file cannot be opened, and DecoderFailed if the process cannot be started.
    """
    with contextlib.closing(Decoder(lambda: DecodeProcess(module, path, argument, limits, check))) as started:
        yield started


@dataclass(frozen=True)
class Child:
    """The file and the arguments that a decoding child process has received from its parent process.

    file: the open file to decode.
    argument, limits: JSON values for the program, and the limits for reading the file.
    replies: the pipe to which the program writes its replies.
    """

    file: SharedFile
    argument: dict[str, Any]
    limits: Limits
    replies: Pipe


def arguments() -> dict[str, Any]:
    """Returns the JSON values that this process, a decoding child process, has received from its parent process."""
    return dict(json.loads(sys.argv[1]))


def start_child() -> Child:
    """Confines this process (see media.confinement), and returns the file and the arguments from its parent process.

    It also sends a message to the parent process that this process is ready. The program must have imported everything
    that it needs, because no file can be opened afterwards.
    """
    argument = arguments()
    limits = Limits(**argument.pop("limits"))
    file = io.FileIO(argument.pop("file"))
    # Replies go to a copy of standard output, which itself now leads to standard error. So text that a codec prints
    # cannot get between the replies.
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    confine(limits)
    if os.getppid() != argument.pop("parent"):
        sys.exit("The parent process ended before this process was confined.")
    send_message(replies, {})
    return Child(SharedFile(file), argument, limits, replies)


def confine(limits: Limits) -> None:
    """Limits this process's memory to `limits.memory_bytes`, and makes it give up root. From now on it can open no
    file, use no network and start no program. Each step is taken as far as the operating system allows it.
    """
    system.limit_resources(limits.memory_bytes, _OPEN_FILES)
    system.leave_root()
    confinement.confine()


def _start_thread(name: str, target: Callable[..., None], *args: Any) -> None:
    """Calls `target` in a thread of its own. Raises DecoderFailed if the system allows no more threads."""
    try:
        start(threading.Thread(target=target, args=args, name=name, daemon=True))
    except OSError as error:
        raise DecoderFailed(f"The process that decodes files could not start: {error.strerror}.") from error


def _started(module: str, path: Path, argument: dict[str, Any]) -> "subprocess.Popen[bytes]":
    """Starts the child process that decodes the file `path`, and returns it.

    module, argument: the Python module that the child runs as its program, and JSON values that are passed to it.
    Raises UnsupportedVideo if the file cannot be opened, and DecoderFailed if the process cannot be started.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        failure = UnsupportedVideo if machine_error(error) is None else DecoderFailed
        raise failure(f"The video cannot be opened: {error.strerror}.") from None
    with file:
        name, keywords = system.inherited(file, path)
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, json.dumps(argument | {"file": name})],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=Path(sys.executable).anchor,
                env=_environment(),
                bufsize=0,
                **system.SEPARATE_PROCESS,
                **keywords,
            )
        except OSError as error:
            raise DecoderFailed(f"The process that decodes files could not start: {error.strerror}.") from None
    assert process.stdout is not None
    system.enlarge_pipe(process.stdout.fileno())
    return process


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
        "OPENBLAS_NUM_THREADS": "1",  # Landlock binds one thread, so there must be no other yet
        "MALLOC_ARENA_MAX": "2",
    }
