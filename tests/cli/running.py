"""Runs the command line in this process or in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from longtake.cli import app

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


def started(*commands: Sequence[str | Path]) -> "subprocess.Popen[str]":
    """Starts a process that runs the commands one after the other and ends with the last one's exit status."""
    return subprocess.Popen(
        [sys.executable, "-c", COMMANDS_IN_ONE_PROCESS, json.dumps([list(map(str, args)) for args in commands])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
