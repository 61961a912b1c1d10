"""The npm package @fal-ai/client, unmodified: every call to a real server, with every recipe that reaches it."""

import hashlib
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contract.conftest import Node, Running
from tests.contract.server import NARROW
from tests.service.serving import INPUT, INPUTS, LTX2, LTXV, wait_for

EXAMPLE = Path(__file__).parents[2] / "examples" / "clip.mp4"


def with_prompt(prompt: str) -> dict[str, Any]:
    return {**INPUT, "prompt": prompt}


class Way:
    """Runs calls in a JavaScript program that reaches the server with one recipe."""

    def __init__(self, node: Node, server: Running, name: str) -> None:
        self.node, self.server, self.name = node, server, name

    def __call__(self, call: str, **given: Any) -> Any:
        server, way = self.server, self.name.partition(" ")[0]
        base = server.https if self.name.endswith("tls") else server.http
        env = server.node_shim() if way == "shim" else server.environment(NODE_EXTRA_CA_CERTS=str(server.tls.authority))
        return self.node.call(call, env, {"way": way, "base": base, **given})


@pytest.fixture(params=["proxy", "middleware", "fetch", "shim", "proxy tls", "fetch tls"])
def way(request: pytest.FixtureRequest, node: Node, server: Running) -> Way:
    return Way(node, server, request.param)


@pytest.fixture
def one_way(node: Node, server: Running) -> Way:
    return Way(node, server, "proxy")


@pytest.mark.parametrize("mode", ["polling", "streaming"])
def test_subscribe(way: Way, mode: str) -> None:
    got = way("subscribed", id=LTXV, input=with_prompt("steps"), options={"mode": mode})
    assert "error" not in got, got
    assert got["value"]["data"]["prompt"] == "steps"
    assert got["value"]["requestId"] == got["enqueued"]
    assert got["messages"] == [f"step {number}" for number in range(1, 6)]
    assert got["statuses"][-1] == "COMPLETED"
    assert set(got["statuses"]) <= {"IN_QUEUE", "IN_PROGRESS", "COMPLETED"}
    assert got["value"]["data"]["video"]["url"].startswith("http")


def test_every_endpoint_by_run(one_way: Way) -> None:
    for endpoint, body in INPUTS.items():
        got = one_way("run", id=endpoint, input=body, options={"startTimeout": 30})
        assert got["value"]["data"]["seed"] == 7, got
        assert got["value"]["requestId"]


def test_submit_status_result(way: Way) -> None:
    got = way("byHand", id=LTX2, input={**INPUTS[LTX2], "prompt": "steps"})
    assert set(got["submitted"]) >= {"response_url", "status_url", "cancel_url", "queue_position"}
    assert got["silent"]["logs"] is None
    assert [log["message"] for log in got["status"]["logs"]] == [f"step {number}" for number in range(1, 6)]
    assert got["status"]["metrics"]["inference_time"] == 0.1
    assert got["result"]["requestId"]


def test_the_status_stream_sends_each_line_once(one_way: Way) -> None:
    got = one_way("streamedStatus", id=LTXV, input=with_prompt("steps"))
    lines = [log["message"] for event in got["events"] for log in event.get("logs") or ()]
    assert lines == [f"step {number}" for number in range(1, 6)]
    assert got["last"]["status"] == "COMPLETED"


@pytest.mark.parametrize("running", [True, False])
def test_cancel(one_way: Way, running: bool) -> None:
    blocker = None if running else one_way("submitted", id=NARROW, input=with_prompt("slow"))
    got = one_way("cancelled", id=NARROW, input=with_prompt("slow"), whenRunning=running)
    assert "error" not in got["first"]
    assert got["end"]["value"]["error_type"] == "client_cancelled"
    assert (got["result"]["status"], got["result"]["body"]["error_type"]) == (499, "client_cancelled")
    assert (got["again"]["status"], got["again"]["body"]) == (400, {"status": "ALREADY_COMPLETED"})
    if blocker is not None:
        assert blocker["status"] == "IN_QUEUE"
        httpx.put(blocker["cancel_url"])


def test_the_clients_timeout_cancels_the_request(one_way: Way) -> None:
    got = one_way("subscribed", id=LTXV, input=with_prompt("slow"), options={"timeout": 1200})
    assert "timed out" in got["message"]
    url = f"{one_way.server.http}/queue/{LTXV}/requests/{got['enqueued']}"
    wait_for(lambda: httpx.get(url).status_code == 499)


