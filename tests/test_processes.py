"""Whether a process has ended, and what is called unknown."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from longtake.processes import UNKNOWN, born, has_ended, mark, state_of
from longtake.system import boot_id

pytestmark = pytest.mark.skipif(boot_id() == "", reason="only Linux tells whether a process has ended")


def test_a_process_that_is_gone_or_another_one_has_ended() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = born(process.pid)
    assert not has_ended(process.pid, started)
    assert has_ended(process.pid, started + 1), "its id was given to another process"
    process.communicate(b"\n")
    assert has_ended(process.pid, started)
    assert not has_ended(process.pid, UNKNOWN)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EIO, errno.ENOMEM])
def test_a_process_that_cannot_be_looked_at_has_not_ended(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> bytes:
        raise OSError(code, os.strerror(code))

    name = mark()
    assert state_of(name) is True
    monkeypatch.setattr(Path, "read_bytes", fail)
    assert not has_ended(os.getpid(), 1)
    assert state_of(name) is True
    assert born(os.getpid()) == UNKNOWN


def test_a_hidden_process_of_another_user_has_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux with `hidepid=2` says that there is no file, and only a signal is refused."""

    def refuse(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert not has_ended(2**22 + 1, 1)


@pytest.mark.parametrize("name", ["x", "0123456789abcdef.1.2.xyz", ".1.2.xyz", f"{mark().split('.')[0]}.1.None.xyz"])
def test_the_process_of_other_names_is_unknown(name: str) -> None:
    assert state_of(name) is None
