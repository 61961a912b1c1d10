"""One attempt to carry out a claimed request: the messages to and from the worker process, and the stored outcome."""

import logging
import threading
import time
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

from longtake.database.connection import RetriesStopped
from longtake.queue import engine as queue
from longtake.queue import fetches, previews
from longtake.queue.addresses import file_url
from longtake.queue.payloads import MAX_VIDEO_INSIDE, move_result_out, move_video_inside
from longtake.queue.previews import StoredPreview
from longtake.queue.requests import CANCELLED, LogLine, Outcome, RequestRow
from longtake.storage.files import NewFile
from longtake.worker import outcomes
from longtake.worker.context import SlotContext
from longtake.worker.exchange import Exchange
from longtake.worker.leases import is_last_attempt
from longtake.worker.machine import pause_s, wait_for_room
from longtake.worker.messages import (
    CancelRequested,
    Died,
    Done,
    Failed,
    FileWanted,
    Interrupted,
    MachineFailed,
    Planned,
    Previewed,
    Printed,
    Proceed,
    ProgressReport,
    Run,
    Watched,
)
from longtake.worker.request_files import find_file, missing_files
from longtake.worker.request_log import RequestLog, log_line, printed_line
from longtake.worker.retries import Retries
from longtake.worker.work_folders import remove_work_folder, work_folder

log = logging.getLogger(__name__)

CHECK_EVERY_S = 0.25
"""Seconds between two reads of the request's row, to notice a cancellation or a claim by another server."""

WATCHERS_EVERY_S = 1.0
"""Seconds between two reads of the number of times that clients have asked for previews of the request."""

_LOST = "Request %s has ended or another attempt has claimed it; the %s of this attempt is dropped."

Ending = Outcome | MachineFailed | Died | Interrupted | Literal["cancelled", "stopped", "not begun", "lost", "missing"]
"""The ending of an attempt.

An `Outcome` is the result or the error that the worker process reported.
`MachineFailed`: this machine failed, for example because its disk is full.
"cancelled": a client has cancelled the request.
`Died`: the worker process ended without an outcome, or was killed because it sent nothing for too long.
`Interrupted`: the worker process was killed because of another request.
"stopped": this server stops.
"not begun": this server drains, and the request has not used the device yet.
"lost": the request has ended, or another attempt has claimed it.
"missing": a file that was downloaded before the claim is not on this machine.
"""


