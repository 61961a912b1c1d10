"""The repeating thread: its rhythm, its errors, and its end."""

import logging
import threading
from queue import SimpleQueue

import pytest

from longtake.periodic import Failures, Repeating

BOUND_S = 60.0
"""Seconds that a test waits for a call before it fails."""


def is_os_error(error: Exception) -> bool:
    return isinstance(error, OSError)


def test_it_calls_again_after_each_delay_until_it_is_stopped() -> None:
    calls: SimpleQueue[int] = SimpleQueue()

    def work() -> float:
        calls.put(1)
        return 0.001

    repeating = Repeating("test", work, failure="The test failed", is_temporary=is_os_error)
    repeating.start()
    for _ in range(3):
        calls.get(timeout=BOUND_S)
    repeating.stop()
    assert repeating.stopping.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "test"]


def test_wake_starts_the_next_call_at_once() -> None:
    calls: SimpleQueue[int] = SimpleQueue()

    def work() -> float:
        calls.put(1)
        return 3600.0

    repeating = Repeating("test", work, failure="The test failed", is_temporary=is_os_error)
    repeating.start()
    calls.get(timeout=BOUND_S)
    repeating.wake()
    calls.get(timeout=BOUND_S)
    repeating.stop()


@pytest.mark.parametrize(("error", "has_traceback"), [(OSError("it is away\nand more"), False), (KeyError("x"), True)])
def test_an_error_is_logged_and_the_next_call_follows(
    error: Exception, has_traceback: bool, caplog: pytest.LogCaptureFixture
) -> None:
    calls: SimpleQueue[int] = SimpleQueue()

    def work() -> float:
        calls.put(1)
        raise error

    repeating = Repeating("test", work, failure="The work failed", is_temporary=is_os_error, retry_s=0.001)
    with caplog.at_level(logging.WARNING):
        repeating.start()
        for _ in range(3):
            calls.get(timeout=BOUND_S)
        repeating.stop()
    assert caplog.messages[0] in ("The work failed: it is away", "The work failed: 'x'")
    assert bool(caplog.records[0].exc_info) == has_traceback


def test_stopping_before_the_start_does_nothing() -> None:
    Repeating("test", lambda: 1.0, failure="The test failed", is_temporary=is_os_error).stop()


def test_a_long_outage_is_logged_once_a_minute_and_its_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: SimpleQueue[int] = SimpleQueue()
    reasons = iter(["it is away\nand more"] * 50 + ["it starts", "it starts"])

    def work() -> float:
        calls.put(1)
        reason = next(reasons, None)
        if reason is not None:
            raise OSError(reason)
        return 3600.0

    repeating = Repeating("test", work, failure="The work failed", is_temporary=is_os_error, retry_s=0.0001)
    repeating.start()
    for _ in range(53):
        calls.get(timeout=BOUND_S)
    repeating.stop()
    assert caplog.messages == [
        "The work failed: it is away",
        "The work failed: it starts",
        "This is over: The work failed.",
    ]
    failures, now = Failures(), [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    assert [failures.news(OSError("away")) for now[0] in range(0, 150, 20)] == [
        None if at % 60 else "away" for at in range(0, 150, 20)
    ]
