"""The application: routing by host and prefix, the headers of every answer, and the forms of errors."""

import asyncio
import json
import socket
import threading
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy import event

from longtake.service.app import Application
from longtake.service.responses import to_json
from tests.service.serving import INPUT, LTXV, PATIENCE_S, Served, serving
from tests.worker.requests import whole_row

HOSTS = {"queue.fal.run": "", "queue.falrun.com": "", "QUEUE.fal.run:443": ""}


@pytest.mark.parametrize("host", ["queue.fal.run", "queue.falrun.com", "Queue.Fal.Run:8443"])
def test_each_of_fals_hosts_is_a_service(served: Served, client: httpx.Client, host: str) -> None:
    answer = client.post(f"/{LTXV}", json=INPUT, headers={"host": host})
    assert answer.json()["status_url"].startswith("https://queue.fal.run/fal-ai/ltxv-13b-098-distilled/requests/")
    path = answer.json()["status_url"].removeprefix("https://queue.fal.run")
    assert client.get(path, headers={"host": host}).status_code == 202
    assert client.get(f"/queue{path}").status_code == 202
    row = whole_row(served.engine, answer.json()["request_id"])
    assert row is not None
    assert row.base_url == "https://queue.fal.run"


def test_run_is_reached_by_host_and_by_prefix(client: httpx.Client) -> None:
    for headers, path in (
        ({"host": "fal.run"}, f"/{LTXV}"),
        ({"host": "falrun.com"}, f"/{LTXV}"),
        ({}, f"/run/{LTXV}"),
    ):
        assert client.post(path, json={}, headers=headers).status_code == 422


def test_urls_in_answers_use_the_public_url(tmp_path: Path) -> None:
    with serving(tmp_path, public_url="https://video.example.com/") as served, served.client() as client:
        submitted = client.post(f"/queue/{LTXV}", json=INPUT).json()
        assert submitted["status_url"].startswith("https://video.example.com/queue/fal-ai/")


