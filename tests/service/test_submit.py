"""Submissions to the queue: repeated ones, limits, and the addresses of webhooks."""

from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from longtake.queue import engine as queue
from longtake.queue import fetches
from longtake.queue.fetches import Group
from longtake.queue.requests import RemoteFile
from tests.service.serving import INPUT, INPUTS, LTX2, LTXV, RESULT, Served, serving, submit, wait_for
from tests.worker.requests import whole_row


def test_an_idempotency_key_makes_a_repeated_post_safe(served: Served, client: httpx.Client) -> None:
    headers = {"Idempotency-Key": "mine"}
    first = submit(client, headers=headers)
    again = client.post(f"/queue/{LTXV}", json=INPUT, headers=headers)
    assert again.json()["request_id"] == first["request_id"]
    assert again.headers["idempotency-replayed"] == "true"
    other = client.post(f"/queue/{LTXV}", json={**INPUT, "seed": 1}, headers=headers)
    assert other.status_code == 422
    assert other.json()["detail"][0]["loc"] == ["header", "idempotency-key"]
    served.finish(served.claim())
    assert client.post(f"/queue/{LTXV}", json=INPUT, headers=headers).json()["status"] == "COMPLETED"
    assert queue.claim(served.engine, "default", "w") is None


def test_a_full_queue_is_a_503(tmp_path: Path) -> None:
    with serving(tmp_path, max_waiting=2) as served, served.client() as client:
        submit(client)
        submit(client)
        refused = client.post(f"/queue/{LTXV}", json=INPUT)
        assert refused.status_code == 503
        assert refused.json()["error_type"] == "runner_scheduling_failure"
        assert refused.headers["x-fal-request-id"]
        assert refused.headers["x-fal-needs-retry"] == "true"
        submit(client, {"prompt": 3})
        served.claim()
        wait_for(lambda: client.post(f"/queue/{LTXV}", json=INPUT).status_code == 200)


def test_an_exceeded_quota_is_a_429_until_a_request_ends(served: Served, client: httpx.Client) -> None:
    key = served.state.keys.create("limited", "run", max_in_flight=1)
    headers = {"Authorization": f"Key {key}"}
    submitted = submit(client, headers=headers)
    refused = client.post(f"/queue/{LTXV}", json=INPUT, headers=headers)
    assert refused.status_code == 429
    assert refused.json()["error_type"] == "concurrent_requests_limit"
    assert refused.headers["x-fal-needs-retry"] == "1"
    client.put(submitted["cancel_url"], headers=headers)
    submit(client, headers=headers)


@pytest.mark.parametrize("more", [{}, {"Idempotency-Key": "mine"}])
def test_a_request_whose_storing_is_not_confirmed_is_stored_once_and_within_its_quota(
    served: Served, client: httpx.Client, monkeypatch: pytest.MonkeyPatch, more: dict[str, str]
) -> None:
    """The database may store a request and be gone before it says so. The server then stores it again."""
    calls, original = list[object](), queue.submit

    def losing(*args: Any, **options: Any) -> Any:
        calls.append(original(*args, **options))
        if len(calls) == 1:
            raise sa.exc.OperationalError("insert", {}, Exception("the connection was lost"))
        return calls[-1]

    monkeypatch.setattr(queue, "submit", losing)
    key = served.state.keys.create("limited", "run", max_in_flight=1)
    answer = client.post(f"/queue/{LTXV}", json=INPUT, headers={"Authorization": f"Key {key}", **more})
    assert (answer.status_code, answer.json().get("status")) == (200, "IN_QUEUE")
    assert "idempotency-replayed" not in answer.headers
    assert list(queue.waiting(served.engine, "default")) == [answer.json()["request_id"]]


def test_a_large_input_is_a_blob_that_a_refused_request_does_not_leave(served: Served, client: httpx.Client) -> None:
    large = {**INPUT, "video": {"video_url": "data:video/mp4;base64," + "A" * 100_000}}
    key = served.state.keys.create("limited", "run", max_in_flight=1)
    headers = {"Authorization": f"Key {key}", "Idempotency-Key": "mine"}
    submitted = submit(client, large, headers=headers)
    assert submit(client, large, headers=headers)["request_id"] == submitted["request_id"]
    refused = [
        client.post(f"/queue/{LTXV}", json=large, headers={"Authorization": f"Key {key}"}),
        client.post(f"/queue/{LTXV}", json={**large, "seed": 1}, headers=headers),
    ]
    assert [answer.status_code for answer in refused] == [429, 422]
    row = served.claim()
    assert (row.body, [blob.key for blob in served.state.store.blobs.list()]) == (b"", [row.body_blob])
    served.finish(row)
    assert client.get(submitted["response_url"], headers=headers).json() == RESULT


