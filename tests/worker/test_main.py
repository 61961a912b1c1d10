"""The real worker process on the embedded models, driven by its messages."""

import errno
import gc
import os
import socket
import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic_core import to_json

from longtake import warming
from longtake.endpoints import ltx2, ltx23, ltxv098
from longtake.errors import (
    BadCheckpoint,
    Cancelled,
    DecoderFailed,
    DiskFull,
    LongtakeError,
    UnsupportedVideo,
)
from longtake.media.source import open_source
from longtake.models.lora_check import Transports
from longtake.outbound import PublicTransport
from longtake.settings import Settings
from longtake.storage.local import LocalBlobs
from longtake.video import ignore_progress
from longtake.worker import main, outcomes
from longtake.worker.channel import Channel
from longtake.worker.main import answer, carry_out, first_model, make_runner, reporting_failures
from longtake.worker.messages import (
    Cancel,
    DeviceUse,
    Done,
    Failed,
    FileFound,
    MachineFailed,
    Planned,
    Previewed,
    Proceed,
    ProgressReport,
    Ready,
    Run,
    Watched,
    decode_to_server,
    encode_to_worker,
)
from tests.storage.memory_blobs import memory_blobs
from tests.worker.worker_process import BLOB, CLIP, GONE_URL, OWN_URL, Worker, worker

VIDEO = {"video_url": OWN_URL, "start_frame_num": 24}
"""The last nine frames of the clip."""

