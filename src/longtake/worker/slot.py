"""One slot: a thread that claims requests, has its worker process carry them out, and keeps what comes of it."""

import base64
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Literal, TypeVar

from longtake.database.connection import RetriesStopped, is_temporary, retry_until_stopped
from longtake.queue import engine as queue
from longtake.queue.addresses import sibling_url
from longtake.queue.requests import CANCELLED, LogLine, Outcome, RequestRow
from longtake.storage.files import NewFile
from longtake.worker import outcomes
from longtake.worker.claims import Shop
from longtake.worker.leases import spent, work_folder
from longtake.worker.process import Child, Message

log = logging.getLogger(__name__)

POLL_S = 0.25
"""So often a slot looks for what other servers have changed."""
BATCH_S = 0.05
"""So often at most lines are added to a request's log."""
MOST_LINES = 1000
"""So many wait at most, while the database is away."""
MOST_WAIT_S = 30.0
"""Between two tries to start a worker process that does not get ready."""

LABELS = ("stage", "step", "steps", "window", "windows")

State = Literal["starting", "idle", "busy", "failing", "stopped"]
End = Outcome | Literal["cancelled", "died", "drained", "lost"]
Result = TypeVar("Result")


@dataclass
class Job:
    """A request in hands, and the lines about it that are not yet stored."""

    row: RequestRow
    lines: list[LogLine] = field(default_factory=list)
    done: Message | None = None
    next_tell: float = 0.0
    next_look: float = field(default_factory=lambda: time.monotonic() + POLL_S)


