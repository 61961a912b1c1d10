"""The queue over HTTP: the answer to each call, in every state of a request."""

import json
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest

from longtake.queue import engine as queue
from longtake.queue import requests
from longtake.queue.payloads import move_result_out
from longtake.queue.requests import Outcome
from tests.service.finished import finished
from tests.service.serving import INPUT, LTX2, LTXV, Served, serving, submit, wait_for
from tests.worker.requests import whole_row

SUBMITTED = {
    "status", "request_id", "gateway_request_id", "response_url", "status_url", "cancel_url", "logs", "metrics",
    "queue_position",
}  # fmt: skip


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]


def test_a_submission_returns_the_requests_urls(served: Served, client: httpx.Client) -> None:
    submitted = submit(client)
    base = f"{served.url}/queue/fal-ai/ltxv-13b-098-distilled/requests/{submitted['request_id']}"
    assert set(submitted) == SUBMITTED
    assert (submitted["status"], submitted["queue_position"], submitted["logs"], submitted["metrics"]) == (
        "IN_QUEUE",
        0,
        None,
        {},
    )
    assert submitted["response_url"] == base
    assert submitted["status_url"] == f"{base}/status"
    assert submitted["cancel_url"] == f"{base}/cancel"
    row = whole_row(served.engine, submitted["request_id"])
    assert row is not None
    assert json.loads(row.body) == INPUT
    assert b" " not in row.body.replace(b"a cat", b"")
    assert (row.priority, row.store_io, row.may_retry, row.lifecycle, row.start_by) == (0, True, True, None, None)


def test_fals_headers_are_stored_with_the_request(served: Served, client: httpx.Client) -> None:
    headers = {
        "X-Fal-Queue-Priority": "low",
        "X-Fal-Request-Timeout": "30.0",
        "X-Fal-Store-IO": "0",
        "x-fal-no-retry": "yes",
        "X-Fal-Runner-Hint": "anything",
        "X-Fal-Object-Lifecycle-Preference": '{"expiration_duration_seconds": 60}',
    }
    row = whole_row(served.engine, submit(client, headers=headers)["request_id"])
    assert row is not None
    assert row.start_by is not None
    assert (row.priority, row.store_io, row.may_retry) == (1, False, False)
    assert row.lifecycle == {"expiration_duration_seconds": 60}
    assert row.start_by - row.created_at == pytest.approx(30)
    newer = {"X-Fal-Request-Timeout": "30", "X-Fal-Request-Start-Timeout": "12.5"}
    for sent in (newer, {"X-Fal-Request-Start-Timeout": "12.5"}):
        row = whole_row(served.engine, submit(client, headers=sent)["request_id"])
        assert row is not None
        assert row.start_by is not None
        assert row.start_by - row.created_at == pytest.approx(12.5)
    spoiled = {"X-Fal-Object-Lifecycle-Preference": "{", "X-Fal-Request-Timeout": "30"}
    row = whole_row(served.engine, submit(client, headers=spoiled)["request_id"])
    assert row is not None
    assert row.lifecycle is None
    assert row.start_by is not None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Fal-Request-Timeout", "soon"),
        ("X-Fal-Request-Start-Timeout", "soon"),
        ("X-Fal-Request-Timeout", "nan"),
        ("X-Fal-Request-Timeout", "-1"),
        ("X-Fal-Queue-Priority", "high"),
        ("Idempotency-Key", "x" * 256),
        ("Idempotency-Key", ""),
    ],
)
def test_an_invalid_header_is_a_400(client: httpx.Client, name: str, value: str) -> None:
    answer = client.post(f"/queue/{LTXV}", json=INPUT, headers={name: value})
    assert answer.status_code == 400
    assert answer.json()["error_type"] == answer.headers["x-fal-error-type"] == "bad_request"


def test_low_priority_waits_behind_normal(served: Served, client: httpx.Client) -> None:
    low = submit(client, headers={"X-Fal-Queue-Priority": "low"})
    normal = submit(client)
    wait_for(lambda: client.get(low["status_url"]).json()["queue_position"] == 1)
    assert client.get(normal["status_url"]).json()["queue_position"] == 0
    assert served.claim().id == normal["request_id"]