class Attempt:
    """One attempt to carry out one claimed request in a worker process.

    `row`: the request's row after the claim.
    `exchange`: the exchange of messages with the worker process.
    `context`: the objects that all slots (devices with their worker processes) of the server share.
    `stopping`: an event that is set when the server stops.
    `draining`: an event that is set when the request should go back to the queue unless it has used the device. None if
        it is carried out nevertheless.

    A temporary failure of the database or the disk delays the outcome but does not change it.
    """

    def __init__(
        self,
        row: RequestRow,
        exchange: Exchange,
        context: SlotContext,
        stopping: threading.Event,
        draining: threading.Event | None = None,
    ) -> None:
        self.row = row
        self.exchange = exchange
        self.has_ended = False
        """Set by the slot (a device with its worker process) after `run`."""
        self._context = context
        self._engine = context.engine
        self._stopping = stopping
        self._draining = draining
        self._retries = Retries(row.id, stopping)
        self._log = RequestLog()
        self._done: Done | None = None
        self._check_at = time.monotonic() + CHECK_EVERY_S
        self._count_at = 0.0  # when to count the questions for previews, in seconds of the monotonic clock
        self._num_questions: int | None = None

    def run(self) -> None:
        """Carries out the request. Then stores its outcome, or puts the request back into the queue.

        An unexpected error ends the request with an internal error. Raises RetriesStopped if the server stops while the
        database is unreachable.
        """
        try:
            self._run()
        except RetriesStopped:
            raise
        except Exception:
            log.exception("Request %s failed because of an internal error; its worker process is killed.", self.row.id)
            self.exchange.kill()
            self._retries.until_done(lambda: queue.finish(self._engine, self.row, outcomes.NOT_STORED))
            self._changed()

    def _run(self) -> None:
        row = self.row
        self._changed()
        if row.plan is not None:
            earlier = self._retries.until_done(lambda: queue.log_lines(self._engine, row.id))
            self._log = RequestLog(line.message for line in earlier if "stage" not in line.labels)
            self._log.add(log_line("The work goes on after an interruption."))
        self.exchange.send(self._first_message())
        ending = self._follow()
        grace_s = self._context.settings.cancel_grace_s
        if ending == "not begun":
            self.exchange.stop(grace_s, self._stopping, spares_other=True)
        has_ended = self._settle(ending)
        self._changed()
        if has_ended and self._done is not None:
            self._context.on_done(self._done)
        if ending in ("cancelled", "lost", "missing") and self._done is None:
            self.exchange.stop(grace_s, self._stopping)
        if has_ended or self._has_ended_elsewhere():
            remove_work_folder(self._context.settings, row.id)

    def _first_message(self) -> Run:
        row, folder = self.row, work_folder(self._context.settings, self.row.id)
        self._retries.until_done(lambda: folder.mkdir(parents=True, exist_ok=True))
        return Run(row.id, row.endpoint, row.body.decode(), row.plan, folder, row.key_id, row.body_blob, row.store_io)

    def _follow(self) -> Ending:
        """Handles the worker process's messages until the attempt ends. Returns how it ended."""
        while True:
            ending = self._handle_next()
            if ending is not None:
                return ending
            if self._stopping.is_set():
                return "stopped"
            if self._should_go_back():
                return "not begun"
            if self.exchange.kill_if_stalled():
                return Died("it sent nothing for too long")
            now = time.monotonic()
            if now >= self._check_at:
                self._check_at = now + CHECK_EVERY_S
                if self._claim_state() != "held":
                    return self._reason_to_stop()
                if now >= self._count_at:
                    self._count_at = now + WATCHERS_EVERY_S
                    self._notice_watchers()
            if now >= self._log.due_at:
                self._log.store(self._write_log)

    def _handle_next(self) -> Ending | None:
        """Waits for the next message, and handles it. Returns how the attempt ended, or None if it goes on.

        Also returns None when the caller has to check the claim, store log lines or kill a process that has stalled.
        """
        due_at = min(self._check_at, self._log.due_at, self.exchange.stalls_at)
        match self.exchange.receive(due_at - time.monotonic()):
            case ProgressReport() as report:
                self._log.report(report)
            case Previewed() as preview:
                self._store_preview(preview)
            case Printed() as printed:
                self._log.add(printed_line(printed))
            case Planned(plan, lines):
                if not self._retries.until_done(lambda: queue.store_plan(self._engine, self.row, plan)):
                    return self._reason_to_stop()
                for line in lines:
                    self._log.add(log_line(line))
                self._changed()
                self.exchange.send(Proceed())
            case FileWanted(url):
                found = self._retries.until_done(lambda: find_file(self._context, self.row, url))
                if found is None:
                    return "missing"
                self.exchange.send(found)
            case Done() as done:
                return self._store_result(done)
            case Failed() as failed:
                return outcomes.failed(failed)
            case MachineFailed() as failure:
                return failure
            case Died() | Interrupted() as end:
                return end
            case CancelRequested():
                return "cancelled"
        return None

    def _should_go_back(self) -> bool:
        return self._draining is not None and self._draining.is_set() and not self.exchange.has_used_device

    def _claim_state(self) -> Literal["held", "cancelled", "lost"]:
        """Returns whether this attempt still holds the request.

        "held": this attempt holds it, or the database failed.
        "cancelled": this attempt holds it, but a client has cancelled it.
        "lost": the request has ended, or another attempt has claimed it.
        """
        return self._retries.once(
            lambda: queue.claim_state(self._engine, self.row), "held", action="checking whether it is still claimed"
        )

    def _notice_watchers(self) -> None:
        """Tells the worker process to send previews if a client has asked for them since the last call."""
        asked = self._retries.once(
            lambda: previews.num_questions(self._engine, self.row.id), None, action="checking who wants previews"
        )
        if asked is None:
            return
        # The first count may be of questions from long ago, when the request was still waiting.
        if self._num_questions is not None and asked > self._num_questions:
            self.exchange.send(Watched(self.row.id))
        self._num_questions = asked

    def _store_preview(self, preview: Previewed) -> None:
        stored = StoredPreview(preview.picture, preview.step, preview.steps, preview.window, preview.windows)
        self._retries.once(lambda: previews.store(self._engine, self.row, stored), None, action="storing a preview")

    def _reason_to_stop(self) -> Literal["cancelled", "lost"]:
        state = self._retries.until_done(lambda: queue.claim_state(self._engine, self.row))
        return "cancelled" if state == "cancelled" else "lost"

    def _store_result(self, done: Done) -> Ending:
        """Stores the finished video as a file. Returns the outcome, which contains the URL of the video.

        - If the client wants the video inside the response, and it has at most 64 MiB (MAX_VIDEO_INSIDE), no file is
          stored. The stored response then contains the video as a data URI.
        - If the request has ended, or another attempt has claimed it, nothing is stored, and "lost" is returned.

        `done`: the worker process's message about the video.
        """
        row, self._done = self.row, done
        if self._retries.until_done(lambda: queue.claim_state(self._engine, row)) == "lost":
            return "lost"
        for note in done.notes:
            self._log.add(log_line(note))
        if done.returns_data_uri:
            size = done.path.stat().st_size
            if size <= MAX_VIDEO_INSIDE:
                outcome = outcomes.done(done, f"data:{done.content_type};base64,")
                return self._retries.until_done(
                    lambda: move_video_inside(self._context.store, row.id, outcome, done.path)
                )
            self._log.add(log_line(outcomes.TOO_LARGE_INSIDE.format(size=size, limit=MAX_VIDEO_INSIDE)))
        name = done.response.get("video", {}).get("file_name") or done.path.name
        file = NewFile(row.key_id, name, done.content_type, row.lifecycle)
        key = self._retries.until_done(lambda: self._context.store.add_result(row.id, file, done.path))
        return outcomes.done(done, file_url(row.base_url, key))

    def _settle(self, ending: Ending) -> bool:
        """Ends the request or puts it back into the queue. Returns True if it has stored an outcome.

        `ending` is how the attempt ended:
        - An `Outcome`, or "cancelled": stores the outcome, which ends the request.
        - `Died`: puts the request back, or stores an error as its outcome if no further attempt is allowed.
        - `MachineFailed`: waits, and then does the same as for `Died`. A full disk always allows a further attempt.
        - "stopped": kills the worker process and puts the request back.
        - `Interrupted` or "not begun": puts the request back. The attempt does not count.
        - "lost": does nothing, because this attempt no longer holds the request.
        - "missing": puts the request back to wait for the files, or ends it if they were downloaded too often.
        """
        row = self.row
        match ending:
            case Outcome() as outcome:
                return self._finish(outcome)
            case "cancelled":
                return self._finish(CANCELLED)
            case Died(reason) if is_last_attempt(row, self._context.settings):
                return self._finish(outcomes.worker_died(row.attempt, reason))
            case Died(reason):
                log.warning("Request %s goes back to the queue, because its worker process ended: %s.", row.id, reason)
                self._retries.until_done(lambda: queue.return_to_queue(self._engine, row, attempt_failed=True))
            case MachineFailed() as failure:
                return self._wait_for_machine(failure)
            case "stopped":
                self.exchange.kill()
                log.info("Request %s goes back to the queue, because this server stops.", row.id)
                self._retries.until_done(lambda: queue.return_to_queue(self._engine, row, attempt_failed=False))
            case Interrupted() | "not begun":
                log.info("Request %s goes back to the queue; this attempt does not count.", row.id)
                self._retries.until_done(lambda: queue.return_to_queue(self._engine, row, attempt_failed=False))
            case "missing":
                return self._send_back()
            case "lost":
                log.warning(_LOST, row.id, "work")
        return False

    def _wait_for_machine(self, failure: MachineFailed) -> bool:
        """Waits until the request may be tried again, and puts it back into the queue. Returns False.

        If this was the last attempt, ends the request with an error and returns True. An attempt that failed because
        the disk is full never counts as the last one.
        """
        row, settings = self.row, self._context.settings
        log.warning("Request %s waits, because this machine failed: %s.", row.id, failure.reason)
        is_last = is_last_attempt(row, settings)
        counts = wait_for_room(
            work_folder(settings, row.id),
            0 if is_last else pause_s(row.attempt - 1),
            lambda seconds: self._stopping.wait(seconds) or self._claim_state() != "held",
        )
        if counts and is_last and self._claim_state() == "held":
            return self._finish(outcomes.machine_failed(row.attempt, failure.reason))
        self._retries.until_done(lambda: queue.return_to_queue(self._engine, row, attempt_failed=counts))
        return False

    def _send_back(self) -> bool:
        """Puts the request back, to wait until its missing files are downloaded again. Returns False.

        If they were downloaded more than `max_attempts` (a setting) times already, ends the request and returns True.
        """
        row = self.row
        attempts = self._retries.until_done(lambda: fetches.of_request(self._engine, row.id)).attempt
        if attempts > self._context.settings.max_attempts:
            return self._finish(outcomes.files_missing(attempts))
        missing = self._retries.until_done(lambda: missing_files(self._context, row))
        log.info("Request %s waits for %d files that this machine lacks.", row.id, len(missing))
        self._retries.until_done(lambda: queue.send_back(self._engine, row, missing))
        return False

    def _finish(self, outcome: Outcome) -> bool:
        """Stores the remaining log lines and the outcome.

        Returns False, and stores nothing, if this attempt no longer holds the request.
        """
        row, lines = self.row, self._log.lines
        if lines:
            self._retries.or_else(
                lambda: queue.add_log_lines(self._engine, row, lines),
                lambda: False,
                failure="The last log lines of request %s cannot be stored; they are dropped.",
            )
        moved = cache(lambda: move_result_out(self._context.store, row.id, outcome))
        is_stored = self._retries.or_else(
            lambda: queue.finish(self._engine, row, moved()),
            lambda: queue.finish(self._engine, row, outcomes.NOT_STORED),
            failure="The outcome of request %s cannot be stored; an internal error is stored instead.",
        )
        if is_stored:
            log.info("Request %s to %s ended with status %d.", row.id, row.endpoint, outcome.status_code)
        else:
            log.warning(_LOST, row.id, "outcome")
        return is_stored

    def _has_ended_elsewhere(self) -> bool:
        """Returns True if the database says that the request has ended, for example by another attempt.

        The caller may then remove the request's work folder, because no later attempt needs it. Returns False if the
        request's row cannot be read.
        """
        row = self._retries.once(
            lambda: queue.get_without_payloads(self._engine, self.row.id), None, action="reading its row"
        )
        return row is not None and row.has_ended

    def _write_log(self, lines: list[LogLine], progress: Mapping[str, Any] | None) -> bool:
        """Stores log lines and the progress of the request. Returns False if the database failed.

        If this attempt no longer holds the request, nothing is stored, and True is returned.
        """
        is_held = self._retries.once(
            lambda: queue.add_log_lines(self._engine, self.row, lines, progress), None, action="storing its log lines"
        )
        if is_held is not None:
            self._changed()
        return is_held is not None

    def _changed(self) -> None:
        self._context.on_change(self.row.id)
