"""How many threads compute on a CPU, and how they wait. The tests of the families show that results stay the same."""

import os
import subprocess
import sys
import threading

import pytest
import torch

from longtake.database.connection import is_temporary
from longtake.errors import machine_error
from longtake.runner import Runner
from longtake.settings import settings
from longtake.threads import Pool, prepare_threads, start
from tests.no_threads import no_threads


@pytest.mark.skipif(sys.platform != "linux", reason="only GNU's OpenMP, which torch has on Linux, tells its settings")
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("-m", "longtake.worker.main"), id="worker"),
        pytest.param(
            ("-c", "from longtake import library, settings; library.local_runner(settings.settings())"), id="library"
        ),
    ],
)
def test_threads_sleep_while_they_wait(arguments: tuple[str, ...]) -> None:
    """OpenMP writes its settings to standard error when torch loads it. The process is ended then."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    environment["OMP_DISPLAY_ENV"] = "TRUE"
    with subprocess.Popen(
        [sys.executable, *arguments], env=environment, text=True, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        policy = next((line for line in process.stderr if "OMP_WAIT_POLICY" in line), "")
        process.kill()
    assert "'PASSIVE'" in policy


def test_a_variable_of_the_user_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.delenv("MKL_CBWR", raising=False)
    prepare_threads()
    assert (os.environ["OMP_WAIT_POLICY"], os.environ["MKL_CBWR"]) == ("ACTIVE", "AUTO,STRICT")


def test_a_setting_chooses_the_number() -> None:
    before = torch.get_num_threads()
    try:
        Runner(settings(threads=before + 1))
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_a_thread_that_cannot_start_is_this_machine_s_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    with no_threads(monkeypatch), pytest.raises(OSError, match="no more threads") as raised:
        start(threading.Thread(target=print))
    assert machine_error(raised.value) is not None
    assert is_temporary(raised.value)
    done = threading.Event()
    thread = threading.Thread(target=done.set)
    start(thread)
    assert done.wait(60)
    with pytest.raises(RuntimeError):
        start(thread)


def test_a_pool_that_can_start_no_thread_is_this_machine_s_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    with Pool(2) as pool:
        assert list(pool.map(abs, [-1, -2, -3])) == [1, 2, 3]
    with no_threads(monkeypatch), pytest.raises(OSError, match="no more threads") as raised, Pool(2) as pool:
        pool.map(abs, [-1])
    assert machine_error(raised.value) is not None