@pytest.mark.parametrize("query", ["", "?logs=0", "?logs=false", "?logs=1", "?logs=true"])
def test_status_in_every_state(served: Served, client: httpx.Client, query: str) -> None:
    wants_logs = query.endswith(("1", "true"))
    url = submit(client)["status_url"] + query

    waiting = client.get(url)
    assert (waiting.status_code, waiting.json()["status"], waiting.json()["queue_position"]) == (202, "IN_QUEUE", 0)
    assert waiting.json()["logs"] == ([] if wants_logs else None)

    row = served.claim()
    served.log(row, "Sampling new frames", stage="sampling")
    served.report(row, "Sampling new frames", step=1, steps=15)
    served.report(row, "Sampling new frames", step=2, steps=15)
    running = client.get(url)
    assert (running.status_code, running.json()["status"], running.json()["metrics"]) == (202, "IN_PROGRESS", {})
    assert running.json()["progress"] == {
        "message": "Sampling new frames",
        "stage": "sampling",
        "step": 2,
        "steps": 15,
        "window": 1,
        "windows": 1,
        "pass": 1,
        "passes": 1,
    }
    assert "queue_position" not in running.json()

    served.finish(row)
    ended = client.get(url)
    assert (ended.status_code, ended.json()["status"]) == (200, "COMPLETED")
    assert ended.json()["metrics"] == {"inference_time": 0.25}
    assert {"error", "progress"}.isdisjoint(ended.json())
    assert ended.headers["x-fal-request-id"] == row.id
    for answer in (running, ended):
        logs = answer.json()["logs"]
        messages = None if logs is None else [log["message"] for log in logs]
        assert messages == (["Sampling new frames"] if wants_logs else None)
    if wants_logs:
        line = ended.json()["logs"][0]
        assert set(line) == {"timestamp", "level", "source", "message", "labels"}
        assert (line["level"], line["source"], line["message"]) == ("INFO", "USER", "Sampling new frames")
        assert len(line["timestamp"]) == len("2024-12-20T15:37:32.161184")


@pytest.mark.parametrize("name", [LTXV, "fal-ai/ltxv-13b-098-distilled"])
def test_requests_are_reached_by_endpoint_and_by_application(served: Served, client: httpx.Client, name: str) -> None:
    submitted = submit(client)
    base = f"/queue/{name}/requests/{submitted['request_id']}"
    assert client.get(f"{base}/status").status_code == 202
    assert client.get(f"{base}/status/").status_code == 202
    assert client.get(base).status_code == 400
    assert client.get(f"{base}/").status_code == 400
    assert client.put(f"{base}/cancel").status_code == 200
    assert events(client.get(f"{base}/status/stream").text)[0]["status"] == "COMPLETED"


def test_a_request_is_not_found_under_another_name(client: httpx.Client) -> None:
    request_id = submit(client)["request_id"]
    for name in (LTX2, "fal-ai/other", "workflows/fal-ai/ltxv-13b-098-distilled", "comfy/a/b"):
        for path in ("", "/status", "/status/stream"):
            answer = client.get(f"/queue/{name}/requests/{request_id}{path}")
            assert (answer.status_code, answer.json()) == (404, {"status": "NOT_FOUND"})


def test_unknown_requests_and_applications_are_not_found(client: httpx.Client) -> None:
    for request_id in (str(uuid.uuid4()), "x", "x" * 100, "x" * 2000, "%00", "%0a", "%E2%80%A8", "a%20b"):
        for path in ("", "/status", "/status/stream"):
            answer = client.get(f"/queue/{LTXV}/requests/{request_id}{path}")
            assert (answer.status_code, answer.json()) == (404, {"status": "NOT_FOUND"})
            assert answer.headers["x-fal-request-id"]
        assert client.put(f"/queue/{LTXV}/requests/{request_id}/cancel").json() == {"status": "NOT_FOUND"}
    for name in ("fal-ai/flux", "workflows/me/flow/x", "comfy/me/flow", "x", ""):
        answer = client.post(f"/queue/{name}", json={})
        assert answer.status_code == 404, name
        assert isinstance(answer.json()["detail"], str)


def test_a_path_with_many_requests_or_an_unprintable_character_is_not_found_at_once(client: httpx.Client) -> None:
    # The path's last line end made the reading of the rest quadratic: these 60 KB stopped the server for seconds.
    start = time.process_time()
    answer = client.get("/queue/a" + "/requests/x" * 5500 + "/%0A/status")
    assert (answer.status_code, answer.json()) == (404, {"status": "NOT_FOUND"})
    assert time.process_time() - start < 1


def test_an_invalid_request_is_stored_with_its_422(served: Served, client: httpx.Client) -> None:
    submitted = submit(client, {"prompt": 3})
    assert submitted["status"] == "IN_QUEUE"
    status = client.get(submitted["status_url"])
    assert (status.status_code, status.json()["status"]) == (200, "COMPLETED")
    assert "prompt" in status.json()["error"]
    result = client.get(submitted["response_url"])
    assert result.status_code == 422
    assert result.headers["x-fal-billable-units"] == "0"
    assert result.headers["x-fal-retryable"] == result.headers["x-fal-needs-retry"] == "false"
    assert {tuple(one["loc"]): one["type"] for one in result.json()["detail"]} == {
        ("body", "prompt"): "string_type",
        ("body", "video"): "missing",
    }
    assert queue.claim(served.engine, "default", "w") is None


