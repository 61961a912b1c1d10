"""The processes that download models."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from longtake import system
from longtake.service.pulls import Pulls
from longtake.settings import Settings
from tests.no_threads import no_threads
from tests.service.serving import wait_for


def test_the_reason_of_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pulls = Pulls(Settings(data_dir=tmp_path))
    monkeypatch.setenv("LONGTAKE_OFFLINE", "1")
    pulls.begin("ltx-2.3")
    wait_for(lambda: (found := pulls.get("ltx-2.3")) is not None and found.error is not None)
    found = pulls.get("ltx-2.3")
    assert found is not None
    assert "LONGTAKE_OFFLINE is set" in str(found.error)
    assert not pulls.cancel("ltx-2.3")


def test_a_download_ends_with_its_server() -> None:
    command = [sys.executable, "-m", "longtake.models.pulling", "ltx-2.3"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **system.SEPARATE_PROCESS)
    process.communicate(timeout=60)
    assert process.returncode == 1


def test_a_download_without_its_thread_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pulls = Pulls(Settings(data_dir=tmp_path))
    ended: list[subprocess.Popen[bytes]] = []

    def kill(process: "subprocess.Popen[bytes]") -> None:
        ended.append(process)
        process.kill()

    monkeypatch.setattr(system, "kill", kill)
    with no_threads(monkeypatch), pytest.raises(BlockingIOError, match="no more threads"):
        pulls.begin("ltx-2.3")
    assert pulls.get("ltx-2.3") is None
    assert [process.wait() for process in ended] == [-signal.SIGKILL]
