"""The server's end of a worker process: starts it, exchanges messages with it, and logs its standard error."""

import contextlib
import logging
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import IO

from longtake import system
from longtake.threads import start
from longtake.worker.messages import Died, FromProcess, ToWorker, decode_to_server, encode_to_worker

log = logging.getLogger(__name__)


class WorkerProcess:
    """A worker process. Creating the object starts the process.

    `command`: the program and its arguments.
    `environment`: all environment variables of the process.
    `on_message`: called with this object and each message of the process, from a background thread. The last message is
        `Died`.

    Each line that the process writes to standard error is logged. Ctrl-C in a terminal does not reach the process. If
    the server dies, the standard input of the process ends, and then the process ends by itself. On Linux the kernel
    also kills a process of `worker.main` when the thread that created this object ends, so this thread must not end
    before the process.

    Raises OSError, and leaves no process, if the system allows no more processes, threads or open files.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        on_message: Callable[["WorkerProcess", FromProcess], None],
    ) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            **system.SEPARATE_PROCESS,
        )
        self._outbox: SimpleQueue[ToWorker | None] = SimpleQueue()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        try:
            start(threading.Thread(target=self._write, args=(self._process.stdin,), daemon=True))
            start(threading.Thread(target=_log_lines, args=(self._process.stderr, self.pid), daemon=True))
            start(threading.Thread(target=self._read, args=(self._process.stdout, on_message), daemon=True))
        except OSError:
            self.kill()
            self._process.wait()
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: ToWorker) -> None:
        """Queues a message for the process and returns at once. If the process has ended, the message is dropped."""
        self._outbox.put(message)

    def close(self) -> None:
        """Makes a background thread close the process's standard input after all queued messages. Returns at once.

        When its standard input ends, the process ends by itself. If it is carrying out a request, it does not finish
        the request.
        """
        self._outbox.put(None)

    def kill(self) -> None:
        """Kills the process and, except on Windows, those that it started. `on_message` still receives `Died`."""
        system.kill(self._process)

    def has_ended(self, within_s: float) -> bool:
        """Waits at most `within_s` seconds for the process to end. Returns True if it has ended."""
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _write(self, stdin: IO[bytes]) -> None:
        with contextlib.suppress(OSError), stdin:
            while (message := self._outbox.get()) is not None:
                stdin.write(encode_to_worker(message))
                stdin.flush()

    def _read(self, stdout: IO[bytes], on_message: Callable[["WorkerProcess", FromProcess], None]) -> None:
        with stdout:
            for line in stdout:
                on_message(self, decode_to_server(line))
        if not self.has_ended(within_s=1):
            self.kill()
        code = self._process.wait()
        self.close()
        on_message(self, Died(system.end_name(code) or f"exit status {code}"))


def _log_lines(stderr: IO[bytes], pid: int) -> None:
    with stderr:
        for line in stderr:
            # A progress bar uses carriage returns to rewrite its line. Only the last state of the line is logged.
            text = line.decode(errors="replace").rstrip().rpartition("\r")[2]
            if text:
                log.info("%s", text, extra={"worker_pid": pid})