def test_a_body_is_json_whatever_its_content_type(served: Served, client: httpx.Client) -> None:
    for kind in ("application/x-www-form-urlencoded", "text/plain", "application/octet-stream"):
        answer = client.post(f"/queue/{LTXV}", content=json.dumps(INPUT), headers={"content-type": kind})
        row = whole_row(served.engine, answer.json()["request_id"])
        assert row is not None
        assert row.state == "IN_QUEUE"
    empty = client.post(f"/queue/{LTXV}", content=b"", headers={"content-type": "application/json"}).json()
    kinds = {one["type"] for one in client.get(empty["response_url"]).json()["detail"]}
    assert kinds == {"missing"}


@pytest.mark.parametrize("body", [b"{", b'{"prompt": NaN}', b'{"prompt": 1e999}', b"\xff", b'"\\ud800"', b"[" * 500])
def test_invalid_json_is_a_422(client: httpx.Client, body: bytes) -> None:
    submitted = client.post(f"/queue/{LTXV}", content=body).json()
    result = client.get(submitted["response_url"])
    assert (result.status_code, result.json()["detail"][0]["type"]) == (422, "json_invalid")


def test_a_result_can_be_fetched_repeatedly(served: Served, client: httpx.Client) -> None:
    submitted = submit(client)
    pending = client.get(submitted["response_url"])
    assert (pending.status_code, pending.json()) == (400, {"detail": "Request is still in progress"})
    row = served.claim()
    assert client.get(submitted["response_url"]).status_code == 400
    served.finish(row)
    for _ in range(3):
        result = client.get(submitted["response_url"])
        assert (result.status_code, result.json()["seed"]) == (200, 7)
        assert (result.headers["x-fal-billable-units"], result.headers["x-longtake-price-usd"]) == ("1", "0.02")
        assert result.headers["x-fal-request-id"] == row.id
        assert "x-fal-retryable" not in result.headers


def test_a_result_with_its_video_inside_is_sent_as_it_was_stored(served: Served, client: httpx.Client) -> None:
    submitted = submit(client)
    row = served.claim()
    result = {"prompt": "a cat", "video": {"url": "data:video/mp4;base64," + "AbC4" * 200_000}, "seed": 7}
    served.finish(row, move_result_out(served.state.store, row.id, Outcome(200, result, headers={"X-Name": "1"})))
    for _ in range(2):
        answer = client.get(submitted["response_url"])
        assert (answer.status_code, answer.json()) == (200, result)
        assert (answer.headers["content-length"], answer.headers["x-name"]) == (str(len(answer.content)), "1")
        assert answer.headers["content-type"] == "application/json"
    assert client.head(submitted["response_url"]).headers["content-length"] == str(len(answer.content))


def test_a_result_whose_file_is_deleted_says_so(served: Served, client: httpx.Client) -> None:
    submitted = submit(client)
    key = finished(served, served.claim())
    assert client.get(submitted["response_url"]).status_code == 200
    served.state.store.delete(key)
    gone = client.get(submitted["response_url"])
    assert (gone.status_code, gone.json()["error_type"]) == (404, "not_found")
    assert "file of this result was deleted" in gone.json()["detail"]
    assert client.get(submitted["status_url"]).json()["status"] == "COMPLETED"


@pytest.mark.parametrize("left", [None, b"x"])
def test_a_result_whose_file_is_lost_says_so(
    served: Served, client: httpx.Client, tmp_path: Path, left: bytes | None
) -> None:
    submitted = submit(client)
    key, store = finished(served, served.claim()), served.state.store
    file = store.find(key)
    assert file is not None
    store.blobs.delete(file.blob)
    if left is not None:
        (tmp_path / "rest").write_bytes(left)
        store.blobs.put(file.blob, tmp_path / "rest")
    for address in (submitted["response_url"], f"/cdn/files/{key}", f"/media/{key}/facts"):
        for headers in ({}, {"range": "bytes=0-0"}):
            answer = client.get(address, headers=headers)
            assert (answer.status_code, answer.json()["error_type"]) == (500, "internal_error")
            assert "lost this file" in answer.json()["detail"]


def test_a_failure_has_its_status_headers_and_body(served: Served, client: httpx.Client) -> None:
    submitted = submit(client)
    late = Outcome(
        504,
        {"detail": "not started in time", "error_type": "request_timeout"},
        error="not started in time",
        error_type="request_timeout",
        headers={"X-Fal-Request-Timeout-Type": "user"},
    )
    served.finish(served.claim(), late)
    status = client.get(submitted["status_url"]).json()
    assert (status["status"], status["error_type"]) == ("COMPLETED", "request_timeout")
    result = client.get(submitted["response_url"])
    assert (result.status_code, result.json()["error_type"]) == (504, "request_timeout")
    assert result.headers["x-fal-request-timeout-type"] == "user"
    assert result.headers["x-fal-error-type"] == "request_timeout"
    assert (result.headers["x-fal-billable-units"], result.headers["x-longtake-price-usd"]) == ("0", "0")
    assert result.headers["x-fal-needs-retry"] == "false"


