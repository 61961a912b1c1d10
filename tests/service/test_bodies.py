"""JSON bodies: what counts as structure, the bounds, and the process that checks large bodies."""

import asyncio
import json
import random
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from longtake.endpoints.body_check import CheckedBody, check
from longtake.endpoints.fields import MOST_LORAS
from longtake.queue.payloads import input_and_result
from longtake.queue.requests import SEARCHED_CHARACTERS, search_text
from longtake.service import bodies
from longtake.service.bodies import MOST_STRUCTURE_BYTES, SPOOL_BYTES, Structure, received_body
from tests.service.serving import INPUT, LTXV, PATIENCE_S, Served, serving, submit, wait_for


def test_structure_is_what_is_outside_of_strings() -> None:
    for text, size in ((b"", 0), (b'{"a": [1, "]"]}', 13), (b'"' + b"x" * 999 + b'"', 2), (b'["\\"", "\\\\", 1]', 11)):
        structure = Structure()
        structure.add(text)
        assert structure.size == size, text
        assert structure.values == len(re.findall(rb"[,\[{]", re.sub(rb'"(?:[^"\\]|\\.)*"', b"", text))), text


def test_the_pieces_in_which_a_body_arrives_change_nothing() -> None:
    source = random.Random(1)
    for _ in range(300):
        values = ["".join(source.choices('ab"\\\n{}[],é', k=source.randrange(12))) for _ in range(8)]
        text = json.dumps({value: [value, 1, {}] for value in values}, ensure_ascii=source.random() < 0.5).encode()
        whole, parts = Structure(), Structure()
        whole.add(text)
        start = 0
        while start < len(text):
            length = source.randrange(1, 9)
            parts.add(text[start : start + length])
            start += length
        outside = re.sub(rb'"(?:[^"\\]|\\.)*"', b'""', text)
        assert whole.size == parts.size == len(outside)
        assert whole.values == parts.values == len(re.findall(rb"[,\[{]", outside))


@pytest.mark.parametrize(
    "many",
    [b"[" + b"[]," * 400_000 + b"1]", b"{" + b'"":0,' * 250_000 + b'"":0}', b"[" * 1_100_000, b" " * 1_100_000],
    ids=["lists", "names", "nested", "spaces"],
)
def test_a_body_with_too_much_structure_is_a_413(client: httpx.Client, many: bytes) -> None:
    for path in (f"/queue/{LTXV}", f"/run/{LTXV}"):
        answer = client.post(path, content=b'{"x":' + many + b"}")
        assert answer.status_code == 413, path
        assert str(MOST_STRUCTURE_BYTES) in answer.json()["detail"]


def stored(served: Served, request_id: str) -> tuple[bytes, bytes | None]:
    """Returns the stored input of a request, and its result if it has one."""
    body, result = input_and_result(served.engine, served.state.store.blobs, request_id)
    assert body is not None
    return body, result


BODIES: dict[str, Any] = {
    "long": {**INPUT, "prompt": 'é"\\\n' * 1000},
    "invalid": {**INPUT, "seed": "x", "num_frames": 0},
}


@pytest.mark.parametrize("name", BODIES)
def test_the_process_for_large_bodies_finds_the_same(
    served: Served, client: httpx.Client, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    here = stored(served, submit(client, BODIES[name])["request_id"])
    monkeypatch.setattr(bodies, "PROCESS_STRUCTURE_BYTES", 0)
    apart = stored(served, submit(client, BODIES[name])["request_id"])
    assert apart == here
    assert json.loads(here[0]) == BODIES[name]


def test_a_body_on_the_disk_is_read_back_and_its_file_deleted(
    served: Served, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "PROCESS_BYTES", 100_000)
    monkeypatch.setattr(bodies, "SPOOL_BYTES", 50_000)
    large = {**INPUT, "prompt": "é" * 200_000}
    assert json.loads(stored(served, submit(client, large)["request_id"])[0]) == large
    wrong = client.post(f"/queue/{LTXV}", content=b'{"x":"' + b"x" * 300_000)
    assert client.get(wrong.json()["response_url"]).json()["detail"][0]["type"] == "json_invalid"
    assert not list(served.state.store.scratch.iterdir())


@pytest.mark.parametrize(("size", "is_on_disk"), [(SPOOL_BYTES, False), (SPOOL_BYTES + 1, True)])
def test_large_bodies_are_on_the_disk(served: Served, size: int, is_on_disk: bool) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b'"' + b"x" * (size - 2) + b'"', "more_body": False}

    async def run() -> None:
        async with received_body(Request({"type": "http", "headers": []}, receive), served.state, "a", size) as body:
            assert (body.file.name is not None) == is_on_disk
            assert len(body.read()) == size

    asyncio.run(run())


