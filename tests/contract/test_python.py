"""The PyPI package fal_client, unmodified: every call to a real server, over plain HTTP and through the TLS tunnel."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fal_client
import httpx
import pytest
from fal_client import client as module
from httpx_sse import SSEError
from PIL import Image

from tests.contract.conftest import Running
from tests.contract.server import NARROW
from tests.service.serving import INPUT, INPUTS, LTX2, LTXV

EXAMPLE = Path(__file__).parents[2] / "examples" / "clip.mp4"


def with_prompt(prompt: str) -> dict[str, Any]:
    return {**INPUT, "prompt": prompt}


def aim(patch: pytest.MonkeyPatch, server: Running, way: str) -> None:
    """Points fal_client at the server, with its module's globals or with environment variables only."""
    if way == "http":
        for name, url in (
            ("RUN_URL_FORMAT", "/run/"),
            ("QUEUE_URL_FORMAT", "/queue/"),
            ("REST_URL", "/rest"),
            ("CDN_URL", "/cdn"),
        ):
            patch.setattr(module, name, server.http + url)
    else:
        patch.setenv("HTTPS_PROXY", server.tunnel)
        patch.setenv("SSL_CERT_FILE", str(server.tls.bundle))


@pytest.fixture(params=["http", "tunnel"])
def way(request: pytest.FixtureRequest, server: Running, monkeypatch: pytest.MonkeyPatch) -> str:
    aim(monkeypatch, server, request.param)
    return str(request.param)


@pytest.fixture
def client(way: str) -> fal_client.SyncClient:
    return fal_client.SyncClient(key="any:thing")


@pytest.fixture
def plain(server: Running, monkeypatch: pytest.MonkeyPatch) -> fal_client.SyncClient:
    aim(monkeypatch, server, "http")
    return fal_client.SyncClient(key="any:thing")


def test_run(client: fal_client.SyncClient, way: str, server: Running) -> None:
    for endpoint, body in INPUTS.items():
        result = client.run(endpoint, body, start_timeout=30, hint="a")
        assert result["seed"] == 7
    url = result["video"]["url"]
    assert url.startswith(server.http if way == "http" else "https://v3.fal.media/files/")
    with httpx.Client() as fetching:
        found = fetching.get(url, headers={"Range": "bytes=4-7"})
    assert (found.status_code, found.content) == (206, b"ftyp")
    assert server.file(url).read_bytes() == EXAMPLE.read_bytes()


def test_submit_status_result(client: fal_client.SyncClient) -> None:
    handle = client.submit(LTX2, {**INPUTS[LTX2], "prompt": "steps"}, priority="low", headers={"X-Mine": "1"}, hint="a")
    events = list(handle.iter_events(with_logs=True))
    assert isinstance(events[-1], fal_client.Completed)
    assert events[-1].metrics["inference_time"] == 0.1
    assert [log["message"] for log in events[-1].logs or ()] == [f"step {number}" for number in range(1, 6)]
    assert all(isinstance(event, fal_client.Queued | fal_client.InProgress | fal_client.Completed) for event in events)
    silent = handle.status()
    assert isinstance(silent, fal_client.Completed)
    assert silent.logs is None
    assert handle.get() == handle.get() == client.result(LTX2, handle.request_id)
    assert client.status(LTX2, handle.request_id, with_logs=True) == events[-1]


def test_subscribe(client: fal_client.SyncClient) -> None:
    seen: list[fal_client.Status] = []
    ids: list[str] = []
    result = client.subscribe(
        LTXV,
        with_prompt("steps"),
        with_logs=True,
        on_enqueue=ids.append,
        on_queue_update=seen.append,
        client_timeout=60,
    )
    assert result["prompt"] == "steps"
    assert len(ids) == 1
    running = [event for event in seen if isinstance(event, fal_client.InProgress)]
    assert all(isinstance(event.logs, list) for event in running)
    assert client.subscribe(LTXV, with_prompt("quick"))["seed"] == 7


def test_a_waiting_request_has_a_position(plain: fal_client.SyncClient) -> None:
    first, second, third = (plain.submit(NARROW, with_prompt("slow")) for _ in range(3))
    status = third.status()
    assert isinstance(status, fal_client.Queued)
    assert status.position in (1, 2)
    for handle in (third, second, first):
        handle.cancel()
    with pytest.raises(fal_client.FalClientHTTPError) as cancelled:
        third.get()
    assert (cancelled.value.status_code, cancelled.value.error_type) == (499, "client_cancelled")


def test_cancel(client: fal_client.SyncClient) -> None:
    handle = client.submit(LTXV, with_prompt("slow"))
    while isinstance(handle.status(), fal_client.Queued):
        pass
    client.cancel(LTXV, handle.request_id)
    with pytest.raises(fal_client.FalClientHTTPError) as cancelled:
        handle.get()
    assert (cancelled.value.status_code, cancelled.value.message) == (499, "Request was cancelled")
    ended = handle.status()
    assert isinstance(ended, fal_client.Completed)
    assert ended.error_type == "client_cancelled"
    with pytest.raises(fal_client.FalClientHTTPError) as again:
        handle.cancel()
    assert again.value.status_code == 400
    assert "ALREADY_COMPLETED" in again.value.message


def test_the_clients_timeout_cancels_the_request(client: fal_client.SyncClient) -> None:
    ids: list[str] = []
    with pytest.raises(fal_client.FalClientTimeoutError) as late:
        client.subscribe(LTXV, with_prompt("slow"), on_enqueue=ids.append, client_timeout=1.2)
    assert late.value.request_id == ids[0]
    with pytest.raises(fal_client.FalClientHTTPError) as cancelled:
        client.result(LTXV, ids[0])
    assert cancelled.value.status_code == 499


