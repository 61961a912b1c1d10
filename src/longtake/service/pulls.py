"""Downloads models when clients of the server ask for it, each in a process of its own."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import IO, Any

import structlog

from longtake import system
from longtake.settings import Settings
from longtake.threads import start

MOST_PULLS = 2
"""Maximum number of models that a server downloads at the same time."""

_log = structlog.get_logger("longtake.models")


@dataclass(frozen=True)
class PullState:
    """A download of a model that runs or has failed.

    file: the file that is being downloaded; empty before the first one.
    bytes: the number of bytes that have arrived.
    all_bytes: the number of bytes of the whole download; 0 before it is known.
    error: a sentence for the user that says why it failed; None while it runs.
    """

    file: str = ""
    bytes: int = 0
    all_bytes: int = 0
    error: str | None = None


class TooManyPulls(Exception):
    """The maximum number of models (MOST_PULLS) is being downloaded already."""


class Pulls:
    """The downloads of models that this server runs, and those that have failed. Thread-safe.

    settings: the server's settings. Only `data_dir` is used; the child processes read the others from the environment.
    """

    def __init__(self, settings: Settings) -> None:
        self._environment = {"LONGTAKE_DATA_DIR": str(settings.data_dir)}
        self._lock = threading.Lock()
        self._pulls: dict[str, PullState] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def get(self, name: str) -> PullState | None:
        """Returns the download of the model with this name: running, or failed and not begun again. Otherwise None."""
        with self._lock:
            return self._pulls.get(name)

    def begin(self, name: str) -> None:
        """Starts the download of the model with this name, unless it runs already.

        Raises TooManyPulls if two (MOST_PULLS) others run, and OSError if no process or thread can start.
        """
        with self._lock:
            if name in self._processes:
                return
            if len(self._processes) >= MOST_PULLS:
                raise TooManyPulls
            process = subprocess.Popen(
                [sys.executable, "-m", "longtake.models.pulling", name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=os.environ | self._environment,
                **system.SEPARATE_PROCESS,
            )
            self._processes[name] = process
            self._pulls[name] = PullState()
            try:
                start(threading.Thread(target=self._read, args=(name, process), daemon=True))
            except OSError:
                del self._processes[name], self._pulls[name]
                system.kill(process)
                raise

    def cancel(self, name: str) -> bool:
        """Ends the download of the model with this name. Returns False if it does not run.

        Complete files are kept. The next download of the model fetches only the others.
        """
        with self._lock:
            process = self._processes.pop(name, None)
            if process is None:
                return False
            del self._pulls[name]
        system.kill(process)
        return True

    def stop(self) -> None:
        """Ends all running downloads of models."""
        with self._lock:
            names = list(self._processes)
        for name in names:
            self.cancel(name)

    def _read(self, name: str, process: "subprocess.Popen[bytes]") -> None:
        """Reads the output of the process that downloads a model until it ends, and records its progress and
        failure."""
        assert process.stdin is not None
        assert process.stdout is not None
        end: dict[str, Any] = {}
        with process.stdin, process.stdout:
            for message in _messages(process.stdout, name):
                if "error" in message:
                    end = message
                else:
                    self._update(name, process, message)
        code = process.wait()
        error = end.get("error", f"The download ended unexpectedly ({system.end_name(code) or f'exit status {code}'}).")
        with self._lock:
            if self._processes.get(name) is process:  # It was not cancelled.
                del self._processes[name]
                if error is None:
                    del self._pulls[name]
                else:
                    self._pulls[name] = replace(self._pulls[name], error=error)

    def _update(self, name: str, process: "subprocess.Popen[bytes]", values: Mapping[str, Any]) -> None:
        with self._lock:
            if self._processes.get(name) is process:
                self._pulls[name] = replace(self._pulls[name], **values)


def _messages(lines: IO[bytes], name: str) -> Iterator[dict[str, Any]]:
    """Yields the messages of a process that downloads a model. Its other output goes to the log.

    lines: the output of the process. A message is a JSON object in one line.
    name: the name of the model, for the log.
    """
    for line in lines:
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if isinstance(message, dict):
            yield message
        elif line.strip():
            _log.info("A download wrote a line", model=name, line=line.decode(errors="replace").rstrip())
