"""A worker process: it holds one device and its loaded model, and carries out one request after another. On a GPU it
prepares the next request, and writes the last one's video, while another request uses the device.

    python -m longtake.worker.main

It exchanges the messages of `longtake.worker.messages` with its server over standard input and output. It ends when its
standard input ends. What libraries print to standard output goes to standard error instead.
"""

import gc
import hashlib
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longtake.endpoints import ENDPOINTS, endpoint
from longtake.endpoints.validation import parse
from longtake.errors import (
    BadCheckpoint,
    Cancelled,
    InvalidRequest,
    LongtakeError,
    ModelNotInstalled,
    NotSupported,
    is_out_of_memory,
    machine_error,
)
from longtake.families import plan_from_json, plan_to_json
from longtake.imports import importing_models
from longtake.media.fetch import fetch_file, pace_of, remove_fetched
from longtake.models.download import status
from longtake.models.hub_access import hub_transport
from longtake.models.lora_check import Transports
from longtake.models.lora_files import LoraSources
from longtake.models.registry import ModelCard
from longtake.outbound import PublicTransport
from longtake.plans import Plan
from longtake.prepare import Fetcher, prepare, without_prompts
from longtake.settings import Settings, settings
from longtake.storage import open_blobs
from longtake.system import end_with_starter, ignore_stop_signals
from longtake.threads import prepare_threads
from longtake.turn import Turn
from longtake.worker.channel import Channel, RequestChannel
from longtake.worker.messages import DeviceUse, Done, Failed, MachineFailed, Planned, Ready, Run, Unusable
from longtake.worker.progress import ProgressReporter
from longtake.worker.stored_files import find_file, hub_file, linked, open_stored_file, read_input

if TYPE_CHECKING:
    from longtake.runner import Runner


def main() -> None:
    """Runs this process as a worker process until its standard input ends, or until the thread that started it ends."""
    # While a library holds the interpreter, nothing reads standard input. A server that ended before this line sends no
    # request, and then the end of standard input is enough.
    end_with_starter()
    ignore_stop_signals()
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # all other code of this process now writes to standard error instead
    with _ending_the_process():
        serve(Channel(sys.stdin.buffer, outgoing), settings())
    gc.freeze()  # otherwise the end of the interpreter visits all objects of torch, which takes two seconds


def serve(channel: Channel, settings: Settings) -> None:
    """Loads a model (see `first_model`), prepares it for the first request (see `warming`), reports that it is ready,
    and carries out requests until the server closes `channel`.

    - If the model cannot be loaded, sends the error to the server and continues without a model in memory.
    - If torch or another library cannot be imported, sends the reason to the server and carries out nothing.
    """
    try:
        runner = make_runner(settings)
    except NotSupported as error:
        channel.send(Unusable(error.message))
        for _ in channel.runs():  # until the server closes the channel; it starts no other process meanwhile
            pass
        return
    from longtake.warming import default_plans, warm_up

    gc.freeze()  # half a million objects of imported modules, which no garbage collection need visit
    with reporting_failures(channel):
        model = first_model(settings)
        if model is not None:
            warm_up(runner, model, default_plans(model, settings), settings, ProgressReporter(channel))
    transports = Transports(PublicTransport(settings.trusted_hosts), hub_transport(settings))
    device = threading.Lock() if shares_device(settings) else None

    def work() -> None:
        with _ending_the_process():
            for run in channel.runs():
                answer(run, channel.request(run.request_id), runner, transports, settings, device)

    if device is not None:
        threading.Thread(target=work, daemon=True).start()
    channel.send(Ready())
    work()


@contextmanager
def _ending_the_process() -> Iterator[None]:
    """A context manager: an exception of its block ends this process."""
    try:
        yield
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # an ordinary exit would abort, because a thread still reads standard input


def make_runner(settings: Settings) -> "Runner":
    """Returns the object that loads models and makes videos. Raises NotSupported if a library cannot be imported."""
    prepare_threads()
    with importing_models():
        from longtake.runner import Runner

    return Runner(settings)