SHORT = {
    "prompt": "a red circle moving left quickly over a green clouds background",
    "video": VIDEO,
    "num_frames": 17,
    "resolution": "480p",
    "aspect_ratio": "1:1",
    "first_pass_num_inference_steps": 2,
    "seed": 3,
}
TWO_WINDOWS = SHORT | {"num_frames": 49}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker process for several tests, whose server stores files where there are no paths."""
    with memory_blobs() as blobs, worker(tmp_path_factory.mktemp("worker"), blobs) as started:
        yield started


def test_a_request_becomes_a_file_and_the_endpoint_s_response(one: Worker) -> None:
    body = {
        "prompt": SHORT["prompt"],
        "video_url": OWN_URL,
        "num_frames": 34,
        "video_size": {"width": 256, "height": 160},
        "num_inference_steps": 8,
        "seed": 5,
        "use_multiscale": False,
        "video_cfg_scale": 1,
        "audio_cfg_scale": 1,
        "video_stg_scale": 0,
        "video_modality_scale": 1,
        "audio_modality_scale": 1,
    }
    one.run(ltx23.ENDPOINT.id, body, name="av", is_labelled=False)
    planned = one.next(Planned)
    assert planned.plan["seed"] == 5
    assert planned.lines == ("ltx2-tiny makes 9 new frames.", *planned.plan["notes"])
    one.send(Proceed())
    done, reports = one.end()
    assert isinstance(done, Done)
    sentences = list(dict.fromkeys(report.sentence for report in reports))
    assert "Sampling new frames" in sentences
    assert len(sentences) + len(planned.lines) <= 25
    assert len(sentences) < len(reports), "the steps are no lines of the log"
    with open_source(done.path) as file:
        assert (file.facts.width, file.facts.height, file.facts.num_frames) == (256, 160, 33 + 9)
        assert file.facts.sound is not None
        assert file.tags().comment == "", "the client does not let the server store the input"
    ltx2.Response.model_validate(done.response)
    assert done.response["seed"] == 5
    assert done.billable_units == 2, "256 x 160 x 34 pixels in begun megapixels"
    assert done.price_usd == 2 * Decimal("0.001605")
    assert done.new_frames == 9
    assert (done.model, done.stand_in) == ("ltx2-tiny", done.notes[0])
    assert "ltx2-tiny, a miniature that makes simple moving shapes, stands in for ltx-2.3" in done.notes[0]
    assert done.timings["sampling"] > 0
    assert done.timings["inference_time"] >= done.timings["sampling"]


@pytest.mark.parametrize(
    ("video", "status", "type", "loc"),
    [
        ({"video_url": "http://127.0.0.1:1/x.mp4"}, 422, "file_download_error", ["body", "video", "video_url"]),
        ({"video_url": GONE_URL}, 422, "file_download_error", ["body", "video", "video_url"]),
        ({"video_url": "data:video/mp4;base64,aGVsbG8="}, 422, "unsupported_video_format", None),
        ({"video_url": OWN_URL, "start_frame_num": 40}, 422, "value_error", ["body", "video", "start_frame_num"]),
        ({"video_url": "/etc/hostname"}, 422, "value_error", ["body", "video", "video_url"]),
    ],
)
def test_a_request_that_cannot_be_done_fails_and_the_worker_goes_on(
    one: Worker, video: dict[str, Any], status: int, type: str, loc: list[str] | None
) -> None:
    one.run(ltxv098.ENDPOINT.id, SHORT | {"video": video}, name=f"bad-{type}-{len(str(video))}")
    failed = one.next(Failed)
    assert (failed.status, failed.error_type) == (status, type)
    assert loc in (None, failed.body["detail"][0]["loc"])
    assert failed.body["detail"][0]["msg"] == failed.error
    assert failed.body["detail"][0]["input"] == video["start_frame_num" if "start_frame_num" in video else "video_url"]
    assert ("upload it again" in failed.error) == (video["video_url"] == GONE_URL)


@pytest.mark.parametrize(
    ("path", "type", "reason"),
    [
        ("http://127.0.0.1:1/x", "value_error", "neither at an https:// URL nor an upload"),
        ("https://127.0.0.1:1/x", "file_download_error", "does not lead to the public internet"),
        ("https://nowhere.invalid/files/another", "file_download_error", "nowhere.invalid/files/another"),
        (OWN_URL, "value_error", "http://anywhere:1/cdn/files/clip.mp4 is not a usable safetensors file"),
        (f"data:x/y;base64,{'PGh0bWw+' * 10_000}", "value_error", "data:x/y;base64,... is a web page"),
        ("data:x/y,a%", "value_error", "data:x/y,... is not a usable safetensors file"),
    ],
)
def test_a_lora_that_cannot_be_read_is_named_without_a_path_of_this_machine(
    one: Worker, path: str, type: str, reason: str
) -> None:
    loras = [{"path": path}]
    one.run(ltxv098.ENDPOINT.id, SHORT | {"loras": loras}, name=f"lora-{reason[:9]}".replace("/", "-"))
    plan = one.next(Planned).plan
    assert len(to_json(plan)) < 20_000
    one.send(Proceed())
    failed = one.next(Failed)
    (detail,) = failed.body["detail"]
    assert (failed.error_type, detail["loc"]) == (type, ["body", "loras", 0, "path"])
    assert reason in failed.error
    assert detail["input"][:9] == path[:9]
    assert len(to_json(failed.body)) < 1000
    assert not any(place in failed.error for place in (str(one.folder), "/tmp", ".fetched"))


def test_broken_files_of_a_model_are_told_without_their_paths(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = BytesIO()
    channel = Channel(BytesIO(), sent)
    with reporting_failures(channel):
        raise BadCheckpoint(f"There is no file {tmp_path}/config.json.")
    failed = decode_to_server(sent.getvalue())
    assert isinstance(failed, Failed)
    assert failed.error == "The model's files on the server are damaged or do not fit; the server's log says which."
    assert str(tmp_path) not in str(failed.body)
    assert str(tmp_path) in capsys.readouterr().err


def test_what_is_printed_for_the_server_s_log_names_the_request(capsys: pytest.CaptureFixture[str]) -> None:
    channel = Channel(BytesIO(), BytesIO()).request("the-id")
    for error in (ValueError("no"), OSError(errno.EIO, "no"), BadCheckpoint("no")):
        with reporting_failures(channel):
            raise error
        assert capsys.readouterr().err.startswith("Request the-id: ")


def test_a_model_that_is_not_installed_is_a_503_before_any_file_is_fetched(tmp_path: Path) -> None:
    current = Settings(models_dir=tmp_path, stand_in="refuse")
    sent = BytesIO()
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as incoming, open(write_end, "wb"):
        channel = Channel(incoming, sent).request("r")
        runner = make_runner(current)
        body = SHORT | {"video": {"video_url": "http://127.0.0.1:1/x.mp4"}}
        run = Run("r", ltxv098.ENDPOINT.id, to_json(body).decode(), None, tmp_path / "r", "key")
        with reporting_failures(channel):
            carry_out(run, channel, runner, Transports(PublicTransport(current.trusted_hosts), None), current)
    failed = decode_to_server(sent.getvalue())
    assert isinstance(failed, Failed)
    assert failed.error.startswith("ltxv-13b-0.9.8-distilled is not installed, and LONGTAKE_STAND_IN=refuse")
    assert (failed.status, failed.body["detail"]) == (503, failed.error)
    assert outcomes.failed(failed).headers["x-fal-retryable"] == "false"
    assert first_model(current) is None


def test_the_first_model_is_prepared_before_the_process_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    current, sent, prepared = Settings(model_sources={}, device="cpu"), BytesIO(), list[Any]()

    def warm_up(runner: Any, model: Any, plans: Any, *_: Any) -> None:
        prepared.append((model, [plan.model for plan in plans], sent.getvalue()))

    monkeypatch.setattr(warming, "warm_up", warm_up)
    main.serve(Channel(BytesIO(), sent), current)
    ((model, planned, before),) = prepared
    assert model == first_model(current)
    assert set(planned) == {model.name}
    assert before == b""
    assert isinstance(decode_to_server(sent.getvalue()), Ready)


def test_previews_come_while_somebody_looks(one: Worker) -> None:
    one.run(ltxv098.ENDPOINT.id, TWO_WINDOWS, name="watched")
    one.next(ProgressReport, stage="prompt")
    one.send(Watched("watched"))
    preview = one.next(Previewed)
    assert (preview.request_id, preview.steps, preview.windows) == ("watched", 2, 2)
    with Image.open(BytesIO(preview.picture)) as picture:
        assert picture.format == "WEBP"
        assert 1 < picture.width <= 320
    assert isinstance(one.end()[0], Done)


def test_a_cancellation_stops_its_request_alone_within_a_step(one: Worker) -> None:
    one.send(Cancel("another"))
    one.run(ltxv098.ENDPOINT.id, TWO_WINDOWS | {"first_pass_num_inference_steps": 12}, name="cancelled")
    one.next(ProgressReport, stage="sampling")
    one.send(Cancel("cancelled"))
    end, reports = one.end()
    assert isinstance(end, Failed)
    assert (end.status, end.error_type) == (499, "client_cancelled")
    assert all(report.stage == "sampling" for report in reports), "the sampling of two windows has 24 steps"


@pytest.mark.parametrize("field", ["video", "lora"])
def test_a_cancellation_stops_a_download_and_not_the_process(tmp_path: Path, field: str) -> None:
    current = Settings(trusted_hosts=("127.0.0.1",), loras_dir=tmp_path / "loras", data_dir=tmp_path)
    LocalBlobs(tmp_path / "files").put(BLOB, CLIP)
    read_end, write_end = os.pipe()
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        open(read_end, "rb") as incoming,
        open(write_end, "wb", buffering=0) as server,
    ):
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
        sent = BytesIO()
        channel = Channel(incoming, sent).request("r")
        body = SHORT | ({"video": {"video_url": url}} if field == "video" else {"loras": [{"path": url}]})
        replies: list[FileFound | Proceed] = (
            [FileFound(None)] if field == "video" else [FileFound(BLOB), Proceed(), FileFound(None), FileFound(None)]
        )
        for reply in replies:
            server.write(encode_to_worker(replace(reply, request_id="r")))

        def cancel() -> None:
            silent.accept()
            server.write(encode_to_worker(Cancel("r")))

        threading.Thread(target=cancel).start()
        runner = make_runner(current)
        run = Run("r", ltxv098.ENDPOINT.id, to_json(body).decode(), None, tmp_path / "r", "key")
        run.folder.mkdir()
        (run.folder / "source-1").touch()  # an earlier process was killed while it downloaded
        with reporting_failures(channel):
            carry_out(run, channel, runner, Transports(PublicTransport(current.trusted_hosts), None), current)
    failed = decode_to_server(sent.getvalue().splitlines()[-1])
    assert isinstance(failed, Failed)
    assert (failed.status, failed.error_type) == (499, "client_cancelled")
    assert not list(tmp_path.glob("**/source*")), "half a download does not stay"


def test_an_interrupted_request_is_resumed_to_the_same_bytes(one: Worker) -> None:
    one.run(ltxv098.ENDPOINT.id, TWO_WINDOWS, name="whole")
    plan = one.next(Planned).plan
    assert len(plan["windows"]) > 1
    assert str(TWO_WINDOWS["prompt"]) not in str(plan), "the request has it"
    one.send(Proceed())
    whole = one.next(Done)
    one.run(ltxv098.ENDPOINT.id, TWO_WINDOWS, name="halved")
    one.next(ProgressReport, stage="sampling", window=2)
    one.send(Cancel("halved"))
    one.next(Failed)
    one.run(ltxv098.ENDPOINT.id, TWO_WINDOWS, plan, name="halved")
    resumed, reports = one.end()
    assert isinstance(resumed, Done), resumed
    assert 1 not in {report.window for report in reports if report.stage == "sampling"}
    assert resumed.path.read_bytes() == whole.path.read_bytes()
    assert len(list((one.folder / "halved").glob("steps-*"))) == 1


def test_a_stored_plan_of_another_version_is_planned_again(one: Worker) -> None:
    one.run(ltxv098.ENDPOINT.id, SHORT, name="first")
    plan = one.next(Planned).plan
    one.send(Cancel("first"))
    one.next(Failed)
    for form in ({"form": 1}, {"family": "another"}, {"form": None}):
        one.run(ltxv098.ENDPOINT.id, SHORT, plan | form, name="later")
        assert one.next(Planned).plan == plan, "the server has to store it again"
        one.send(Cancel("later"))
        one.next(Failed)
    one.run(ltxv098.ENDPOINT.id, SHORT, plan | form, name="later")
    one.next(Done)


def test_a_different_plan_does_not_resume_from_the_steps_of_the_first(one: Worker) -> None:
    for seed in (3, 4):
        one.run(ltxv098.ENDPOINT.id, SHORT | {"seed": seed}, name="twice")
        one.next(ProgressReport, stage="sampling")
        assert one.next(Done).response["seed"] == seed
    assert len(list((one.folder / "twice").glob("steps-*"))) == 2
    one.run(ltxv098.ENDPOINT.id, SHORT | {"seed": 4}, name="twice")
    end, reports = one.end()
    assert isinstance(end, Done)
    assert not any(report.stage == "sampling" for report in reports), "the same plan resumes from its finished steps"


class _Sent:
    """Takes the place of a connection to a server."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    def send(self, message: Any) -> None:
        self.messages.append(message)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EMFILE, errno.EROFS, errno.EAGAIN])
