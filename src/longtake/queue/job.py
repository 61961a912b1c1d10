"""The worker's process: it holds one device and the models, and carries out one request after the other.

    python -m longtake.queue.job

Lines of JSON come in on standard input (`run`, `go`, `cancel`) and go out on standard output (`ready`, `progress`,
`plan`, `done`, `failed`); what libraries print goes to standard error. It ends when its input does.
"""

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
from pathlib import Path
from typing import Any, TextIO

from longtake import outbound
from longtake.clip import STAGES, Progress
from longtake.endpoints import ENDPOINTS, endpoint
from longtake.endpoints.shared import parse
from longtake.errors import Cancelled, LongtakeError
from longtake.media.fetch import localise
from longtake.media.source import open_source
from longtake.models.registry import ModelCard, card, default_model
from longtake.plan import LTX2Plan, from_json, to_json
from longtake.prepare import Prepared, prepared, recipe_of
from longtake.queue.store import own_file
from longtake.settings import Settings, settings

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


class Shelf:
    """The model in memory: one at a time."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.card: ModelCard | None = None
        self.models: Any = None
        self.loras: Any = None

    def take(self, card: ModelCard, reporter: Reporter) -> Any:
        """The model of a card, loaded where it is not the one in memory."""
        from longtake.models import ltx2, ltxv
        from longtake.models.loras import LoraCache

        if self.loras is None:
            self.loras = LoraCache(self.settings.lora_cache_bytes)
        if self.card != card:
            self.drop()
            reporter(Progress("load", 0, 1))
            load = ltx2.load if card.family == "ltx2" else ltxv.load
            self.models, self.card = load(card, self.settings, on_progress=reporter), card
        return self.models

    def drop(self) -> None:
        """Frees the memory of the model."""
        import gc

        import torch

        self.card = self.models = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def carry_out(message: Mapping[str, Any], line: Line, shelf: Shelf, settings: Settings) -> None:
    """One request, from its JSON to the finished file in its folder. Raises LongtakeError."""
    from longtake.extend.kept import Kept
    from longtake.take import adapters_of, take

    folder = Path(message["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    request = parse(ENDPOINTS[message["endpoint"]].Request, message["body"])
    plan = None if message["plan"] is None else from_json(message["plan"])
    model = default_model(message["endpoint"], settings) if plan is None else card(plan.model)
    transport = outbound.transport(settings.trusted_hosts)
    reporter = Reporter(line)
    reporter.enter("prepare")

    def fetch(url: str, into: Path, max_bytes: int) -> Path:
        return localise(url, into, max_bytes=max_bytes, transport=transport)

    started = time.perf_counter()
    with prepared(
        request,
        model,
        settings,
        own_file=lambda url: own_file(url, Path(message["files"]), message["key_id"]),
        folder=folder,
        plan=plan,
        transport=transport,
    ) as ready:
        if plan is None:
            line.say("plan", plan=to_json(ready.plan))
            line.wait_for_go()
        models = shelf.take(model, reporter)
        adapters = adapters_of(ready.plan, model, settings, shelf.loras, fetch=fetch)
        recipe = recipe_of(request)
        path = folder / f"{output_name(ready)}{recipe.suffix}"
        result = take(ready, models, path, recipe, settings, adapters=adapters, kept=Kept(folder), on_progress=reporter)
        reporter.enter(None)
    with open_source(result.path) as file:
        facts = file.facts
    plan = result.plan
    line.end(
        "done",
        file=str(result.path),
        content_type=result.content_type,
        response=result.response(facts, ""),
        price_usd=str(round(Decimal(plan.price_usd.numerator) / plan.price_usd.denominator, 6)),
        sync=isinstance(plan, LTX2Plan) and plan.sync_mode,
        timings={"inference_time": time.perf_counter() - started, **reporter.seconds},
        new_frames=plan.new_frames,
        evaluations=plan.evaluations,
        notes=list(result.notes),
    )


def output_name(ready: Prepared) -> str:
    """The name of the file without its suffix."""
    return f"longtake-{ready.plan.seed}"


def serve(line: Line, settings: Settings) -> None:
    """Carries out what is asked until the server closes the line."""
    shelf = Shelf(settings)
    with telling(line, shelf):
        preload(line, shelf, settings)
    line.say("ready")
    while (message := line.asked.get()) is not None:
        if message["do"] == "run":
            line.current = message["id"]
            with telling(line, shelf):
                carry_out(message, line, shelf, settings)


def preload(line: Line, shelf: Shelf, settings: Settings) -> None:
    """Loads a model before the first request: that of the endpoint the settings name, else the largest that is here."""
    cards = [default_model(name, settings) for name in reversed(ENDPOINTS)]
    if settings.preload is not None:
        chosen = default_model(endpoint(settings.preload).ENDPOINT, settings)
    else:
        chosen = next((card for card in cards if card.parts is not None), cards[0])
    shelf.take(chosen, Reporter(line))


@contextmanager
def telling(line: Line, shelf: Shelf) -> Iterator[None]:
    """Whatever goes wrong in the block is told to the server, and the process goes on."""
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
            shelf.drop()
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