def test_a_body_above_the_limit_is_a_413(tmp_path: Path) -> None:
    with serving(tmp_path, max_body_bytes=1000) as served, served.client() as client:
        submitted = client.post(f"/queue/{LTXV}", content=b"x" * 1001)
        streamed = client.post(f"/queue/{LTXV}", content=(b"x" * 100 for _ in range(20)))
        for answer in (submitted, streamed):
            assert (answer.status_code, answer.json()["error_type"]) == (413, "bad_request")
        assert client.post(f"/queue/{LTXV}", json=INPUT).status_code == 200


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://example.com/hook?x=1", True),
        ("ftp://example.com/", False),
        ("http://127.0.0.1/", False),
        ("http://user:pass@example.com/", False),
        ("nonsense", False),
    ],
)
def test_webhook_urls_are_checked(served: Served, client: httpx.Client, url: str, good: bool) -> None:
    answer = client.post(f"/queue/{LTXV}", json=INPUT, params={"fal_webhook": url})
    if good:
        row = whole_row(served.engine, answer.json()["request_id"])
        assert row is not None
        assert row.webhook_url == url
    else:
        assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["query", "fal_webhook"])


def test_files_elsewhere_are_downloaded_before_a_device_is_claimed(served: Served, client: httpx.Client) -> None:
    """Not so the server's own files and data URIs, which the worker process reads itself."""
    elsewhere = " HTTPS://example.com/a.mp4\n"
    body = {**INPUTS[LTX2], "video_url": elsewhere, "end_image_url": "http://example.com/b.png"}
    waiting = submit(client, body, endpoint=LTX2)["request_id"]
    own, too_long = f"{served.url}/cdn/files/{'a' * 32}.mp4", f"http://example.com/{'a' * 9000}"
    ready = [
        submit(client, {**INPUTS[LTX2], "video_url": url}, endpoint=LTX2)["request_id"]
        for url in (
            own,
            own.replace("127.0.0.1", "localhost"),
            "data:video/mp4;base64,AAAA",
            too_long,
        )
    ]
    submit(client, {**INPUT, "prompt": 3, "video": {"video_url": elsewhere}})
    assert [served.claim().id for _ in ready] == ready
    assert queue.claim(served.engine, "default", "w") is None
    status = client.get(f"/queue/{LTX2}/requests/{waiting}/status").json()
    assert (status["status"], status["queue_position"]) == ("IN_QUEUE", 0)
    fetch = fetches.claim(served.engine, Group("local", "default"), "s")
    assert fetch is not None
    assert fetch.downloads.files == (
        RemoteFile("HTTPS://example.com/a.mp4", ("video_url",), "source"),
        RemoteFile("http://example.com/b.png", ("end_image_url",), "end_image"),
    )
    assert fetches.claim(served.engine, Group("local", "default"), "s") is None
    client.put(f"/queue/{LTX2}/requests/{waiting}/cancel")
    assert fetches.held_by(served.engine, "s") == set()


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("clip.mp4", "'clip.mp4' is neither an http(s) address nor a data URI"),
        ("hf://a/b", "'hf://a/b' is neither an http(s) address nor a data URI"),
        ("a/" + "a" * 300_000 + "!", "looks like 300003 characters of base64 without `data:`"),
    ],
    ids=["a path", "a LoRA", "base64"],
)
def test_a_source_that_is_no_address_is_refused_before_a_device_is_claimed(
    served: Served, client: httpx.Client, source: str, sentence: str
) -> None:
    request_id = submit(client, {**INPUTS[LTX2], "video_url": source}, endpoint=LTX2)["request_id"]
    assert queue.claim(served.engine, "default", "w") is None
    answer = client.get(f"/queue/{LTX2}/requests/{request_id}")
    (entry,) = answer.json()["detail"]
    assert (answer.status_code, entry["loc"], entry["type"]) == (422, ["body", "video_url"], "value_error")
    assert sentence in entry["msg"]


def test_files_may_be_named_deep_in_the_input(served: Served, client: httpx.Client) -> None:
    loras = [
        {"path": "style.safetensors"},
        {"path": "https://example.com/b.safetensors"},
        {"path": "owner/style", "weight_name": "a b.safetensors"},
        {"path": "hf://owner/style"},
    ]
    submit(client, {**INPUT, "video": {"video_url": "https://example.com/a.mp4"}, "loras": loras})
    fetch = fetches.claim(served.engine, Group("local", "default"), "s")
    assert fetch is not None
    assert fetch.downloads.files == (
        RemoteFile("https://example.com/a.mp4", ("video", "video_url"), "source"),
        RemoteFile("https://example.com/b.safetensors", ("loras", 1, "path"), "lora"),
        RemoteFile("hf://owner/style/a%20b.safetensors", ("loras", 2, "path"), "lora"),
    )
    submit(client, {**INPUTS[LTX2], "loras": loras}, endpoint=LTX2)
    assert served.claim().endpoint == LTX2, "a field that the endpoint does not have is not read"
