"""The service `run`: waiting for a result, and streaming its progress."""

import asyncio
import json
import threading
import time
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from longtake.database.tables import requests as table
from longtake.queue.payloads import move_result_out
from longtake.queue.requests import Outcome, RequestRow, StoredLogLine
from longtake.service.run import progress
from tests.service.serving import INPUT, LTXV, PATIENCE_S, RESULT, Served, serving, wait_for, working
from tests.worker.requests import whole_row

FAILED = Outcome(
    500,
    {"detail": "The worker died.", "error_type": "runner_server_error"},
    error="The worker died.",
    error_type="runner_server_error",
)


def steps(served: Served, row: RequestRow) -> None:
    served.log(row, "ltxv-tiny makes 96 new frames.")
    served.log(row, "Sampling new frames", stage="sampling")
    for step in range(3):
        served.report(row, "Sampling new frames", step, 3)
        time.sleep(0.02)
    served.finish(row)


def state(served: Served) -> str | None:
    with served.engine.connect() as connection:
        return connection.execute(sa.select(table.c.state)).scalar()


def test_run_waits_for_the_result(served: Served, client: httpx.Client) -> None:
    with working(served, steps):
        answer = client.post(f"/run/{LTXV}", json=INPUT)
    assert (answer.status_code, answer.json()) == (200, RESULT)
    assert (answer.headers["x-fal-billable-units"], answer.headers["x-longtake-price-usd"]) == ("1", "0.02")
    row = whole_row(served.engine, answer.headers["x-fal-request-id"])
    assert row is not None
    assert row.base_url == served.queue


def test_an_invalid_input_is_answered_at_once(client: httpx.Client) -> None:
    answer = client.post(f"/run/{LTXV}", json={})
    assert answer.status_code == 422
    assert {one["type"] for one in answer.json()["detail"]} == {"missing"}
    assert answer.headers["x-fal-billable-units"] == "0"
    assert client.post("/run/fal-ai/none", json={}).status_code == 404


