"""The worker's process: it holds one device and the models, and carries out one request after the other.

    python -m longtake.worker.main

Lines of JSON come in on standard input (`run`, `go`, `cancel`) and go out on standard output (`ready`, `progress`,
`plan`, `done`, `failed`); what libraries print goes to standard error. It ends when its input does.
"""

import hashlib
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from longtake.endpoints import ENDPOINTS, endpoint
from longtake.endpoints.validation import parse
from longtake.errors import Cancelled, LongtakeError
from longtake.families import plan_from_json, plan_to_json
from longtake.media.fetch import fetch_file
from longtake.models.download import status
from longtake.models.registry import ModelCard, card
from longtake.outbound import PublicTransport
from longtake.prepare import Fetcher, Job, prepare
from longtake.settings import Settings, settings
from longtake.storage.files import own_file
from longtake.video import STAGES, Progress

if TYPE_CHECKING:
    from longtake.runner import Runner

Message = dict[str, Any]


class Line:
    """The line to the server: what it asks comes in by a thread, so that a cancel is heard while work goes on."""

    def __init__(self, incoming: TextIO, outgoing: TextIO) -> None:
        self.outgoing = outgoing
        self.asked: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self.closed = threading.Event()
        self.current: str | None = None
        self.unwanted: str | None = None
        threading.Thread(target=self._listen, args=(incoming,), daemon=True).start()

    def _listen(self, incoming: TextIO) -> None:
        for text in incoming:
            message: Message = json.loads(text)
            if message["do"] == "cancel":
                self.unwanted = message["id"]
            else:
                self.asked.put(message)
        if self.current is not None:
            os._exit(1)  # the server is gone, and the device shall not work for nobody
        self.closed.set()
        self.asked.put(None)

    def say(self, kind: str, **facts: Any) -> None:
        self.outgoing.write(json.dumps({"say": kind, **facts}) + "\n")
        self.outgoing.flush()

    def end(self, kind: str, **facts: Any) -> None:
        """The last word on a request."""
        self.current = None
        self.say(kind, **facts)

    def check(self) -> None:
        """Raises Cancelled where the work is not wanted any more."""
        if self.closed.is_set() or (self.current is not None and self.current == self.unwanted):
            raise Cancelled

    def wait_for_go(self) -> None:
        """Until the server has stored what it was told. Raises Cancelled where it stops instead."""
        while True:
            self.check()
            try:
                message = self.asked.get(timeout=0.05)
            except queue.Empty:
                continue
            if message is None:
                raise Cancelled
            if message["do"] == "go":
                return


@dataclass
class Reporter:
    """Tells the server of progress, measures the seconds of each stage, and stops the work when it is cancelled."""

    line: Line
    seconds: dict[str, float] = field(default_factory=dict)
    stage: str | None = None
    since: float = field(default_factory=time.perf_counter)
    told: Progress | None = None

    def __call__(self, progress: Progress) -> None:
        self.line.check()
        self.enter(progress.stage.split()[0])
        if progress == self.told:
            return
        self.told = progress
        self.line.say(
            "progress",
            message=sentence(progress),
            stage=self.stage,
            step=progress.step,
            steps=progress.steps,
            window=progress.window,
            windows=progress.windows,
        )

    def enter(self, stage: str | None) -> None:
        now = time.perf_counter()
        if self.stage is not None:
            self.seconds[self.stage] = self.seconds.get(self.stage, 0.0) + now - self.since
        self.stage, self.since = stage, now


def sentence(progress: Progress) -> str:
    """`Sampling new frames, window 2 of 3, step 4 of 15`."""
    name = progress.stage.split()[0]
    parts = [STAGES.get(name, name)]
    if progress.windows > 1:
        parts.append(f"window {progress.window} of {progress.windows}")
    if name == "sampling":
        parts.append(f"step {progress.step + 1} of {progress.steps}")
    return ", ".join(parts)