def test_the_start_timeout_ends_a_waiting_request(plain: fal_client.SyncClient) -> None:
    blocker = plain.submit(NARROW, with_prompt("slow"))
    waiting = plain.submit(NARROW, with_prompt("quick"), start_timeout=1.1)
    calls: list[Callable[[], object]] = [
        lambda: plain.run(NARROW, with_prompt("quick"), start_timeout=1.1),
        waiting.get,
    ]
    for call in calls:
        with pytest.raises(fal_client.FalClientHTTPError) as late:
            call()
        assert (late.value.status_code, late.value.error_type) == (504, "request_timeout")
        assert late.value.response_headers["x-fal-request-timeout-type"] == "user"
    blocker.cancel()


def failure(call: Callable[..., object], *args: object) -> tuple[Any, fal_client.FalClientHTTPError]:
    """Returns the error that a call raises, and its message, which is a list for an error of the model."""
    with pytest.raises(fal_client.FalClientHTTPError) as failed:
        call(*args)
    return failed.value.message, failed.value


def test_errors_of_the_model(client: fal_client.SyncClient) -> None:
    for call in (client.run, client.subscribe):
        entries, invalid = failure(call, LTXV, {"prompt": 1})
        assert invalid.status_code == 422
        assert {tuple(entry["loc"]) for entry in entries} == {("body", "prompt"), ("body", "video")}
        assert invalid.response_headers["x-fal-request-id"]
        entries, wrong = failure(call, LTXV, with_prompt("wrong"))
        assert (wrong.status_code, entries[0]["type"]) == (422, "file_download_error")
        sentence, broken = failure(call, LTXV, with_prompt("broken"))
        assert (broken.status_code, broken.error_type, sentence) == (500, "internal_error", "The worker is broken")


def test_errors_of_the_request(client: fal_client.SyncClient) -> None:
    nothing = "00000000-0000-0000-0000-000000000000"
    for call in (client.status, client.result, client.cancel):
        assert failure(call, LTXV, nothing)[1].status_code == 404
    for sending in (client.run, client.submit):
        assert failure(sending, "fal-ai/flux/dev", {})[1].status_code == 404


def test_stream(client: fal_client.SyncClient) -> None:
    events = list(client.stream(LTXV, with_prompt("steps")))
    assert len(events) >= 2
    assert events[-1]["seed"] == 7
    with pytest.raises(SSEError):
        list(client.stream(LTXV, {}))


def test_keys(locked: tuple[Running, str], monkeypatch: pytest.MonkeyPatch) -> None:
    server, key = locked
    aim(monkeypatch, server, "http")
    right, wrong, no_key = (fal_client.SyncClient(key=one) for one in (f"  {key}", "wrong:key", "wrong"))
    assert right.subscribe(LTXV, INPUT)["seed"] == 7
    assert server.file(right.upload(b"frames", "video/mp4")).read_bytes() == b"frames"
    for client, told in (
        (wrong, "No user found for Key ID and Secret"),
        (no_key, "Invalid Key Authorization header format"),
    ):
        with pytest.raises(fal_client.FalClientHTTPError) as refused:
            client.submit(LTXV, INPUT)
        assert refused.value.status_code == 401
        assert refused.value.message.startswith(told)


def test_upload(client: fal_client.SyncClient, server: Running, tmp_path: Path) -> None:
    assert server.file(client.upload(b"frames", "video/mp4", "a.mp4")).read_bytes() == b"frames"
    assert server.file(client.upload("text", "text/plain")).read_text() == "text"
    assert server.file(client.upload(b"", "video/mp4")).read_bytes() == b""
    assert server.file(client.upload(b"gcs", "video/mp4", repository="fal")).read_bytes() == b"gcs"
    assert server.file(client.upload_file(EXAMPLE)).read_bytes() == EXAMPLE.read_bytes()
    with Image.open(server.file(client.upload_image(Image.new("RGB", (8, 8), "red"), format="png"))) as picture:
        assert picture.size == (8, 8)


def test_the_worker_gets_the_uploaded_file(client: fal_client.SyncClient, server: Running) -> None:
    content = b"what was uploaded" * 1000
    url = client.upload(content, "video/mp4")
    result = client.subscribe(LTX2, {"prompt": "quick", "video_url": url})
    assert server.file(result["video"]["url"]).read_bytes() == content


def test_upload_with_a_lifecycle(plain: fal_client.SyncClient) -> None:
    rules = fal_client.StorageACL(default="allow", rules=[fal_client.StorageACLRule("someone", "forbid")])
    url = plain.upload(b"x", "video/mp4", lifecycle=fal_client.StorageSettings(expires_in="1h", initial_acl=rules))
    assert httpx.get(url).status_code == 200


@pytest.mark.parametrize(("way", "by"), [("http", "upload"), ("tunnel", "upload_file")], indirect=["way"])
def test_upload_of_105_megabytes(client: fal_client.SyncClient, server: Running, large: Path, by: str) -> None:
    url = client.upload_file(large) if by == "upload_file" else client.upload(large.read_bytes(), "video/mp4")
    stored = server.file(url)
    assert digest(stored) == digest(large)
    stored.unlink()


def test_data_uris(plain: fal_client.SyncClient) -> None:
    uri = fal_client.encode_file(EXAMPLE)
    result = plain.subscribe(LTX2, {"prompt": "quick", "video_url": uri})
    assert result["seed"] == 7
    back = plain.run(LTX2, {"prompt": "quick", "video_url": uri, "sync_mode": True})
    assert back["video"]["url"] == uri


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.fixture(autouse=True)
def _few_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets fal_client give up after two attempts, so that an unexpected error fails a test quickly."""
    monkeypatch.setattr(module, "MAX_ATTEMPTS", 2)
