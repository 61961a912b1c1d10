"""Budgets of keys: requests per minute and bytes per hour. And of addresses: refused keys."""

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from longtake.service import auth
from longtake.service.budgets import Budget
from longtake.service.proxy import PATH
from tests.service.serving import INPUT, LTXV, serving, submit


def test_a_budget_comes_back_evenly() -> None:
    now = 100.0
    budget = Budget(10, 60.0, clock=lambda: now)
    budget.use("a", 9)
    assert budget.seconds_left("a") == 0
    budget.use("a", 3)
    assert budget.seconds_left("a") == 18
    assert budget.seconds_left("a", 4) == 36
    assert budget.seconds_left("a", 1000) == 72
    assert budget.seconds_left("b") == 0
    now += 17.5
    assert budget.seconds_left("a") == 1
    now += 0.5
    assert budget.seconds_left("a") == 0
    now += 1e6
    budget.use("a", 9)
    assert budget.seconds_left("a") == 0


def test_without_a_setting_there_is_no_limit() -> None:
    budget = Budget(None, 60.0)
    budget.use("a", 10**12)
    assert budget.seconds_left("a") == 0


def test_requests_above_the_budget_of_a_key_are_429s(tmp_path: Path) -> None:
    with serving(tmp_path, key_requests_per_minute=2) as served, served.client() as client:
        mine, other = ({"Authorization": f"Key {served.state.keys.create(name, 'run')}"} for name in "ab")
        ids = [submit(client, headers=mine)["request_id"] for _ in range(2)]
        for path in (f"/queue/{LTXV}", f"/run/{LTXV}", f"/run/{LTXV}/stream"):
            refused = client.post(path, json=INPUT, headers=mine)
            assert (refused.status_code, refused.json()["error_type"]) == (429, "concurrent_requests_limit")
            assert 0 < int(refused.headers["retry-after"]) <= 30
        assert client.post("/queue/no/such/endpoint", json=INPUT, headers=mine).status_code == 429
        assert client.get(f"/queue/{LTXV}/requests/{ids[0]}/status", headers=mine).status_code == 202
        submit(client, headers=other)


def test_refused_requests_count_too(tmp_path: Path) -> None:
    with serving(tmp_path, key_requests_per_minute=4, max_body_bytes=200) as served, served.client() as client:
        path = f"/queue/{LTXV}"
        refusals = [
            client.post(path, json=INPUT, headers={"X-Fal-Queue-Priority": "urgent"}),
            client.post("/queue/no/such/endpoint", json=INPUT),
            client.post(path, json=INPUT, params={"fal_webhook": "http://127.0.0.1/"}),
            client.post(path, json={**INPUT, "prompt": "x" * 200}),
        ]
        assert [refused.status_code for refused in refusals] == [400, 404, 422, 413]
        assert client.post(path, json=INPUT).status_code == 429


def test_bytes_above_the_budget_of_a_key_are_429s(tmp_path: Path) -> None:
    with serving(tmp_path, key_bytes_per_hour=10_000) as served, served.client() as client:
        mine, other = ({"Authorization": f"Key {served.state.keys.create(name, 'run')}"} for name in "ab")
        uploads = [
            client.post("/rest/storage/upload/initiate", json={"file_name": "a.bin"}, headers=mine).json()["upload_url"]
            for _ in range(2)
        ]
        too_large = client.put(uploads[0], content=b"x" * 11_000)
        assert (too_large.status_code, "10000 bytes per hour" in too_large.json()["detail"]) == (413, True)
        assert client.put(uploads[0], content=b"x" * 9_900).status_code == 200
        refusals = [
            client.put(uploads[1], content=b"x" * 200),
            client.post("/cdn/files/upload", content=b"x" * 200, headers=mine),
            client.post(f"/queue/{LTXV}", json={**INPUT, "prompt": "x" * 200}, headers=mine),
        ]
        assert [refused.status_code for refused in refusals] == [429, 429, 429]
        assert "bytes per hour" in refusals[0].json()["detail"]
        submit(client, {**INPUT, "prompt": "x" * 9_890}, headers=other)
        assert client.post(f"/queue/{LTXV}", json=INPUT, headers=other).status_code == 429


@pytest.mark.parametrize("path", [f"/queue/{LTXV}", "/rest/storage/upload/initiate", "/cdn/files/upload"])
def test_a_body_of_unknown_length_is_refused_while_it_arrives(tmp_path: Path, path: str) -> None:
    with serving(tmp_path, key_bytes_per_hour=10_000) as served:
        url = urlsplit(served.url)
        with socket.create_connection((url.hostname, url.port), 30) as client:
            client.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
            client.sendall(b"2710\r\n" + b" " * 10_000 + b"\r\n")
            client.settimeout(0.2)
            with pytest.raises(TimeoutError):
                client.recv(1000)
            client.settimeout(30)
            client.sendall(b"1\r\n \r\n")  # The end of the body never comes.
            assert client.recv(1000).startswith(b"HTTP/1.1 429 ")