def carry_out(message: Mapping[str, Any], line: Line, runner: "Runner", settings: Settings) -> None:
    """One request, from its JSON to the finished file in its folder. Raises LongtakeError."""
    from longtake.sampling.resume import Resume

    folder = Path(message["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    endpoint = ENDPOINTS[message["endpoint"]]
    request = parse(endpoint.Request, message["body"])
    plan = None if message["plan"] is None else plan_from_json(message["plan"])
    model = endpoint.card(settings) if plan is None else card(plan.model)
    reporter = Reporter(line)
    reporter.enter("prepare")
    started = time.perf_counter()
    fetcher = Fetcher(
        own_file=lambda url: own_file(url, Path(message["files"]), message["key_id"]),
        transport=PublicTransport(settings.trusted_hosts),
        folder=folder,
    )
    with prepare(endpoint, request, model, settings, fetcher=fetcher, plan=plan) as job:
        document = plan_to_json(job.plan)
        if plan is None:
            line.say("plan", plan=document)
            line.wait_for_go()
        path = folder / f"{output_name(job)}{job.plan.output_format.suffix}"
        result = runner.run(job, path, on_progress=reporter, resume=Resume(steps_folder(folder, document)))
        reporter.enter(None)
    plan = result.plan
    line.end(
        "done",
        file=str(result.path),
        content_type=result.content_type,
        response=result.response(""),
        billable_units=decimal_text(plan.billed_units),
        price_usd=decimal_text(plan.price_usd),
        sync=plan.sync_mode,
        timings={"inference_time": time.perf_counter() - started, **reporter.seconds},
        new_frames=plan.new_frames,
        evaluations=plan.evaluations,
        notes=list(result.notes),
    )


def steps_folder(folder: Path, document: Mapping[str, Any]) -> Path:
    """The folder of a plan's finished steps: another plan of the same request does not go on from them."""
    name = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]
    steps = folder / f"steps-{name}"
    steps.mkdir(exist_ok=True)
    return steps


def decimal_text(value: Fraction) -> str:
    """A number to at most six places after the point."""
    return format(round(Decimal(value.numerator) / value.denominator, 6).normalize(), "f")


def output_name(job: Job) -> str:
    """The name of the file without its suffix."""
    return f"longtake-{job.plan.seed}"


def serve(line: Line, settings: Settings) -> None:
    """Carries out what is asked until the server closes the line."""
    from longtake.runner import Runner

    transport = PublicTransport(settings.trusted_hosts)

    def fetch(url: str, into: Path, max_bytes: int) -> Path:
        return fetch_file(url, into, max_bytes=max_bytes, transport=transport)

    runner = Runner(settings, fetch=fetch)
    with telling(line, runner):
        runner.load(first_model(settings), Reporter(line))
    line.say("ready")
    while (message := line.asked.get()) is not None:
        if message["do"] == "run":
            line.current = message["id"]
            with telling(line, runner):
                carry_out(message, line, runner, settings)


def first_model(settings: Settings) -> ModelCard:
    """The model to load before the first request: that of the endpoint the settings name, else the largest here."""
    if settings.preload is not None:
        return endpoint(settings.preload).card(settings)
    cards = {one.card(settings).name: one.card(settings) for one in ENDPOINTS.values()}
    return max(cards.values(), key=lambda card: status(card, settings).num_bytes)


@contextmanager
def telling(line: Line, runner: "Runner") -> Iterator[None]:
    """Reports whatever goes wrong in the block to the server; the process goes on."""
    try:
        yield
    except LongtakeError as error:
        detail = error.detail()
        line.end("failed", status=error.status, body={"detail": [detail]}, error=error.message, error_type=error.type)
    except Exception as error:
        import traceback

        traceback.print_exc()
        memory = type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError)
        if memory:
            runner.release()
        failure = LongtakeError(
            "The memory ran out; a lower resolution or fewer frames need less."
            if memory
            else "Something failed while the video was made; the server's log has the traceback."
        )
        line.end(
            "failed",
            status=failure.status,
            body={"detail": [failure.detail()]},
            error=failure.message,
            error_type=failure.type,
        )


def main() -> None:
    outgoing = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(Line(sys.stdin, outgoing), settings())


if __name__ == "__main__":
    main()