@pytest.mark.parametrize("path", ["", "/stream"])
def test_a_failure_sets_the_http_status(
    served: Served, client: httpx.Client, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("longtake.service.run.FIRST_EVENT_S", PATIENCE_S)
    with working(served, lambda server, row: server.finish(row, FAILED)):
        answer = client.post(f"/run/{LTXV}{path}", json=INPUT)
    assert answer.status_code == 500
    assert answer.json() == FAILED.body
    assert answer.headers["x-fal-error-type"] == "runner_server_error"
    if not path:
        assert (answer.headers["x-fal-billable-units"], answer.headers["x-longtake-price-usd"]) == ("0", "0")


def test_get_reports_missing_input_and_stores_nothing(served: Served, client: httpx.Client) -> None:
    answer = client.get(f"/run/{LTXV}?prompt=a")
    assert answer.status_code == 422
    assert {tuple(one["loc"]) for one in answer.json()["detail"]} == {("body", "prompt"), ("body", "video")}
    with served.engine.connect() as connection:
        assert connection.execute(sa.select(table)).first() is None


@pytest.mark.parametrize("path", ["", "/stream"])
@pytest.mark.parametrize("claimed", [False, True])
def test_a_disconnect_cancels_the_request(served: Served, path: str, claimed: bool) -> None:
    async def post(client: httpx.AsyncClient, has_started: asyncio.Event) -> None:
        async with client.stream("POST", f"/run/{LTXV}{path}", json=INPUT) as answer:
            async for _ in answer.aiter_lines():
                has_started.set()

    async def disconnect() -> None:
        async with httpx.AsyncClient(base_url=served.url, timeout=PATIENCE_S) as client:
            has_started = asyncio.Event()
            posting = asyncio.create_task(post(client, has_started))
            await asyncio.to_thread(wait_for, lambda: state(served) == "IN_QUEUE")
            if claimed:
                served.log(served.claim(), "Working")
            if claimed and path:
                await asyncio.wait_for(has_started.wait(), PATIENCE_S)
            posting.cancel()

    asyncio.run(disconnect())
    if claimed:
        wait_for(lambda: len(served.stopped) == 1)
    else:
        wait_for(lambda: state(served) == "CANCELLED")


def test_a_client_whose_connection_breaks_gets_its_result_with_its_idempotency_key(
    served: Served, client: httpx.Client
) -> None:
    client.headers["idempotency-key"] = "once"
    for path in ("", "/stream"):
        with (
            pytest.raises(httpx.ReadTimeout),
            client.stream("POST", f"/run/{LTXV}{path}", json=INPUT, timeout=0.2) as one,
        ):
            one.read()
    time.sleep(0.2)
    with working(served, lambda server, row: server.finish(row)):
        answer = client.post(f"/run/{LTXV}", json=INPUT)
    assert (answer.status_code, answer.json()) == (200, RESULT)


@pytest.mark.parametrize("path", ["", "/stream"])
@pytest.mark.parametrize("key", [None, "once"])
def test_a_server_that_stops_gives_up_what_has_not_ended(served: Served, path: str, key: str | None) -> None:
    """Nobody would wait for the result. With an idempotency key the client can ask for it again."""

    def stop() -> None:
        wait_for(lambda: state(served) == "IN_QUEUE")
        time.sleep(0.1)
        served.state.stopping.set()
        served.state.statuses.wake_all()

    headers = {} if key is None else {"idempotency-key": key}
    threading.Thread(target=stop).start()
    with served.client() as client:
        answer = client.post(f"/run/{LTXV}{path}", json=INPUT, headers=headers)
    error = {"detail": "The server stops. Send the request again.", "error_type": "runner_disconnected"}
    if path:
        kind, data = answer.text.split("\n")[:2]
        assert (answer.status_code, kind) == (200, "event: error")
        assert json.loads(data[6:]) == {"type": "error", "status": 503, **error}
    else:
        assert (answer.status_code, answer.json()) == (503, error)
        assert (answer.headers["x-fal-retryable"], answer.headers["connection"]) == ("true", "close")
    assert state(served) == ("CANCELLED" if key is None else "IN_QUEUE")


def test_the_stream_sends_progress_and_then_the_result(served: Served, client: httpx.Client) -> None:
    with working(served, steps):
        answer = client.post(f"/run/{LTXV}/stream", json=INPUT, headers={"accept": "application/json"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert whole_row(served.engine, answer.headers["x-fal-request-id"]) is not None
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert events[0] == {"type": "progress", "message": "ltxv-tiny makes 96 new frames."}
    steps_sent = [one for one in events[:-1] if "step" in one]
    assert [one["step"] for one in steps_sent] == [0, 1, 2]
    assert all((one["type"], one["steps"], one["stage"]) == ("progress", 3, "sampling") for one in steps_sent)
    assert events[-1] == RESULT


def test_a_stream_sends_a_result_with_its_video_inside(served: Served, client: httpx.Client) -> None:
    result = {"video": {"url": "data:video/mp4;base64," + "AbC4" * 200_000}, "seed": 7}

    def finish(server: Served, row: RequestRow) -> None:
        server.finish(row, move_result_out(server.state.store, row.id, Outcome(200, result)))

    with working(served, finish):
        answer = client.post(f"/run/{LTXV}/stream", json=INPUT, headers={"accept": "text/event-stream"})
    assert [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")] == [result]


def test_an_invalid_input_to_a_stream_is_answered_in_json(client: httpx.Client) -> None:
    answer = client.post(f"/run/{LTXV}/stream", json={}, headers={"accept": "text/event-stream"})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/json")


def test_a_late_failure_is_an_event_with_data(served: Served, client: httpx.Client) -> None:
    has_started = threading.Event()

    def fail(server: Served, row: RequestRow) -> None:
        server.log(row, "Loading")
        assert has_started.wait(PATIENCE_S)
        server.finish(row, FAILED)

    lines = []
    with working(served, fail), client.stream("POST", f"/run/{LTXV}/stream", json=INPUT) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            has_started.set()
            lines.append(line)
    *_, kind, data = [line for line in lines if line]
    assert kind == "event: error"
    assert json.loads(data[6:]) == {"type": "error", "status": 500, **FAILED.body}


def test_a_silent_stream_sends_comments(tmp_path: Any) -> None:
    with (
        serving(tmp_path, ping_s=0.1) as served,
        served.client() as client,
        client.stream("POST", f"/run/{LTXV}/stream", json=INPUT) as stream,
    ):
        assert next(stream.iter_lines()) == ": ping"


def test_many_clients_wait_at_the_same_time(served: Served) -> None:
    answers: list[int] = []

    def run() -> None:
        with served.client() as client:
            answers.append(client.post(f"/run/{LTXV}", json=INPUT).status_code)

    with working(served, lambda server, row: server.finish(row)):
        threads = [threading.Thread(target=run) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [200] * 20


def test_numeric_labels_are_sent_as_numbers() -> None:
    line = StoredLogLine(1.0, "INFO", "m", {"stage": "vae", "step": "2", "steps": "many"}, 1)
    assert progress(line) == {"type": "progress", "message": "m", "stage": "vae", "step": 2, "steps": "many"}