@pytest.mark.parametrize("outer", [None, DecoderFailed("The process could not start."), DiskFull("The disk is full.")])
def test_a_failing_machine_is_no_outcome(code: int, outer: Exception | None) -> None:
    sent: Any = _Sent()
    with reporting_failures(sent):
        try:
            raise OSError(code, os.strerror(code))
        except OSError as error:
            if outer is None:
                raise
            raise outer from error
    assert sent.messages == [MachineFailed(os.strerror(code))]


@pytest.mark.parametrize("wrong", [UnsupportedVideo("The video cannot be read."), Cancelled()])
def test_the_fault_of_a_request_is_its_outcome_although_the_machine_failed(wrong: LongtakeError) -> None:
    sent: Any = _Sent()
    with reporting_failures(sent):
        try:
            raise OSError(errno.EIO, "Input/output error")
        except OSError as error:
            raise wrong from error
    assert sent.messages == [Failed.of(wrong)]


def test_a_failed_request_frees_its_memory_before_its_turn_on_the_device_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if its error refers to itself, as one that a thread has kept."""
    kept, is_freed, sent = list[weakref.ref[LongtakeError]](), list[bool](), list[Any]()

    class Device:
        def acquire(self, *, blocking: bool) -> bool:
            return blocking is False

        def release(self) -> None:
            is_freed.append(kept[0]() is None)

    def fail(*arguments: Any) -> Done:
        arguments[-1].begin(ignore_progress)
        error = LongtakeError("The encoder failed.")
        kept.append(weakref.ref(error))
        raise error  # its traceback refers to this function, which refers to it

    class Requests:
        def send(self, message: Any) -> None:
            sent.append(type(message))

    unused: Any = None
    requests: Any = Requests()
    device: Any = Device()
    monkeypatch.setattr(main, "carry_out", fail)
    gc.disable()
    try:
        answer(unused, requests, unused, unused, unused, device)
    finally:
        gc.enable()
    assert (sent, is_freed) == ([DeviceUse, Failed], [True])