def shares_device(settings: Settings) -> bool:
    """Returns True if a request may be prepared or written while another one uses the device.

    That is so for a GPU. A CPU would only do both at half the speed.
    """
    from longtake.models.memory import choose_device

    try:
        return choose_device(settings).type != "cpu"
    except NotSupported:  # every request fails with this error
        return False


def lora_sources(run: Run, channel: RequestChannel, transports: Transports, settings: Settings) -> LoraSources:
    """Returns the sources of the LoRAs that a request names.

    `channel`: the request's connection to the server, which is asked for the LoRAs.
    `transports`: download the LoRAs that the server does not have.
    """

    def fetch(url: str, folder: Path, max_bytes: int) -> Path:
        found = find_file(url, channel)
        if found.blob is not None:
            with open_blobs(settings).local(found.blob) as path:
                return linked(path, folder / "fetched")
        return fetch_file(
            url, folder, max_bytes=max_bytes, pace=pace_of(settings), transport=transports.urls, check=channel.check
        )

    return LoraSources(
        fetch,
        lambda url: open_stored_file(url, channel, settings, fetched=False),
        lambda lora: hub_file(lora, channel, settings),
        transports.hub,
        caller=run.caller,
    )


def first_model(settings: Settings) -> ModelCard | None:
    """Returns the model to load before the first request, or None if no model is installed.

    This is the model of the endpoint `settings.preload`. If that setting is None, it is the model whose files on this
    machine have the most bytes.

    Raises ModelNotInstalled if the model of the endpoint `settings.preload` is not installed.
    """
    if settings.preload is not None:
        choice = endpoint(settings.preload).model_choice(settings)
        choice.check()
        return choice.card
    choices = [one.model_choice(settings) for one in ENDPOINTS.values()]
    cards = {choice.card.name: choice.card for choice in choices if choice.installed}
    return max(cards.values(), key=lambda card: status(card, settings).num_bytes, default=None)


def answer(
    run: Run,
    channel: RequestChannel,
    runner: "Runner",
    transports: Transports,
    settings: Settings,
    device: "threading.Lock | None",
) -> None:
    """Carries out one request, and sends its result or its failure to the server.

    `device`: the lock of the device, if requests share it (see `Turn`); else None.
    """
    turn = Turn() if device is None else Turn(device, lambda state: channel.send(DeviceUse(state)))
    try:
        with reporting_failures(channel):
            channel.send(carry_out(run, channel, runner, transports, settings, turn))
    finally:
        if turn.is_mine:  # The request has failed. Its error may refer to itself, and to tensors on the device.
            gc.collect()
        turn.end()


