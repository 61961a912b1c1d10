"""The clock: it follows small corrections at once, and a jump only when the system's clock has run evenly since."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from longtake import clock
from longtake.clock import JUMP_S, SETTLE_S, Clock
from longtake.queue import engine as queue
from longtake.queue.erasure import eraser
from longtake.queue.requests import Submission
from longtake.settings import settings
from longtake.storage import open_blobs
from longtake.storage.files import FileStore, NewFile
from longtake.storage.keys import new_key
from longtake.storage.sweeper import sweepers
from longtake.worker.outcomes import NOT_STARTED_IN_TIME
from tests.worker.requests import whole_row

DAY_S = 86_400.0


class Machine:
    """The system's clock, and the elapsed time, which a test moves."""

    def __init__(self) -> None:
        self.wall, self.elapsed = 1_700_000_000.0, 50.0
        self.clock = Clock(lambda: self.wall, lambda: self.elapsed)

    def wait(self, seconds: float) -> None:
        self.wall += seconds
        self.elapsed += seconds


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.mark.parametrize(("jump_s", "text"), [(8 * DAY_S, "8.0 days ahead"), (-DAY_S, "24.0 hours back")])
def test_a_jump_for_five_seconds_changes_nothing(
    machine: Machine, jump_s: float, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = machine.clock.now()
    machine.wall += jump_s
    for _ in range(5):
        assert not machine.clock.is_steady()
        machine.wait(1)
    assert machine.clock.now() == before + 5
    machine.wall -= jump_s
    assert machine.clock.is_steady()
    assert machine.clock.now() == before + 5
    first, second = caplog.messages
    assert first.startswith(f"The system's clock jumped {text}. Times go on as before")
    assert second == "The system's clock is back. Expired files and requests are deleted again."


def test_a_clock_that_runs_evenly_after_a_jump_is_believed(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.wall += 3 * 3600
    machine.clock.now()
    machine.wait(SETTLE_S - 1)
    assert not machine.clock.is_steady()
    machine.wait(1)
    assert machine.clock.is_steady()
    assert machine.clock.now() == machine.wall
    assert caplog.messages[-1] == "The system's clock is believed: from now on all times are 3.0 hours ahead."


def test_a_second_jump_begins_the_wait_anew(machine: Machine) -> None:
    for jump_s in (DAY_S, 2 * DAY_S):
        machine.wall += jump_s
        assert not machine.clock.is_steady()
        machine.wait(SETTLE_S - 1)
    machine.wait(1)
    assert machine.clock.is_steady()


def test_small_corrections_are_followed_at_once_and_silently(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(10):
        machine.wall += JUMP_S / 2
        assert machine.clock.now() == machine.wall
    assert caplog.messages == []


@pytest.fixture
def eight_days_ahead(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sets this process's clock eight days ahead until the end of the test."""
    clock.now()
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + 8 * DAY_S)
    yield
    monkeypatch.undo()
    assert clock.is_steady()


def file_store(engine: sa.Engine, folder: Path, retention_s: float) -> tuple[FileStore, str]:
    """Returns a store with one file, which expires after `retention_s` seconds, and the file's key."""
    store = FileStore(engine, open_blobs(settings(data_dir=folder)), folder / "scratch", retention_s)
    (folder / "clip").write_bytes(b"frames")
    key = new_key("clip.mp4", "video/mp4")
    store.add(key, NewFile("me", "clip.mp4", "video/mp4"), folder / "clip")
    return store, key


def test_a_clock_ahead_deletes_no_file_and_ends_no_waiting_request(
    engine: sa.Engine, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    store, key = file_store(engine, tmp_path, 3600)
    row = queue.submit(engine, Submission("a/b", "default", "me", b"{}", "http://h/queue", start_timeout_s=3600))[0]
    request.getfixturevalue("eight_days_ahead")
    assert store.find(key) is not None
    assert store.sweep() == []
    assert queue.expire(engine, NOT_STARTED_IN_TIME) == []
    stored = whole_row(engine, row.id)
    assert stored is not None
    assert stored.state == "IN_QUEUE"


@pytest.mark.usefixtures("eight_days_ahead")
def test_nothing_is_deleted_while_the_clock_is_not_believed(
    engine: sa.Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, key = file_store(engine, tmp_path, -1)
    chosen = settings(data_dir=tmp_path)
    threads = [*sweepers(store, sweep_s=0.02), eraser(store, chosen, lambda _: None)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    for thread in threads:
        thread.stop()
    assert store.sweep() == [key], "the expired file was still there"
    assert any(line.startswith("The system's clock jumped 8.0 days ahead.") for line in caplog.messages)


def test_no_other_module_reads_the_systems_clock() -> None:
    """The signature of a webhook has the system's time, because its receiver compares it with a clock of its own."""
    sources = Path(clock.__file__).parent.rglob("*.py")
    assert {path.name for path in sources if re.search(r"time\.time(_ns)?\(", path.read_text())} == {
        "clock.py",
        "signing.py",
    }


def test_a_clock_that_is_far_ahead_at_the_start_is_in_doubt_until_it_is_set(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    known = machine.wall
    machine.wall += 8 * DAY_S
    wrong = Machine()
    wrong.wall = machine.wall
    wrong.clock = Clock(lambda: wrong.wall, lambda: wrong.elapsed)
    wrong.clock.doubt(known)
    wrong.wait(20)
    assert not wrong.clock.is_steady()
    wrong.wall -= 8 * DAY_S
    assert wrong.clock.is_steady()
    assert wrong.clock.now() == wrong.wall == known + 20
    first, second = caplog.messages
    assert first.startswith("The system's clock is 8.0 days ahead of all that is stored. Nothing expired is deleted")
    assert second == "The system's clock was set, and is not in doubt any more."


def test_a_clock_in_doubt_is_believed_when_it_runs_evenly(machine: Machine) -> None:
    machine.clock.doubt(machine.wall - 3 * DAY_S)
    machine.wait(SETTLE_S / 2)
    machine.wall += 100 * DAY_S
    assert not machine.clock.is_steady()
    machine.wait(SETTLE_S - 1)
    assert not machine.clock.is_steady()
    machine.wait(1)
    assert machine.clock.is_steady()


@pytest.mark.parametrize("ahead_s", [DAY_S - 1, 0, -8 * DAY_S])
def test_a_clock_near_the_newest_stored_time_is_not_in_doubt(machine: Machine, ahead_s: float) -> None:
    machine.clock.doubt(machine.wall - ahead_s)
    assert machine.clock.is_steady()
