"""The proxy: it answers requests for fal's hosts itself and fetches nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from longtake.access.keys import Keys
from longtake.service.proxy import PATH, parse_target
from tests.service.serving import INPUT, LTXV, Served, serving, working

QUEUE = f"https://queue.fal.run/{LTXV}"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("proxy")) as running:
        yield running


def proxied(served: Served, method: str, target: str | None, **more: Any) -> httpx.Response:
    headers = {"x-fal-target-url": target} if target is not None else {}
    with served.client() as client:
        return client.request(method, PATH, headers={**headers, **more.pop("headers", {})}, **more)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://fal.run/a/b", ("run", "/a/b", "")),
        ("https://queue.fal.run/a/b/requests/1/status?logs=1", ("queue", "/a/b/requests/1/status", "logs=1")),
        ("https://queue.falrun.com/a/b", ("queue", "/a/b", "")),
        ("https://FAL.run:443/a%20b", ("run", "/a%20b", "")),
        (
            "https://rest.fal.ai/storage/upload/initiate?storage_type=fal-cdn-v3",
            ("rest", "/storage/upload/initiate", "storage_type=fal-cdn-v3"),
        ),
        (
            "https://rest.fal.ai/storage/upload/initiate-multipart?x",
            ("rest", "/storage/upload/initiate-multipart", "x"),
        ),
        ("https://rest.fal.ai/tokens/", ("rest", "/tokens/", "")),
        ("", None),
        ("fal.run/a/b", None),
        ("file://fal.run/a", None),
        ("https://fal.run@evil.example/a", None),
        ("https://evil.example/fal.run", None),
        ("https://evil.fal.run/a", None),
        ("http://127.0.0.1:8000/run/a/b", None),
        ("http://169.254.169.254/latest/meta-data", None),
        ("https://rest.fal.ai/storage/auth/token", None),
        ("https://rest.fal.ai/requests/delete_io/1", None),
        ("https://v3.fal.media/files/upload", None),
        ("https://[fal.run/", None),
    ],
)
def test_allowed_and_refused_targets(url: str, expected: tuple[str, str, str] | None) -> None:
    assert parse_target(url) == expected


@pytest.mark.parametrize("target", [None, "", "https://example.com/", "https://rest.fal.ai/account"])
def test_a_target_that_is_not_fals_is_refused(served: Served, target: str | None) -> None:
    answer = proxied(served, "POST", target, json={})
    assert (answer.status_code, answer.json()) == (400, "Invalid request")
    assert answer.headers["x-fal-request-id"]


def test_a_request_from_submission_to_result(served: Served) -> None:
    answer = proxied(served, "POST", QUEUE, json=INPUT, headers={"x-fal-queue-priority": "low"})
    submitted = answer.json()
    assert answer.status_code == 200
    assert submitted["status_url"].startswith(f"{served.url}/queue/"), "where the caller reaches us, not fal"
    assert answer.headers["x-fal-request-id"] == submitted["request_id"]
    status = f"https://queue.fal.run/fal-ai/ltxv-13b-098-distilled/requests/{submitted['request_id']}/status?logs=1"
    assert proxied(served, "GET", status).json()["status"] == "IN_QUEUE"
    row = served.claim()
    assert (row.id, row.priority) == (submitted["request_id"], 1)
    served.log(row, "hello")
    assert proxied(served, "GET", status).json()["logs"][0]["message"] == "hello"
    cancelled = proxied(served, "PUT", status.partition("/status")[0] + "/cancel")
    assert cancelled.status_code == 202
    served.finish(row)
    result = proxied(served, "GET", status.partition("/status")[0])
    assert result.json()["seed"] == 7
    assert (result.headers["x-fal-billable-units"], result.headers["x-longtake-price-usd"]) == ("1", "0.02")


def test_errors_keep_their_status_and_shape(served: Served) -> None:
    unknown = proxied(served, "GET", f"{QUEUE}/requests/none/status")
    assert (unknown.status_code, unknown.json()) == (404, {"status": "NOT_FOUND"})
    invalid = proxied(served, "POST", "https://fal.run/fal-ai/ltx-2.3-22b/extend-video", json={})
    assert invalid.status_code == 422
    assert invalid.json()["detail"][0]["loc"] == ["body", "prompt"]


def test_events_of_a_stream_are_passed_on_at_once(served: Served) -> None:
    submitted = proxied(served, "POST", QUEUE, json=INPUT).json()
    target = f"{QUEUE}/requests/{submitted['request_id']}/status/stream?logs=1"
    row = served.claim()
    seen = []
    with (
        served.client() as client,
        client.stream("GET", PATH, headers={"x-fal-target-url": target, "accept": "application/json"}) as stream,
    ):
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("data:"):
                seen.append(line)
                if len(seen) == 1:
                    served.log(row, "one")
                elif len(seen) == 2:
                    served.finish(row)
    assert "one" in seen[1]
    assert "COMPLETED" in seen[-1]


def test_an_upload_continues_at_the_servers_own_url(served: Served) -> None:
    for kind in ("initiate", "initiate-multipart"):
        target = f"https://rest.fal.ai/storage/upload/{kind}?storage_type=fal-cdn-v3"
        urls = proxied(served, "POST", target, json={"file_name": "a.mp4"}).json()
        assert urls["upload_url"].startswith(f"{served.url}/cdn/uploads/")
        assert urls["file_url"].startswith(f"{served.url}/cdn/files/")


def test_run_waits_for_its_result(served: Served) -> None:
    with working(served, lambda served, row: served.finish(row)):
        answer = proxied(served, "POST", f"https://fal.run/{LTXV}", json=INPUT)
    assert (answer.status_code, answer.json()["seed"]) == (200, 7)


def test_other_methods_are_not_allowed(served: Served) -> None:
    assert proxied(served, "DELETE", QUEUE).status_code == 405
    preflight = proxied(
        served,
        "OPTIONS",
        None,
        headers={"origin": "http://localhost:3000", "access-control-request-headers": "x-fal-target-url"},
    )
    assert preflight.status_code == 204
    assert "x-fal-target-url" in preflight.headers["access-control-allow-headers"]


@pytest.mark.parametrize("is_open", [False, True])
def test_with_keys_the_proxy_needs_one_unless_it_is_open(tmp_path: Path, is_open: bool) -> None:
    with serving(tmp_path, open_proxy=is_open) as served:
        key = Keys(served.engine).create("user", "run")
        mine = {"authorization": f"Key {key}"}
        owned = proxied(served, "POST", QUEUE, json=INPUT, headers=mine)
        assert owned.status_code == 200
        status = f"{QUEUE}/requests/{owned.json()['request_id']}/status"
        assert proxied(served, "GET", status, headers=mine).json()["status"] == "IN_QUEUE"
        for headers in ({}, {"authorization": "Key undefined"}):
            answer = proxied(served, "POST", QUEUE, json=INPUT, headers=headers)
            if not is_open:
                assert (answer.status_code, answer.json()) == (401, "Unauthorized")
                continue
            assert answer.status_code == 200
            theirs = f"{QUEUE}/requests/{answer.json()['request_id']}/status"
            assert proxied(served, "GET", theirs, headers=headers).json()["status"] == "IN_QUEUE"
            assert proxied(served, "GET", status, headers=headers).status_code == 404, "another's"