def test_a_trailing_slash_is_not_redirected(client: httpx.Client) -> None:
    submitted = client.post(f"/queue/{LTXV}/", json=INPUT, follow_redirects=False).json()
    path = f"/queue/{LTXV}/requests/{submitted['request_id']}"
    for tail, status in (("/", 400), ("/status/", 202), ("/status/?logs=1", 202)):
        assert client.get(path + tail, follow_redirects=False).status_code == status
    assert client.put(f"{path}/cancel/").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/queue", 405),
        ("GET", f"/queue/{LTXV}", 405),
        ("PATCH", f"/queue/{LTXV}", 405),
        ("DELETE", f"/queue/{LTXV}/requests/x/status", 405),
        ("POST", f"/queue/{LTXV}/requests/x/status", 404),
        ("POST", "/v1/models", 405),
        ("GET", f"/queue/{LTXV}/requests/x/other", 405),
        ("GET", "/api/openapi/queue/openapi.json?endpoint_id=no", 404),
    ],
)
def test_errors_are_json_and_have_a_request_id(client: httpx.Client, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["x-fal-request-id"]
    assert isinstance(answer.json()["detail"], str)
    assert answer.json()["error_type"] == answer.headers["x-fal-error-type"]


def test_a_malformed_host_is_refused(client: httpx.Client) -> None:
    answer = client.get("/v1/models", headers={"host": "a b"})
    assert answer.status_code == 400
    assert answer.headers["content-type"] in ("application/json", "text/plain; charset=utf-8")


def test_an_unexpected_error_is_a_500_in_json(
    served: Served, client: httpx.Client, monkeypatch: pytest.MonkeyPatch, log: list[dict[str, object]]
) -> None:
    def fail(_: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(served.state.statuses, "peek", fail)
    for path in ("status", "cancel", ""):
        answer = client.request("PUT" if path == "cancel" else "GET", f"/queue/{LTXV}/requests/x/{path}")
        assert (answer.status_code, answer.json()["error_type"]) == (500, "internal_error")
        assert answer.headers["x-fal-request-id"]
    assert [line["event"] for line in log if line["log_level"] == "error"] == [
        "A request failed with an unexpected error"
    ] * 3


def test_a_connection_that_closes_before_the_answer_is_no_error(served: Served, log: list[dict[str, object]]) -> None:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: object) -> None:
        raise RuntimeError(
            "unable to perform operation on <TCPTransport closed=True>; the handler is closed"
        )  # uvloop's

    scope = {"type": "http", "method": "GET", "path": "/health", "query_string": b"", "scheme": "http", "headers": []}
    server = {"server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1), "root_path": "", "http_version": "1.1"}
    asyncio.run(Application(served.state)(scope | server, receive, send))
    assert [line for line in log if line["log_level"] == "error"] == []


def test_a_short_database_outage_is_not_an_error(served: Served, client: httpx.Client) -> None:
    failures = iter(range(3))

    def refuse(*_: object) -> None:
        if next(failures, None) is not None:
            raise sa.exc.OperationalError("select", {}, Exception("away"))

    event.listen(served.engine, "before_cursor_execute", refuse)
    assert client.post(f"/queue/{LTXV}", json=INPUT).status_code == 200
    assert next(failures, None) is None


def test_a_long_database_outage_is_a_503(served: Served, client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise sa.exc.OperationalError("select", {}, Exception("away"))

    monkeypatch.setattr("longtake.service.state.PAUSES_S", (0.01,))
    event.listen(served.engine, "before_cursor_execute", refuse)
    answer = client.post(f"/queue/{LTXV}", json=INPUT)
    assert (answer.status_code, answer.json()["error_type"]) == (503, "internal_error")
    assert answer.headers["x-fal-request-id"]
    assert answer.headers["x-fal-retryable"] == "true"


def test_pages_of_other_origins_may_call_and_read_answers(served: Served, client: httpx.Client) -> None:
    client.headers["authorization"] = f"Key {served.state.keys.create('page', 'run')}"
    headers = {
        "origin": "https://app.example.com",
        "access-control-request-method": "PUT",
        "access-control-request-headers": "authorization,x-fal-target-url,x-fal-queue-priority",
    }
    for path in (f"/queue/{LTXV}", "/api/fal/proxy", "/cdn/uploads/abc"):
        preflight = client.options(path, headers=headers)
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == "*"
        assert preflight.headers["access-control-allow-headers"] == headers["access-control-request-headers"]
        assert {"GET", "POST", "PUT", "OPTIONS"} <= set(preflight.headers["access-control-allow-methods"].split(", "))
    request_id = client.post(f"/queue/{LTXV}", json=INPUT).json()["request_id"]
    for path in (f"/queue/{LTXV}/requests/{request_id}/status", f"/queue/{LTXV}/requests/x", "/nothing"):
        answer = client.get(path, headers={"origin": "https://app.example.com"})
        assert answer.headers["access-control-allow-origin"] == "*"
        assert {
            "x-fal-request-id",
            "x-fal-request-timeout-type",
            "x-fal-error-type",
            "x-fal-needs-retry",
        } <= set(answer.headers["access-control-expose-headers"].split(", "))
        assert "access-control-allow-credentials" not in answer.headers
    assert "access-control-allow-origin" not in client.get("/v1/models").headers


def test_only_configured_origins_may_read_answers(tmp_path: Path) -> None:
    with serving(tmp_path, cors_origins=("https://mine.example.com",)) as served, served.client() as client:
        client.headers["authorization"] = f"Key {served.state.keys.create('page', 'admin')}"
        mine = client.get("/v1/models", headers={"origin": "https://mine.example.com"})
        assert mine.headers["access-control-allow-origin"] == "https://mine.example.com"
        other = client.get("/v1/models", headers={"origin": "https://other.example.com"})
        assert "access-control-allow-origin" not in other.headers
        assert other.headers["vary"] == mine.headers["vary"] == "Accept-Encoding, origin"


def test_submissions_are_logged_with_their_id_and_status_requests_are_not(
    served: Served, log: list[dict[str, object]]
) -> None:
    with served.client() as client:
        submitted = client.post(f"/queue/{LTXV}", json=INPUT).json()
        for _ in range(20):
            client.get(submitted["status_url"])
    answered = [line for line in log if line["event"] == "Answered a request"]
    assert [(line["method"], line["request_id"]) for line in answered] == [("POST", submitted["request_id"])]


def test_the_log_has_no_keys_of_files(client: httpx.Client, log: list[dict[str, object]]) -> None:
    key = "k" * 32 + ".mp4"
    for path in (f"/page/shared/{key}", f"/media/{key}/facts", f"/cdn/files/{key}"):
        assert client.post(path).status_code in (404, 405)
    assert [line["path"] for line in log] == ["/page/shared/...", "/media/.../facts", "/files"]


def test_polling_does_not_query_the_database(
    served: Served, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longtake.queue.status_cache.FRESH_S", PATIENCE_S)
    url = client.post(f"/queue/{LTXV}", json=INPUT).json()["status_url"]
    client.get(url)
    statements: list[str] = []

    def note(_c: object, _k: object, statement: str, *_: object) -> None:
        if threading.current_thread().name != "status-cache":
            statements.append(statement)

    event.listen(served.engine, "before_cursor_execute", note)
    for _ in range(200):
        assert client.get(url).status_code == 202
    assert [statement for statement in statements if "FROM requests" in statement] == []


def test_a_request_without_a_host_header_is_served(served: Served) -> None:
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"GET /v1/models HTTP/1.0\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200")


def test_two_host_headers_are_refused(served: Served) -> None:
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400")


def test_a_head_request_has_no_body(client: httpx.Client) -> None:
    submitted = client.post(f"/queue/{LTXV}", json=INPUT).json()
    answer = client.head(submitted["status_url"])
    assert (answer.status_code, answer.content) == (202, b"")


def test_json_has_no_infinite_numbers() -> None:
    assert to_json({"a": "ä"}) == '{"a":"ä"}'.encode()
    with pytest.raises(ValueError, match="Out of range"):
        to_json(float("nan"))


@pytest.mark.parametrize(
    "given",
    [
        '{"prompt": ["a"], "video": 1e308, "num_frames": 1e300}',
        '{"prompt": {"a": "\\u0000"}, "seed": ' + "9" * 400 + "}",
    ],
)
def test_invalid_values_are_echoed_as_valid_json(client: httpx.Client, given: str) -> None:
    answer = client.post(f"/run/{LTXV}", content=given)
    assert answer.status_code == 422
    json.loads(answer.content, parse_constant=lambda name: pytest.fail(name))
    assert all(set(one) - {"ctx"} == {"loc", "msg", "type", "url", "input"} for one in answer.json()["detail"])