@pytest.fixture
def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[httpx.Client, str]]:
    """A client of a server with a key, and the key. An address may send 3 refused keys per minute, and a proxy 5."""
    monkeypatch.setattr(auth, "MOST_REFUSED", 3)
    monkeypatch.setattr(auth, "MOST_REFUSED_OF_PROXY", 5)
    with serving(tmp_path) as served, served.client() as client:
        yield client, served.state.keys.create("a", "run")


def test_an_address_may_send_so_many_refused_keys_per_minute(guarded: tuple[httpx.Client, str]) -> None:
    client, key = guarded
    good, bad = ({"Authorization": f"Key {value}", "X-Forwarded-For": "9.9.9.9"} for value in (key, "a:b"))
    other = {"Authorization": "Key a:b", "X-Forwarded-For": "9.9.9.8"}
    paths = [f"/queue/{LTXV}/requests/x/status", f"/queue/{LTXV}/requests/x", "/v1/models", "/v1/models", "/v1/models"]
    assert client.get("/v1/models", headers=good).status_code == 200
    answers = [client.get(path, headers=bad) for path in paths]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 429, 429]
    assert 0 < int(answers[4].headers["retry-after"]) <= 20
    assert client.get(paths[0], headers=bad).status_code == 429
    assert client.get("/v1/models", headers=good).status_code == 200
    assert client.get("/v1/models", headers=other).status_code == 401


def test_a_key_that_is_known_works_from_an_address_with_refused_keys(
    guarded: tuple[httpx.Client, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, key = guarded
    good = {"Authorization": f"Key {key}"}
    monkeypatch.setattr(auth, "CACHE_S", 0.0)
    assert client.get("/v1/models", headers=good).status_code == 200
    bad = {"Authorization": "Key a:b"}
    assert [client.get("/v1/models", headers=bad).status_code for _ in range(4)] == [401, 401, 401, 429]
    assert client.get("/v1/models", headers=good).status_code == 200
    assert client.get("/v1/models", headers={"Authorization": f"Key  {key}"}).status_code == 429


def test_names_that_are_no_addresses_are_one_client(guarded: tuple[httpx.Client, str]) -> None:
    headers = [{"Authorization": "Key a:b", "X-Forwarded-For": name} for name in ("x", "y" * 60_000, "z", "")]
    assert [guarded[0].get("/v1/models", headers=each).status_code for each in headers] == [401, 401, 401, 429]


def test_the_clients_of_one_proxy_may_send_so_many_refused_keys(
    guarded: tuple[httpx.Client, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, key = guarded
    monkeypatch.setattr(auth, "CACHE_S", 0.0)
    good = {"Authorization": f"Key {key}", "X-Forwarded-For": "9.9.9.9"}
    assert client.get("/v1/models", headers=good).status_code == 200
    bad = [{"Authorization": "Key a:b", "X-Forwarded-For": f"9.9.8.{number}"} for number in range(6)]
    assert [client.get("/v1/models", headers=each).status_code for each in bad] == [401] * 5 + [429]
    assert client.get("/v1/models", headers=good).status_code == 200
    direct = {"Authorization": "Key a:b"}
    assert client.get("/v1/models", headers=direct).status_code == 401


def test_requests_without_a_key_are_no_refused_keys(guarded: tuple[httpx.Client, str]) -> None:
    client, key = guarded
    assert [client.get("/v1/models").status_code for _ in range(5)] == [401] * 5
    assert client.get("/v1/models", headers={"Authorization": f"Key {key}"}).status_code == 200


def test_a_revoked_key_counts_as_a_refused_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "MOST_REFUSED", 3)
    monkeypatch.setattr(auth, "CACHE_S", 0.0)
    with serving(tmp_path) as served, served.client() as client:
        key = served.state.keys.create("a", "run")
        mine = {"Authorization": f"Key {key}"}
        assert client.get("/v1/models", headers=mine).status_code == 200
        served.state.keys.revoke(key.partition(":")[0])
        assert [client.get("/v1/models", headers=mine).status_code for _ in range(4)] == [401, 401, 401, 429]


@pytest.mark.parametrize("is_open", [False, True])
def test_a_key_that_is_not_checked_is_a_429_in_the_proxy_and_at_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_open: bool
) -> None:
    monkeypatch.setattr(auth, "MOST_REFUSED", 1)
    with serving(tmp_path, open_proxy=is_open) as served, served.client() as client:
        good, bad = (
            {"Authorization": f"Key {key}", "X-Forwarded-For": address}
            for key, address in ((served.state.keys.create("a", "run"), "9.9.9.8"), ("a:b", "9.9.9.9"))
        )
        hidden = {**good, "x-fal-object-lifecycle": '{"initial_acl": {"default": "hide", "rules": []}}'}
        url = client.post("/cdn/files/upload", content=b"x", headers=hidden).json()["access_url"]
        assert client.get("/v1/models", headers=bad).status_code == 401
        unseen = {**good, "X-Forwarded-For": "9.9.9.9", "Authorization": good["Authorization"].replace(" ", "  ")}
        target = {"x-fal-target-url": f"https://queue.fal.run/{LTXV}"}
        answers = [client.get(url, headers=unseen), client.post(PATH, json=INPUT, headers={**unseen, **target})]
        assert [answer.status_code for answer in answers] == [429, 429]
        assert all(0 < int(answer.headers["retry-after"]) <= 60 for answer in answers)
