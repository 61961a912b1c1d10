"""The parent's end of a worker process: lines of JSON to its stdin and from its stdout, and its end."""

import contextlib
import json
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import IO, Any

log = logging.getLogger(__name__)

Message = Mapping[str, Any]


class Child:
    """A started process. `hear(child, message)` is called from a thread of its own with each message; the last one is
    `{"say": "died", "how": ...}`. What it writes to stderr are lines of this process's log.

    It has a process group of its own, so that Ctrl-C at a terminal reaches it through its parent alone; when the
    parent dies, its stdin ends.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], hear: Callable[["Child", Message], None]
    ) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            process_group=0,
        )
        self._lines: SimpleQueue[bytes | None] = SimpleQueue()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        threading.Thread(target=self._write, args=(self._process.stdin,), daemon=True).start()
        threading.Thread(target=_pass_on, args=(self._process.stderr, self.pid), daemon=True).start()
        threading.Thread(target=self._read, args=(self._process.stdout, hear), daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, line: bytes) -> None:
        """One message without its newline; never waits, and a dead child gets nothing."""
        self._lines.put(line + b"\n")

    def close(self) -> None:
        """Ends its stdin, upon which it ends by itself."""
        self._lines.put(None)

    def kill(self) -> None:
        """Kills it and what it started; `died` is still told."""
        if self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def ended(self, within_s: float) -> bool:
        """Whether it has ended within so many seconds."""
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _write(self, stdin: IO[bytes]) -> None:
        with contextlib.suppress(OSError), stdin:
            while (line := self._lines.get()) is not None:
                stdin.write(line)
                stdin.flush()

    def _read(self, stdout: IO[bytes], hear: Callable[["Child", Message], None]) -> None:
        with stdout:
            for line in stdout:
                hear(self, _message(line))
        if not self.ended(within_s=1):
            self.kill()
        code = self._process.wait()
        self.close()
        hear(self, {"say": "died", "how": _how(code)})


def _pass_on(stderr: IO[bytes], pid: int) -> None:
    with stderr:
        for line in stderr:
            text = line.decode(errors="replace").rstrip().rpartition("\r")[2]  # of a progress bar its last state
            if text:
                log.info("%s", text, extra={"worker_pid": pid})


def _message(line: bytes) -> Message:
    """What a library prints to stdout is told as a line of the log."""
    with contextlib.suppress(ValueError):
        message = json.loads(line)
        if isinstance(message, dict) and "say" in message:
            return message
    return {"say": "log", "level": "STDOUT", "message": line.decode(errors="replace").rstrip()}


def _how(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
