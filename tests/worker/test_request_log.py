"""The log of a request: each message once, and the steps as numbers. Also its lines in the server's own log."""

import io
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from longtake.queue.requests import LogLine
from longtake.service import logs
from longtake.settings import settings
from longtake.video import STAGES, Progress
from longtake.worker.messages import ProgressReport
from longtake.worker.progress import sentence
from longtake.worker.request_log import MAX_LINES, RequestLog, log_line
from tests.database.fixtures import on_sqlite
from tests.worker.requests import end_of, eventually, submit
from tests.worker.server import Server


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


@on_sqlite
def test_all_lines_of_the_log_about_a_request_have_its_id_as_a_field(
    engine: sa.Engine, serve: Callable[..., Server]
) -> None:
    out, root = io.StringIO(), logging.getLogger()
    before = (root.handlers[:], root.level)
    logs.setup(settings(log_format="json"), out)
    try:
        row = submit(engine, at="start", do="crash", once=True)
        serve()
        end_of(engine, row)
        eventually(lambda: "ended with status" in out.getvalue())
    finally:
        root.handlers[:], root.level = before
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    events = [line["event"] for line in lines if line.get("request_id") == row.id]
    begins, back, again, ends = [event.removeprefix(f"Request {row.id} ") for event in events]
    assert begins == "begins in slot 0 (cpu), attempt 1."
    assert back == "goes back to the queue, because its worker process ended: SIGKILL."
    assert again == "begins in slot 0 (cpu), attempt 2."
    assert ends == "to fal-ai/some/endpoint ended with status 200."
    assert [line["event"] for line in lines if row.id in line["event"] and "request_id" not in line] == []
