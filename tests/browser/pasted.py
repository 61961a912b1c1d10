"""Programs that are pasted. Each runs in a process that is forked from one that has imported the models' libraries.

These imports take longer than the small requests of the tests.
"""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

LONGEST_S = 300.0
_FORKS = multiprocessing.get_context("forkserver")
_STUB = """#!/bin/sh
printf '%s\\0' "$@" > arguments
cat > input
"""
"""A program `longtake` that writes its arguments and its standard input into files."""


def run_python(text: str, folder: Path, env: Mapping[str, str]) -> None:
    """Runs a Python program in a folder. Fails the test if the program fails."""
    (folder / "input").write_text(text)
    _run(_python, folder, env)


def run_command(text: str, folder: Path, env: Mapping[str, str]) -> None:
    """Runs a shell command that calls `longtake` once. Fails the test if the command fails.

    The shell calls a stub, which stores the arguments and the input that it got. Then the command line gets them.
    """
    stub = folder / "longtake"
    stub.write_text(_STUB)
    stub.chmod(0o755)
    shell = {**env, "PATH": f"{folder}{os.pathsep}{env['PATH']}"}
    subprocess.run(["bash", "-e"], input=text, cwd=folder, env=shell, check=True, text=True, timeout=LONGEST_S)
    _run(_longtake, folder, env)


def _run(program: Callable[[], None], folder: Path, env: Mapping[str, str]) -> None:
    _FORKS.set_forkserver_preload(["tests.browser.libraries"])  # ignored where the tests have forked before
    process = _FORKS.Process(target=_begin, args=(program, folder, {**env, "LONGTAKE_DATA_DIR": str(folder / "data")}))
    process.start()
    process.join(LONGEST_S)
    process.kill()
    process.join()
    assert process.exitcode == 0, (folder / "log").read_text()[-3000:]


def _begin(program: Callable[[], None], folder: Path, env: Mapping[str, str]) -> None:
    """Calls `program` in a folder and an environment, with the file `input` there, and its output in the file `log`."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    log = Path("log").open("w")  # noqa: SIM115
    for stream in (1, 2):
        os.dup2(log.fileno(), stream)
    with Path("input").open() as sys.stdin:
        program()


def _python() -> None:
    exec(compile(sys.stdin.read(), "<stdin>", "exec"), {"__name__": "__main__"})


def _longtake() -> None:
    from longtake.__main__ import main

    sys.argv = ["longtake", *Path("arguments").read_text().split("\0")[:-1]]
    main()
