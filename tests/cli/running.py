"""The command line as people run it, in this process or in one of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from longtake.cli import app

SCRIPT = "from longtake.cli import main; main()"


@dataclass(frozen=True)
class Ran:
    """A finished command: its exit status and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


def run(*args: str | Path, given: str | None = None) -> Ran:
    """The command in this process."""
    done = CliRunner().invoke(app, [str(arg) for arg in args], input=given)
    return Ran(done.exit_code, done.stdout, done.stderr)


def started(*args: str | Path) -> "subprocess.Popen[str]":
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *(str(arg) for arg in args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