def carry_out(
    run: Run,
    channel: RequestChannel,
    runner: "Runner",
    transports: Transports,
    settings: Settings,
    turn: Turn | None = None,
) -> Done:
    """Carries out one request, writes its video into `run.folder`, and returns the message about its result.

    `run`: the server's message with the request.
    `channel`: the request's connection to the server.
    `runner`: holds the model and makes the video.
    `transports`: download the files that the request names.
    `settings`: the server's settings.
    `turn`: the request's turn on the device (see `Runner.run`).

    Raises LongtakeError if the request is invalid, fails, or is cancelled.
    """
    from longtake.sampling.resume import Resume
    from longtake.worker.previews import PreviewSender

    started = time.perf_counter()
    endpoint = ENDPOINTS[run.endpoint]
    run.folder.mkdir(parents=True, exist_ok=True)
    remove_fetched(run.folder)
    fetcher = Fetcher(
        open_own=lambda url: open_stored_file(url, channel, settings),
        transport=transports.urls,
        folder=run.folder,
        check=channel.check,
    )
    reporter = ProgressReporter(channel)
    reporter.enter("prepare")
    with channel.working():
        request = parse(endpoint.Request, read_input(run, open_blobs(settings)))
        plan = None if run.plan is None else plan_from_json(run.plan)
        model = endpoint.model_choice(settings, None if plan is None else plan.model)
        model.check()
        with prepare(endpoint, request, model, settings, fetcher=fetcher, plan=plan) as job:
            document = plan_to_json(job.plan)
            if plan is None:
                channel.store_plan(Planned(without_prompts(document), (made_by(job.plan), *job.plan.notes)))
            path = run.folder / f"longtake-{job.plan.seed}{job.plan.output_format.suffix}"
            resume = Resume(steps_folder(run.folder, document))
            if not run.is_labelled:
                job = replace(job, label="")
            sources = lora_sources(run, channel, transports, settings)
            with PreviewSender(channel) as previews:
                result = runner.run(
                    job,
                    path,
                    on_progress=reporter,
                    resume=resume,
                    lora_sources=sources,
                    previews=previews,
                    turn=turn,
                )
    reporter.enter(None)
    seconds = time.perf_counter() - started - reporter.seconds.get("waiting", 0.0)
    return Done(
        path=result.path,
        content_type=result.content_type,
        response=result.response(""),
        billable_units=to_decimal(result.plan.billed_units),
        price_usd=to_decimal(result.plan.price_usd),
        returns_data_uri=result.plan.sync_mode,
        timings={"inference_time": seconds, **reporter.seconds},
        new_frames=result.plan.new_frames,
        evaluations=result.plan.evaluations,
        model=model.card.name,
        notes=result.notes,
        stand_in=model.note if model.stands_in_for else None,
    )


def made_by(plan: Plan) -> str:
    """Returns a sentence for the request's log with the model's name and the number of new frames that it makes."""
    return f"{plan.model} makes {plan.new_frames} new frames."


def steps_folder(folder: Path, document: Mapping[str, Any]) -> Path:
    """Returns the subfolder of `folder` that keeps the finished sampling steps of a plan. Creates it if necessary.

    `document` is the plan in its JSON form. The subfolder is named after a hash of the plan, so that the request never
    resumes from the steps of a different plan.
    """
    name = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]
    steps = folder / f"steps-{name}"
    steps.mkdir(exist_ok=True)
    return steps


def to_decimal(value: Fraction) -> Decimal:
    """Returns a number rounded to six decimal places, without trailing zeros or an exponent."""
    rounded = round(Decimal(value.numerator) / value.denominator, 6)
    return Decimal(format(rounded.normalize(), "f"))


@contextmanager
def reporting_failures(channel: Channel | RequestChannel) -> Iterator[None]:
    """A context manager: sends an exception of its block to the server as a message, and suppresses it.

    The message is `MachineFailed` if this machine is at fault (see `errors.machine_error`), otherwise `Failed`.
    """
    try:
        yield
    except ModelNotInstalled as error:  # a BadCheckpoint whose sentence is for clients
        channel.send(Failed.of(error))
    except BadCheckpoint as error:
        _print(channel, error.message)  # not for clients, because it names paths of this machine
        sentence = "The model's files on the server are damaged or do not fit; the server's log says which."
        channel.send(Failed.of(LongtakeError(sentence)))
    except (InvalidRequest, Cancelled) as error:
        channel.send(Failed.of(error))
    except Exception as error:
        ours = machine_error(error)
        if ours is not None:
            _print(channel, f"this machine failed: {ours}")
            channel.send(MachineFailed(ours.strerror or type(ours).__name__))
            return
        if isinstance(error, LongtakeError):
            channel.send(Failed.of(error))
            return
        _print(channel, traceback.format_exc())
        if is_out_of_memory(error):
            sentence = "The memory ran out; a lower resolution or fewer frames need less."
        else:
            sentence = "Something failed while the video was made; the server's log has the traceback."
        channel.send(Failed.of(LongtakeError(sentence)))


def _print(channel: Channel | RequestChannel, text: str) -> None:
    """Prints a text for the server's log, after the id of the request that it is about."""
    about = f"Request {channel.request_id}: " if isinstance(channel, RequestChannel) else ""
    print(about + text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
