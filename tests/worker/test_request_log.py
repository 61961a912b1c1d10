"""The log of a request: each message once, and the steps as numbers."""

from collections.abc import Mapping
from typing import Any

from longtake.queue.requests import LogLine
from longtake.video import STAGES, Progress
from longtake.worker.messages import ProgressReport
from longtake.worker.progress import sentence
from longtake.worker.request_log import MAX_LINES, RequestLog, log_line


def _report(progress: Progress) -> ProgressReport:
    return ProgressReport(sentence(progress), **vars(progress) | {"stage": progress.kind})


def test_a_request_of_four_windows_has_one_line_for_each_stage_and_window() -> None:
    log = RequestLog()
    for window in range(1, 5):
        for stage in STAGES:
            for step in range(15):
                log.report(_report(Progress(stage, step, 15, window, 4, 1 + step // 8, 2)))
    messages = [line.message for line in log.lines]
    assert len(set(messages)) == len(messages) == len(STAGES) - 2 + 4 <= 15
    assert STAGES["encode"] not in messages
    assert [message for message in messages if "window" in message] == [
        f"Sampling new frames, window {window} of 4" for window in range(1, 5)
    ]
    assert log.progress is not None
    assert (log.progress["step"], log.progress["steps"], log.progress["window"]) == (14, 15, 4)
    assert (log.progress["pass"], log.progress["passes"]) == (2, 2)


def test_a_message_that_the_log_has_is_not_written_again() -> None:
    log = RequestLog(known=["The source has two sound tracks."])
    for text in ("The source has two sound tracks.", "A warning", "A warning"):
        log.add(log_line(text))
    assert [line.message for line in log.lines] == ["A warning"]
    stored: list[str] = []

    def write(lines: list[LogLine], progress: Mapping[str, Any] | None) -> bool:
        stored.extend(line.message for line in lines)
        return True

    log.store(write)
    log.add(log_line("A warning"))
    assert (stored, log.lines, log.due_at) == (["A warning"], [], float("inf"))


def test_the_last_lines_are_kept_while_the_database_does_not_answer() -> None:
    log = RequestLog()
    for number in range(MAX_LINES + 5):
        log.add(log_line(str(number)))
    log.store(lambda lines, progress: False)
    assert [line.message for line in log.lines] == [str(number) for number in range(5, MAX_LINES + 5)]