def test_cancel_in_every_state(served: Served, client: httpx.Client) -> None:
    queued = submit(client)
    answer = client.put(queued["cancel_url"])
    assert (answer.status_code, answer.json()) == (200, {"status": "OK"})
    assert client.get(queued["status_url"]).json()["status"] == "COMPLETED"
    assert client.get(queued["status_url"]).json()["error_type"] == "client_cancelled"
    result = client.get(queued["response_url"])
    assert result.status_code == 499
    assert result.json() == {"detail": "Request was cancelled", "error_type": "client_cancelled"}
    assert (result.headers["x-fal-billable-units"], result.headers["x-longtake-price-usd"]) == ("0", "0")

    running = submit(client)
    row = served.claim()
    for _ in range(2):
        answer = client.put(running["cancel_url"], headers={"content-length": "0"})
        assert (answer.status_code, answer.json()) == (202, {"status": "CANCELLATION_REQUESTED"})
    assert served.stopped[0] == row.id
    served.finish(row, requests.CANCELLED)
    assert client.get(running["status_url"]).json()["error_type"] == "client_cancelled"

    for ended in (queued, running):
        answer = client.put(ended["cancel_url"])
        assert (answer.status_code, answer.json()) == (400, {"status": "ALREADY_COMPLETED"})


def test_the_stream_sends_each_log_line_once(served: Served, client: httpx.Client) -> None:
    submitted = submit(client)
    seen: list[dict[str, Any]] = []
    with client.stream("GET", submitted["status_url"] + "/stream?logs=1") as stream:
        for line in stream.iter_lines():
            if events(line):
                seen += events(line)
                match len(seen):
                    case 1:
                        row = served.claim()
                    case 2 | 3 | 4:
                        served.log(row, "Sampling new frames", step=str(len(seen)))
                    case 5:
                        served.finish(row)
    assert [one["status"] for one in seen] == ["IN_QUEUE", *["IN_PROGRESS"] * 4, "COMPLETED"]
    assert [log["labels"]["step"] for one in seen for log in one["logs"]] == ["2", "3", "4"]
    assert all(one["request_id"] == row.id for one in seen)


def test_the_stream_without_logs_sends_only_states(tmp_path: Path) -> None:
    with serving(tmp_path, ping_s=0.2) as served, served.client() as client:
        submitted = submit(client)
        row = served.claim()
        states: list[tuple[str, Any]] = []
        comments = 0
        with client.stream("GET", submitted["status_url"] + "/stream?logs=0") as stream:
            for line in stream.iter_lines():
                for status in events(line):
                    states.append((status["status"], status["logs"]))
                    if len(states) == 1:
                        served.log(row, "a line")
                comments += line == ": ping"
                if line == ": ping" and comments == 2:  # The log line was not sent in the time of two comments.
                    served.finish(row)
        assert states == [("IN_PROGRESS", None), ("COMPLETED", None)]


def test_a_silent_stream_sends_comments(tmp_path: Path) -> None:
    with serving(tmp_path, ping_s=0.1) as served, served.client() as client:
        submitted = submit(client)
        with client.stream("GET", submitted["status_url"] + "/stream") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            assert stream.headers["x-fal-request-id"] == submitted["request_id"]
            lines = stream.iter_lines()
            first = [next(lines) for _ in range(6)]
        assert first[0].startswith("data: {")
        assert first[2:6:2] == [": ping", ": ping"]


def test_changes_by_other_servers_are_seen(served: Served, client: httpx.Client) -> None:
    submitted = submit(client)
    client.get(submitted["status_url"])
    row = queue.claim(served.engine, "default", "of another server")
    assert row is not None
    wait_for(lambda: client.get(submitted["status_url"]).json()["status"] == "IN_PROGRESS")
    queue.finish(served.engine, row, Outcome(200, {}))
    wait_for(lambda: client.get(submitted["status_url"]).json()["status"] == "COMPLETED")


@pytest.mark.parametrize("name", [LTX2, "2.3"])
def test_each_pool_has_its_own_queue(tmp_path: Path, name: str) -> None:
    with serving(tmp_path, pools={name: "large"}) as served, served.client() as client:
        submit(client)
        submitted = submit(client, {"prompt": "a", "video_url": "https://example.com/a.mp4"}, endpoint=LTX2)
        assert submitted["queue_position"] == 0
        row = whole_row(served.engine, submitted["request_id"])
        assert row is not None
        assert row.pool == "large"