def test_the_start_timeout_ends_a_waiting_request(one_way: Way) -> None:
    blocker = one_way("submitted", id=NARROW, input=with_prompt("slow"))
    got = one_way("subscribed", id=NARROW, input=with_prompt("quick"), options={"startTimeout": 1.1})
    assert (got["status"], got["isUserTimeout"]) == (504, True)
    assert got["body"]["error_type"] == "request_timeout"
    httpx.put(blocker["cancel_url"])


def test_errors_have_the_clients_classes(one_way: Way) -> None:
    invalid = one_way("subscribed", id=LTXV, input={"prompt": 1})
    assert (invalid["error"], invalid["status"]) == ("ValidationError", 422)
    assert {tuple(entry["loc"]) for entry in invalid["fieldErrors"]} >= {("body", "video")}
    at_once = one_way("run", id=LTXV, input={"prompt": 1})
    assert at_once["fieldErrors"] == invalid["fieldErrors"] or at_once["error"] == "ValidationError"
    wrong = one_way("subscribed", id=LTXV, input=with_prompt("wrong"))
    assert (wrong["error"], wrong["fieldErrors"][0]["type"]) == ("ValidationError", "file_download_error")
    broken = one_way("subscribed", id=LTXV, input=with_prompt("broken"))
    assert (broken["error"], broken["status"]) == ("ApiError", 500)
    assert broken["body"]["detail"] == "The worker is broken"
    assert broken["requestId"] == broken["enqueued"]
    unknown = one_way("unknown", id=LTXV, requestId="00000000-0000-0000-0000-000000000000")
    assert (unknown["error"], unknown["status"], unknown["body"]) == ("ApiError", 404, {"status": "NOT_FOUND"})
    nobody = one_way("run", id="fal-ai/flux/dev", input={})
    assert (nobody["error"], nobody["status"]) == ("ApiError", 404)


def test_stream(way: Way) -> None:
    got = way("streamed", id=LTXV, input=with_prompt("steps"))
    assert "error" not in got, got
    assert len(got["events"]) >= 2
    assert got["value"]["video"]["url"].startswith("http")


def test_an_invalid_input_to_a_stream_is_an_error(one_way: Way) -> None:
    got = one_way("streamed", id=LTXV, input={})
    assert (got["error"], got["status"]) == ("ValidationError", 422)


@pytest.mark.parametrize("name", ["fetch", "shim"])
def test_stream_with_a_token_instead_of_a_key(locked: tuple[Running, str], node: Node, name: str) -> None:
    server, key = locked
    way = Way(node, server, name)
    got = way("streamed", id=LTXV, input=with_prompt("steps"), credentials=key, options={"connectionMode": "client"})
    assert "error" not in got, got
    assert got["value"]["seed"] == 7


def test_keys(locked: tuple[Running, str], node: Node) -> None:
    server, key = locked
    for name in ("proxy", "fetch"):
        way = Way(node, server, name)
        assert way("run", id=LTXV, input=INPUT, credentials=key)["value"]["data"]["seed"] == 7
        refused = way("run", id=LTXV, input=INPUT, credentials="wrong:key")
        assert (refused["error"], refused["status"]) == ("ApiError", 401)


def test_upload(way: Way) -> None:
    url = way("uploadedText", text="Hello, World!", name="hello.txt", type="text/plain")
    assert way.server.file(url).read_bytes() == b"Hello, World!"
    assert url.endswith(".txt")
    assert way.server.file(way("uploadedUntyped", text="frames")).read_bytes() == b"frames"


@pytest.mark.parametrize("name", ["proxy", "fetch tls"])
def test_upload_of_105_megabytes(node: Node, server: Running, large: Path, name: str) -> None:
    url = Way(node, server, name)("uploaded", path=str(large), type="video/mp4")
    stored = server.file(url)
    assert digest(stored) == digest(large)
    stored.unlink()


def test_files_in_the_input_are_uploaded(way: Way) -> None:
    got = way("withBlob", id=LTXV, path=str(EXAMPLE), prompt="quick")
    assert got["sha256"] == digest(EXAMPLE)


def test_fals_own_proxy_works_in_front_of_the_server(node: Node, server: Running) -> None:
    got = node.run("official.mjs", {**server.node_shim(), "FAL_KEY": "any:thing"}).splitlines()
    assert got == ["200 IN_QUEUE", "200 upload_url", "200 IN_QUEUE", "400 Invalid request"]


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
