"""Runs the command line in this process or in a process of its own."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from longtake.cli import app

DEADLINE_S = 300
"""Seconds after which a process that a test started is killed."""

COMMANDS_IN_ONE_PROCESS = """
import json, sys
from longtake.cli import main
for args in json.loads(sys.argv[1]):
    sys.argv[1:] = args
    try:
        main()
    except SystemExit as end:
        status = end.code
sys.exit(status)
"""


@dataclass(frozen=True)
class Ran:
    """A finished command: its exit status, and what it wrote to standard output and standard error."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


def run(*args: str | Path, stdin: str | None = None) -> Ran:
    """Runs a command in this process."""
    done = CliRunner().invoke(app, [str(arg) for arg in args], input=stdin)
    return Ran(done.exit_code, done.stdout, done.stderr)


@contextmanager
def started(*commands: Sequence[str | Path]) -> Iterator["subprocess.Popen[str]"]:
    """Starts a process that runs the commands one after the other and ends with the last one's exit status.

    The process is killed at the end of the block, and after `DEADLINE_S` in any case.
    """
    arguments = json.dumps([list(map(str, args)) for args in commands])
    with subprocess.Popen(
        [sys.executable, "-c", COMMANDS_IN_ONE_PROCESS, arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        deadline = threading.Timer(DEADLINE_S, process.kill)
        deadline.start()
        try:
            yield process
        finally:
            deadline.cancel()
            process.kill()