class Slot:
    """One device, its worker process, and the thread that serves it.

    Everything reaches the thread through one mailbox: what the worker process says, and what this server asks
    (`wake`, `cancel`, `drain`, `stop`)."""

    def __init__(self, name: str, device: str, pool: str, shop: Shop) -> None:
        self.name, self.pool = name, pool
        self.state: State = "starting"
        self.since = time.time()
        self._device = device
        self._shop = shop
        self._mail: SimpleQueue[tuple[Child | None, Message]] = SimpleQueue()
        self._draining = self._stopping = False
        self._ending = threading.Event()
        self._child: Child | None = None
        self._ready = False
        self._heard = self._start_at = 0.0
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        self._mail.put((None, {"say": "wake"}))

    def cancel(self, request_id: str) -> None:
        self._mail.put((None, {"say": "cancel", "id": request_id}))

    def drain(self) -> None:
        """It claims nothing any more."""
        self._draining = True
        self.wake()

    def stop(self) -> None:
        """Ends the worker process and the thread; what is in hands goes back to the queue."""
        self._draining = self._stopping = True
        self._ending.set()
        self.wake()

    def join(self, timeout_s: float) -> None:
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._turn()
            except RetriesStopped:
                pass
            except Exception as error:
                if is_temporary(error):
                    log.warning("%s waits for the database: %s", self.name, str(error).partition("\n")[0])
                else:
                    log.exception("%s failed", self.name)
                self._ending.wait(POLL_S)
        self._end_child()
        self._enter("stopped")

    def _turn(self) -> None:
        while not self._mail.empty():
            self._listen(0)
        row = self._shop.claims.take(self.pool) if self._prepared() and not self._draining else None
        if row is None:
            self._listen(POLL_S)
            return
        self._enter("busy")
        try:
            self._work(row)
        except RetriesStopped:
            raise
        except Exception:
            log.exception("Request %s ends, for something failed here.", row.id)
            self._kill()
            self._insist(lambda: queue.finish(self._shop.engine, row, outcomes.BROKEN))
            self._shop.on_change(row.id)
        finally:
            self._shop.claims.drop(row.id)
            self._enter("idle" if self._ready else "starting")

    def _enter(self, state: State) -> None:
        if state != self.state:
            self.state, self.since = state, time.time()

    # The worker process

    def _prepared(self) -> bool:
        """Whether the worker process is there and ready; starts it where there is none."""
        now = time.monotonic()
        if self._child is None:
            if now < self._start_at or self._draining:
                return False
            self._enter("failing" if self._failures > 1 else "starting")
            self._failures += 1
            self._start_at = now + min(0.1 * 2**self._failures, MOST_WAIT_S)
            environment = os.environ | {"LONGTAKE_DEVICE": self._device}
            self._child = Child(self._shop.command, environment, lambda child, said: self._mail.put((child, said)))
            self._heard = now
        if not self._ready and now - self._heard > self._shop.settings.stall_s:
            log.error("The worker process of %s did not get ready; it is killed.", self.name)
            self._kill()
        return self._ready

    def _listen(self, timeout_s: float) -> Message | None:
        """The next message that counts, within this time."""
        try:
            child, message = self._mail.get(timeout=max(timeout_s, 0))
        except Empty:
            return None
        if child is None:
            return message
        if child is not self._child:
            return None
        self._heard = time.monotonic()
        match message.get("say"):
            case "ready":
                self._ready, self._failures = True, 0
                self._enter("idle")
            case "died":
                log.error("The worker process of %s ended: %s.", self.name, message["how"])
                self._child, self._ready = None, False
            case "log" | "progress" if self.state != "busy":
                log.info("%s: %s", self.name, message.get("message"))
            case "failed" if self.state != "busy":
                log.error("%s: %s", self.name, message.get("error"))
        return message

    def _kill(self) -> None:
        if self._child is not None:
            self._child.kill()
        self._child, self._ready = None, False

    def _end_child(self) -> None:
        child, self._child, self._ready = self._child, None, False
        if child is None:
            return
        child.close()
        if not child.ended(within_s=1.0):
            child.kill()

    # One request

    def _work(self, row: RequestRow) -> None:
        child = self._child
        assert child is not None
        job = Job(row)
        self._shop.on_change(row.id)
        child.send(self._order(row))
        self._heard = time.monotonic()
        end = self._follow(job, child)
        ended = False
        if isinstance(end, Outcome):
            ended = self._finish(job, end)
        elif end == "died" and spent(row, self._shop.settings):
            ended = self._finish(job, outcomes.lost(row.attempt))
        elif end == "died":
            self._insist(lambda: queue.return_to_queue(self._shop.engine, row, attempt_failed=True))
        elif end == "drained":
            self._kill()
            self._insist(lambda: queue.return_to_queue(self._shop.engine, row, attempt_failed=False))
        elif end == "cancelled":
            ended = self._finish(job, CANCELLED)
        else:
            log.warning("Request %s is worked on elsewhere; what was made of it here is dropped.", row.id)
        self._shop.on_change(row.id)
        if ended and job.done is not None:
            self._shop.on_done(job.done)
        if end in ("cancelled", "lost"):
            self._call_off(row, child)
        self._clear(row, ended)

    def _order(self, row: RequestRow) -> bytes:
        folder = work_folder(self._shop.settings, row.id)
        self._insist(lambda: folder.mkdir(parents=True, exist_ok=True))
        order = {
            "do": "run",
            "id": row.id,
            "endpoint": row.endpoint,
            "plan": row.plan,
            "folder": str(folder),
            "key_id": row.key_id,
            "base_url": row.base_url,
            "files": str(self._shop.settings.data_dir / "files"),
        }
        # The body is JSON already, perhaps of many megabytes; newlines in it are only between its tokens.
        return json.dumps(order).encode()[:-1] + b', "body": ' + row.body.replace(b"\n", b" ") + b"}"

    def _follow(self, job: Job, child: Child) -> End:
        """Listens until the request ends."""
        settings = self._shop.settings
        while True:
            message = self._listen(self._until(job)) or {"say": None}
            now = time.monotonic()
            match message["say"]:
                case "progress" | "log":
                    job.lines.append(_line(message))
                case "plan":
                    plan = message["plan"]
                    if not self._insist(partial(queue.store_plan, self._shop.engine, job.row, plan)):
                        return self._unwanted(job.row)
                    self._shop.on_change(job.row.id)
                    child.send(b'{"do": "go"}')
                    self._heard = time.monotonic()
                case "done":
                    return self._result(job, message)
                case "failed":
                    return outcomes.failed(message)
                case "died":
                    return "died"
                case "cancel" if message["id"] == job.row.id:
                    return "cancelled"
            if self._stopping:
                return "drained"
            if now - self._heard > settings.stall_s:
                log.error("The worker process of %s said nothing for %g s; it is killed.", self.name, settings.stall_s)
                self._kill()
                return "died"
            if now >= job.next_look:
                job.next_look = now + POLL_S
                if self._try(lambda: queue.claim_state(self._shop.engine, job.row), "held") != "held":
                    return self._unwanted(job.row)
            if job.lines and now >= job.next_tell:
                self._tell(job)

    def _until(self, job: Job) -> float:
        """Seconds until something has to be done."""
        due = min(job.next_look, self._heard + self._shop.settings.stall_s)
        return min(due, job.next_tell if job.lines else due) - time.monotonic()

    def _unwanted(self, row: RequestRow) -> End:
        return "cancelled" if self._insist(lambda: queue.claim_state(self._shop.engine, row)) == "cancelled" else "lost"

    def _tell(self, job: Job) -> None:
        """Stores the lines, if the database will have them now."""
        if self._try(lambda: queue.add_log_lines(self._shop.engine, job.row, job.lines), None) is None:
            job.lines = job.lines[-MOST_LINES:]
            job.next_tell = time.monotonic() + 10 * BATCH_S
            return
        job.lines = []
        job.next_tell = time.monotonic() + BATCH_S
        self._shop.on_change(job.row.id)

    def _result(self, job: Job, message: Message) -> End:
        """Keeps the file that was made; the outcome with its address."""
        row, path = job.row, Path(message["file"])
        if self._insist(lambda: queue.claim_state(self._shop.engine, row)) == "lost":
            return "lost"
        job.lines += [LogLine(time.time(), "INFO", note) for note in message.get("notes") or ()]
        job.done = message
        kind = message["content_type"]
        if message.get("sync") or not row.store_io:
            return outcomes.done(message, f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}")
        name = message["response"].get("video", {}).get("file_name") or path.name
        file = NewFile(row.key_id, name, kind, row.lifecycle)
        key = self._insist(lambda: self._shop.store.add_result(row.id, file, path))
        return outcomes.done(message, f"{sibling_url(row.base_url, 'cdn')}/files/{key}")

    def _finish(self, job: Job, outcome: Outcome) -> bool:
        """Stores how it ended, however long that takes, after what was told before; whether it counts."""
        row, engine = job.row, self._shop.engine
        if job.lines:
            self._insist_or(lambda: queue.add_log_lines(engine, row, job.lines), lambda: False)
        kept = self._insist_or(
            lambda: queue.finish(engine, row, outcome), lambda: queue.finish(engine, row, outcomes.BROKEN)
        )
        if not kept:
            log.warning("Request %s has ended already or is worked on elsewhere; this outcome is dropped.", row.id)
        return kept

    def _clear(self, row: RequestRow, ended: bool) -> None:
        """Removes the work folder once the request has ended: until then another attempt goes on from it."""
        if not ended:
            now = self._try(lambda: queue.get(self._shop.engine, row.id), None)
            ended = now is not None and now.has_ended
        if ended:
            shutil.rmtree(work_folder(self._shop.settings, row.id), ignore_errors=True)

    def _call_off(self, row: RequestRow, child: Child) -> None:
        """Has the worker process stop; kills it where it does not."""
        if self._child is not child:
            return
        child.send(json.dumps({"do": "cancel", "id": row.id}).encode())
        until = time.monotonic() + self._shop.settings.cancel_grace_s
        while (left := until - time.monotonic()) > 0 and not self._stopping:
            message = self._listen(left)
            if message is not None and message["say"] in ("done", "failed", "died"):
                break
        else:
            self._kill()

    def _insist(self, do: Callable[[], Result]) -> Result:
        return retry_until_stopped(do, self._ending)

    def _insist_or(self, do: Callable[[], Result], otherwise: Callable[[], Result]) -> Result:
        """`otherwise` is done where `do` cannot be, ever."""
        try:
            return self._insist(do)
        except RetriesStopped:
            raise
        except Exception:
            log.exception("%s cannot store something as it is.", self.name)
            return self._insist(otherwise)

    def _try(self, do: Callable[[], Result], otherwise: Result | None) -> Result | None:
        try:
            return do()
        except Exception as error:
            if not is_temporary(error):
                log.exception("%s failed", self.name)
            return otherwise


def _line(message: Message) -> LogLine:
    """A line that every database can store."""
    labels = {name: str(message[name]) for name in LABELS if message.get(name) is not None}
    text = str(message.get("message", "")).replace("\0", "").encode(errors="replace").decode()
    return LogLine(time.time(), str(message.get("level", "INFO"))[:10], text, labels)