def test_only_the_beginning_of_a_prompt_is_searched_for() -> None:
    prompt = "\u0130" * 5000  # its small letter is two characters
    found = check(LTXV, json.dumps({**INPUT, "prompt": prompt}).encode())
    assert found.prompt == prompt[:SEARCHED_CHARACTERS]
    assert search_text(found.prompt) == search_text(prompt)
    assert json.loads(found.compact)["prompt"] == prompt


def test_a_process_that_takes_too_long_is_a_503(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "PROCESS_STRUCTURE_BYTES", 0)
    monkeypatch.setattr(bodies, "PROCESS_S", 0.001)
    answer = client.post(f"/queue/{LTXV}", json=INPUT)
    assert answer.status_code == 503
    assert "ask again" in answer.json()["detail"]


def test_large_bodies_of_one_key_do_not_delay_those_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answered: list[str] = []
    with serving(tmp_path) as served, served.client() as client, ThreadPoolExecutor(7) as pool:
        mine, theirs = ({"Authorization": f"Key {served.state.keys.create(name, 'run')}"} for name in "ab")
        monkeypatch.setattr(bodies, "PROCESS_STRUCTURE_BYTES", 0)
        all_wait = threading.Event()

        def slowly_checked(endpoint_id: str, body: bodies.ReceivedBody) -> CheckedBody:
            all_wait.wait(PATIENCE_S)
            time.sleep(0.05)
            return check(endpoint_id, body.read())

        monkeypatch.setattr(bodies, "_checked_apart", slowly_checked)

        def send(name: str, key: dict[str, str]) -> None:
            submit(client, headers=key)
            answered.append(name)

        waiting = served.state.large_bodies._waiting
        sent = [pool.submit(send, "mine", mine) for _ in range(6)]
        wait_for(lambda: [len(requests) for requests in list(waiting.values())] == [5])
        sent.append(pool.submit(send, "theirs", theirs))
        wait_for(lambda: len(waiting) == 2)
        all_wait.set()
        for one in sent:
            one.result()
    assert "theirs" in answered[:4], answered


def test_many_wrong_items_are_one_short_error(served: Served, client: httpx.Client) -> None:
    submitted = submit(client, {**INPUT, "loras": [{}] * 10_000})
    answer = client.get(submitted["response_url"])
    assert answer.status_code == 422
    (problem,) = answer.json()["detail"]
    assert (problem["type"], problem["ctx"]["max_length"]) == ("too_long", MOST_LORAS)
    assert len(answer.content) < 10_000


def test_the_largest_list_is_served(tmp_path: Path) -> None:
    with serving(tmp_path) as served, served.client() as client:
        request_id = submit(client, {**INPUT, "loras": [{"path": "a"}] * MOST_LORAS})["request_id"]
        assert stored(served, request_id)[1] is None


def test_one_body_after_the_other_is_parsed_in_this_process(
    served: Served, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, together = [0], []

    def slowly_checked(endpoint_id: str, raw: bytes) -> CheckedBody:
        running[0] += 1
        together.append(running[0])
        time.sleep(0.02)
        running[0] -= 1
        return check(endpoint_id, raw)

    monkeypatch.setattr(bodies, "check", slowly_checked)
    large = {**INPUT, "prompt": "x" * bodies.THREAD_BYTES}
    with ThreadPoolExecutor(4) as pool:
        for one in [pool.submit(submit, client, large) for _ in range(4)]:
            one.result()
    assert together == [1] * 4
