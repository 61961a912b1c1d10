"""Work beside the model: its progress, its errors and its end."""

import threading

import pytest

from longtake.output.background import Background
from longtake.video import OnProgress, Progress, ignore_progress
from tests.no_threads import no_threads


def test_waiting_reports_the_progress_of_the_work() -> None:
    may_end, reports = threading.Event(), list[Progress]()

    def work(on_progress: OnProgress) -> None:
        on_progress(Progress("footage", 3, 8))
        may_end.wait()

    def receive(progress: Progress) -> None:
        reports.append(progress)
        may_end.set()

    with Background() as background:
        background.start(work)
        background.wait(receive)
    assert set(reports) == {Progress("footage", 3, 8)}


def test_an_error_of_the_work_ends_the_other_work_at_its_next_report() -> None:
    def work(on_progress: OnProgress) -> None:
        raise KeyError("the source is damaged")

    with Background() as background:
        background.start(work)
        with pytest.raises(KeyError, match="damaged"):
            background.wait(ignore_progress)
        with pytest.raises(KeyError, match="damaged"):
            background.watched(ignore_progress)(Progress("sampling", 0, 8))


def test_the_work_is_stopped_at_the_end_of_the_block() -> None:
    began, ended = threading.Event(), threading.Event()

    def work(on_progress: OnProgress) -> None:
        try:
            while True:
                on_progress(Progress("footage", 0, 1))
                began.set()
        finally:
            ended.set()

    with Background() as background:
        background.start(work)
        began.wait()
    assert ended.is_set()


def test_without_work_there_is_nothing_to_wait_for() -> None:
    with Background() as background:
        background.wait(ignore_progress)


def test_the_error_of_a_thread_that_cannot_start_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        no_threads(monkeypatch, "write source") as refused,
        pytest.raises(OSError, match="no more threads"),
        Background() as background,
    ):
        background.start(lambda on_progress: None)
    assert refused
