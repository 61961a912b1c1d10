"""The requests that the server's pages show: the list with its filters, trees, and single requests."""

from typing import Any

import pytest

from longtake.queue import engine as queue
from longtake.queue.payloads import input_and_result
from longtake.queue.requests import Outcome, Submission
from longtake.service import history
from longtake.service.history import MOST_LOGS, MOST_SEARCHED
from tests.service.finished import CLIP, finished, submit
from tests.service.serving import DONE, INPUT, LTX2, LTXV, Served
from tests.service.serving import submit as post


def listed(served: Served, query: str = "", **headers: str) -> Any:
    answer = served.client().get(f"/page/requests{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_list_shows_requests_in_every_state(served: Served) -> None:
    done, failed, running, waiting, cancelled = (
        submit(served, word, body=body)
        for word, body in (("a", {}), ("b", {}), ("c", {}), ("d", {}), ("e", {"seed": 5}))
    )
    key = finished(served, served.claim())
    served.finish(served.claim(), Outcome(422, {"detail": []}, error="The video is too long."))
    row = served.claim()
    served.report(row, "Sampling new frames", step=3, steps=10, window=2, windows=2)
    queue.cancel(served.engine, cancelled.id)
    found = listed(served)
    assert [(one["id"], one["prompt"], one["state"]) for one in found["requests"]] == [
        (cancelled.id, "e", "cancelled"),
        (waiting.id, "d", "waiting"),
        (running.id, "c", "running"),
        (failed.id, "b", "failed"),
        (done.id, "a", "done"),
    ]
    assert (found["running"], found["waiting"], found["older"]) == (1, 1, None)
    by_id = {one["id"]: one for one in found["requests"]}
    assert by_id[waiting.id]["position"] == 0
    numbers = {"step": 3, "steps": 10, "window": 2, "windows": 2, "pass": 1, "passes": 1}
    shown = {"message": "Sampling new frames", "stage": "sampling", "share": 0.65}
    assert by_id[running.id]["progress"] == shown | numbers
    assert (by_id[running.id]["timings"], by_id[done.id]["timings"]) == ({}, {"sampling": 2.0})
    assert by_id[failed.id]["error"] == "The video is too long."
    assert by_id[done.id]["video"]["url"] == f"cdn/files/{key}", "relative, because a proxy may add a path prefix"
    assert by_id[done.id]["model"] == "ltxv-tiny"
    assert by_id[done.id]["stand_in"] == "ltxv-tiny stands in."
    assert (by_id[failed.id]["model"], by_id[waiting.id]["stand_in"]) == (None, None)
    assert [by_id[one.id]["seed"] for one in (done, cancelled, waiting)] == [7, 5, None]
    assert served.client().get(by_id[done.id]["video"]["url"]).content == CLIP.read_bytes()


@pytest.mark.parametrize(("prompt", "shown"), [(None, ""), (7, "7"), ("", "")])
def test_a_prompt_that_is_no_text_is_shown(served: Served, prompt: object, shown: str) -> None:
    post(served.client(), {**INPUT, "prompt": prompt})
    (only,) = listed(served)["requests"]
    assert only["prompt"] == shown


def test_requests_whose_payloads_were_deleted_have_a_filter(served: Served) -> None:
    with served.client() as client:
        kept, gone = (submit(served, prompt, outcome=DONE).id for prompt in ("kept", "gone"))
        assert client.delete(f"/v1/models/requests/{gone}/payloads").status_code == 200

        def found(query: str) -> list[str]:
            return [one["id"] for one in client.get(f"/page/requests{query}").json()["requests"]]

        assert (found(""), found("?erased=no"), found("?erased=yes")) == ([gone, kept], [kept], [gone])
        assert client.get("/page/requests?erased=maybe").status_code == 422


def test_a_request_s_payloads_are_read_once_while_it_waits_and_once_when_it_has_ended(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, reads = input_and_result, list[Any]()

    def counted(*arguments: Any) -> Any:
        reads.append(arguments)
        return read(*arguments)

    monkeypatch.setattr(history, "input_and_result", counted)
    submit(served, "a")
    for count in (1, 2):
        for _ in range(2):
            (entry,) = listed(served)["requests"]
            assert (entry["prompt"], entry["video"] is None, len(reads)) == ("a", count == 1, count)
        if count == 1:
            finished(served, served.claim())


def test_a_key_sees_its_own_requests_and_an_admin_all(served: Served) -> None:
    keys = served.state.keys
    first, second, admin = keys.create("1", "run"), keys.create("2", "run"), keys.create("3", "admin")
    for key in (first, second):
        submit(served, key[:8], key_id=key.partition(":")[0])
    assert [one["prompt"] for one in listed(served, Authorization=f"Key {first}")["requests"]] == [first[:8]]
    assert listed(served, Authorization=f"Key {first}")["waiting"] == 1
    assert len(listed(served, Authorization=f"Key {admin}")["requests"]) == 2
    assert served.client().get("/page/requests", headers={"Authorization": "Key a:b"}).status_code == 401


def test_older_requests_are_on_further_pages(served: Served) -> None:
    made = [submit(served, str(number)).id for number in range(50)]
    seen: list[str] = []
    older = None
    while True:
        found = listed(served, "" if older is None else f"?before={older}")
        seen += [one["id"] for one in found["requests"]]
        older = found["older"]
        if older is None:
            break
    assert seen == made[::-1]
    for nonsense in ("nonsense", "%C2%B2"):  # the second one is ², a digit that is no number
        assert len(listed(served, f"?before={nonsense}")["requests"]) == 24


def test_large_payloads_are_not_read_for_the_list(served: Served) -> None:
    submit(served, "large", body={"video": {"video_url": "data:video/mp4;base64," + "A" * 2**20}})
    outcome = Outcome(200, {"video": {"url": "data:video/mp4;base64," + "A" * 2**20}})
    submit(served, "small", outcome=outcome)
    small, large = listed(served)["requests"]
    assert (small["prompt"], small["video"], large["prompt"]) == ("small", None, "")


@pytest.mark.parametrize("body", [b"null", b"[]", b"7", b"{", b'{"prompt": {"a": 1}}'])
def test_requests_with_unusual_payloads_are_listed(served: Served, body: bytes) -> None:
    submission = Submission(LTXV, "default", "local", body, served.queue, outcome=Outcome(422, {"detail": "no"}))
    queue.submit(served.engine, submission)
    outputs: tuple[Any, ...] = ({"video": None}, {"video": []}, {"video": {"url": 7}}, [], None, "x")
    for output in outputs:
        queue.submit(served.engine, Submission(LTXV, "default", "k", b"{}", "h/queue", outcome=Outcome(200, output)))
    assert len(listed(served)["requests"]) == 7


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_pages_of_other_origins_cannot_read_the_list(served: Served, site: str) -> None:
    """Without keys, every page that a person opens could call the server on that person's machine."""
    assert served.client().get("/page/requests", headers={"sec-fetch-site": site}).status_code == 403
    assert served.client().get("/page/requests/x", headers={"sec-fetch-site": site}).status_code == 403


def single(served: Served, request_id: str, **headers: str) -> Any:
    answer = served.client().get(f"/page/requests/{request_id}", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_list_has_filters(served: Served) -> None:
    with served.client() as client:
        cat = post(client)["request_id"]
        dog = post(client, {"prompt": "A DOG, 100%", "video_url": "data:,x"}, endpoint=LTX2)["request_id"]
        broken = client.post(f"/queue/{LTXV}", json={"prompt": "a bird"}).json()["request_id"]
    queue.cancel(served.engine, dog)

    def ids(query: str) -> list[str]:
        return [one["id"] for one in listed(served, query)["requests"]]

    assert ids("?endpoint=&state=&q=") == [broken, dog, cat]
    assert ids(f"?endpoint={LTX2}") == [dog]
    assert (ids("?state=waiting"), ids("?state=cancelled"), ids("?state=failed")) == ([cat], [dog], [broken])
    assert ids("?state=done") == []
    assert (ids("?q=a+dog"), ids("?q=0%25"), ids("?q=%25c"), ids("?q=BIRD")) == ([dog], [dog], [], [broken])
    assert ids(f"?q={cat}") == [cat]
    assert ids(f"?q=a&state=waiting&endpoint={LTXV}") == [cat]
    assert ids("?q=a%00cat") == [cat]
    for query, status in (("endpoint=none", 404), ("state=lost", 422), (f"q={'x' * (MOST_SEARCHED + 1)}", 422)):
        assert served.client().get(f"/page/requests?{query}").status_code == status


def test_a_request_is_shown_with_its_input_and_log(served: Served) -> None:
    long = "data:video/mp4;base64," + "A" * 200_000
    with served.client() as client:
        made = post(client, {"prompt": "a cat", "video": {"video_url": long}, "seed": 5})["request_id"]
    row = served.claim()
    for number in range(MOST_LOGS):
        served.log(row, f"Note {number}.")
    served.log(row, "Sampling new frames", stage="sampling", window="1", windows="1")
    running = single(served, made)
    assert (running["state"], running["timings"]) == ("running", {})
    key = finished(served, row)
    found = single(served, made)
    assert found["input"] == {"prompt": "a cat", "video": {"video_url": long[:64] + "..."}, "seed": 5}
    assert (found["notes"][0], len(found["notes"])) == ("Note 0.", MOST_LOGS)
    assert (len(found["logs"]), found["logs"][-1]["message"]) == (MOST_LOGS, "Sampling new frames")
    assert set(found["logs"][0]) == {"timestamp", "level", "message"}
    assert (found["video"]["url"], found["shared"]) == (f"cdn/files/{key}", f"shared/{key}")
    assert (found["children"], found["parent"], found["source"]) == ([], None, None)
    entry = listed(served)["requests"][0]
    assert {name: found[name] for name in entry} == entry
    assert served.client().delete(f"/v1/models/requests/{made}/payloads").status_code == 200
    gone = single(served, made)
    assert (gone["input"], gone["notes"], gone["logs"], gone["video"], gone["shared"]) == (None, [], [], None, None)
    assert gone["erased_at"] is not None


def test_an_input_that_the_client_lets_nobody_store_is_not_shown(served: Served) -> None:
    with served.client() as client:
        made = post(client, headers={"X-Fal-Store-IO": "0"})["request_id"]
    assert single(served, made)["input"] is None


def test_results_that_are_extended_again_are_a_tree(served: Served) -> None:
    def extended(key: str) -> str:
        with served.client() as client:
            body = {"prompt": "more", "video": {"video_url": f"{served.url}/cdn/files/{key}"}}
            made: str = post(client, body)["request_id"]
        return made

    first = submit(served, "first").id
    key = finished(served, served.claim())
    second, third = extended(key), extended(key)
    inner = finished(served, served.claim())
    fourth = extended(inner)
    found = single(served, second)
    assert (found["parent"], found["source"], found["children"]) == (first, f"cdn/files/{key}", [fourth])
    assert single(served, first)["children"] == [second, third]
    extended_ones = [entry["id"] for entry in listed(served)["requests"] if entry["extended"]]
    assert extended_ones == [first], "the others say by their parent that they belong to a tree"
    assert single(served, fourth)["source"] == f"cdn/files/{inner}"
    for one in (first, fourth):
        assert [entry["id"] for entry in listed(served, f"?tree={one}")["requests"]] == [fourth, third, second, first]
    assert listed(served, "?tree=unknown")["requests"] == listed(served, "?tree=%00")["requests"] == []
    served.state.store.delete(key)
    assert (single(served, second)["source"], single(served, first)["video"]) == (None, None)


def test_a_stranger_sees_neither_a_request_nor_its_tree(served: Served) -> None:
    keys = served.state.keys
    mine, other, admin = keys.create("1", "run"), keys.create("2", "run"), keys.create("3", "admin")
    made = submit(served, "mine", key_id=mine.partition(":")[0])
    key = finished(served, served.claim())
    body = {"prompt": "theirs", "video": {"video_url": f"{served.url}/cdn/files/{key}"}}
    with served.client(headers={"Authorization": f"Key {other}"}) as stranger:
        child = post(stranger, body)["request_id"]
        for request_id in (made.id, "unknown", "a" * 100):
            assert stranger.get(f"/page/requests/{request_id}").status_code == 404
        assert stranger.get(f"/page/requests?tree={made.id}").json()["requests"] == []
    assert single(served, child, Authorization=f"Key {other}")["parent"] is None
    assert single(served, made.id, Authorization=f"Key {mine}")["shared"] is None, "a server with keys shares nothing"
    assert single(served, made.id, Authorization=f"Key {admin}")["children"] == []
    assert listed(served, Authorization=f"Key {admin}")["admin"]
    assert not listed(served, Authorization=f"Key {mine}")["admin"]
    token = served.client().post("/rest/tokens/", headers={"Authorization": f"Key {mine}"}, json={}).json()
    answer = served.client().get(f"/page/requests/{made.id}", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 403
    assert served.client().get(f"/page/requests/{made.id}").status_code == 401
