"""Authentication, and which requests a caller may see."""

import asyncio
import threading

import httpx
import pytest

from longtake.access.keys import Caller
from longtake.access.tokens import Tokens
from longtake.service import state
from longtake.service.auth import CHECKS, MALFORMED, MISSING, UNKNOWN, Authenticator, is_revoked
from tests.service.serving import INPUT, LTX2, LTXV, PATIENCE_S, Served, wait_for

Secrets = dict[str, str]


@pytest.fixture
def keys(served: Served) -> Secrets:
    made = served.state.keys
    return {name: made.create(name, "admin" if name == "boss" else "run") for name in ("one", "two", "boss")}


def post(client: httpx.Client, authorization: str | None, query: str = "") -> httpx.Response:
    headers = {} if authorization is None else {"Authorization": authorization}
    return client.post(f"/queue/{LTXV}{query}", json=INPUT, headers=headers)


def test_without_keys_every_header_is_accepted(client: httpx.Client) -> None:
    for authorization in (None, "Key whatever", "Key a:b", "Basic x", ""):
        assert post(client, authorization).status_code == 200


def test_with_keys_only_a_valid_key_is_accepted(client: httpx.Client, keys: Secrets) -> None:
    secret = keys["one"]
    for good in (f"Key {secret}", f"key {secret}", f"Bearer {secret}", f"Key    {secret}"):
        assert post(client, good).status_code == 200
    for bad, detail in {
        None: MISSING,
        "": MISSING,
        "Key": MALFORMED,
        "Key nocolon": MALFORMED,
        "Key undefined": MALFORMED,
        secret: MALFORMED,
        f"Basic {secret}": MALFORMED,
        "Key a:b": UNKNOWN,
        f"Key {secret}x": UNKNOWN,
        "Bearer abc": UNKNOWN,
    }.items():
        answer = post(client, bad)
        assert (answer.status_code, answer.json()) == (401, {"detail": detail}), bad
        assert answer.headers["x-fal-request-id"]


def test_every_route_needs_a_key(client: httpx.Client, keys: Secrets) -> None:
    request_id = post(client, f"Key {keys['one']}").json()["request_id"]
    one = f"/queue/{LTXV}/requests/{request_id}"
    for method, path in (
        ("GET", f"{one}/status"),
        ("GET", f"{one}/status/stream"),
        ("GET", one),
        ("PUT", f"{one}/cancel"),
        ("POST", f"/run/{LTXV}"),
        ("GET", f"/run/{LTXV}"),
        ("POST", f"/run/{LTXV}/stream"),
        ("GET", "/v1/models/usage"),
        ("GET", "/v1/models/requests/by-endpoint"),
        ("DELETE", f"/v1/models/requests/{request_id}/payloads"),
        ("PUT", f"/rest/requests/delete_io/{request_id}"),
        ("POST", "/rest/tokens/"),
        ("POST", "/rest/storage/upload/initiate"),
    ):
        assert client.request(method, path).status_code == 401, path


def test_a_key_sees_its_own_requests_and_an_admin_all(client: httpx.Client, keys: Secrets) -> None:
    request_id = post(client, f"Key {keys['one']}").json()["request_id"]
    one = f"/queue/{LTXV}/requests/{request_id}"
    two, boss = ({"Authorization": f"Key {keys[name]}"} for name in ("two", "boss"))
    for method, path in (("GET", "/status"), ("GET", "/status/stream"), ("GET", ""), ("PUT", "/cancel")):
        answer = client.request(method, one + path, headers=two)
        assert (answer.status_code, answer.json()) == (404, {"status": "NOT_FOUND"})
    assert client.get(f"{one}/status", headers=boss).status_code == 202
    listed = "/v1/models/requests/by-endpoint"
    assert [len(client.get(listed, headers=who).json()["items"]) for who in (two, boss)] == [0, 1]
    assert client.put(f"{one}/cancel", headers=boss).status_code == 200
    assert client.delete(f"/v1/models/requests/{request_id}/payloads", headers=two).status_code == 404


def test_a_revoked_key_stops_working(served: Served, client: httpx.Client, keys: Secrets) -> None:
    authorization = f"Key {keys['one']}"
    assert post(client, authorization).status_code == 200
    served.state.keys.revoke(keys["one"].partition(":")[0])
    wait_for(lambda: post(client, authorization).status_code == 401)


def test_a_database_that_hangs_does_not_hold_who_asks_whether_a_key_is_revoked(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = threading.Event()
    monkeypatch.setattr(state, "ANSWER_S", 0.1)
    monkeypatch.setattr(served.state.keys, "caller", lambda _: end.wait(PATIENCE_S))

    async def ask() -> bool:
        try:
            async with asyncio.timeout(PATIENCE_S / 2):
                return await is_revoked(served.state, "mine")
        finally:
            end.set()

    assert asyncio.run(ask()) is False


def test_a_token_in_the_url_replaces_a_key(served: Served, client: httpx.Client, keys: Secrets) -> None:
    key_id = keys["one"].partition(":")[0]
    token = Tokens(served.engine).issue(key_id, "run", within_s=60, apps=["ltxv-13b-098-distilled"])
    submitted = post(client, None, f"?fal_jwt_token={token}")
    assert submitted.status_code == 200
    one = f"/queue/{LTXV}/requests/{submitted.json()['request_id']}"
    assert client.get(f"{one}/status?fal_jwt_token={token}&logs=1").json()["logs"] == []
    assert client.get(f"{one}/status").status_code == 401
    assert client.get(f"{one}/status", headers={"Authorization": f"Key {keys['one']}"}).status_code == 202
    other = client.post(f"/queue/{LTX2}?fal_jwt_token={token}", json=INPUT)
    assert other.status_code == 403
    crit = "eyJhbGciOiJIUzI1NiIsImNyaXQiOlt7fV19.eyJzdWIiOiJ4In0.AAAA"  # {"alg":"HS256","crit":[{}]}
    for bad in ("%00:a", "a:%00", "%00", "a.b.c", crit, "%ff:%ff", ":", "a:"):
        assert post(client, None, f"?fal_jwt_token={bad}").status_code == 401, bad
    upload = Tokens(served.engine).issue(key_id, "upload", within_s=60)
    assert post(client, f"Bearer {upload}").status_code == 401


def test_requests_share_the_check_of_a_header_and_few_headers_are_checked_at_once(
    served: Served, keys: Secrets, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    go_on, verify = threading.Event(), served.state.keys.verify

    def slow_verify(key: str) -> Caller | None:
        begun.append(key)
        go_on.wait(PATIENCE_S)
        return verify(key)

    monkeypatch.setattr(served.state.keys, "verify", slow_verify)

    async def run() -> None:
        authenticator = Authenticator(served.state)

        def ask(key: str, address: str = "10.0.0.1") -> "asyncio.Task[Caller]":
            return asyncio.create_task(authenticator.caller(f"Key {key}", {"client": (address, 1)}))

        shared = [ask(keys["one"]) for _ in range(20)]
        unknown = [ask(f"{number}:x") for number in range(20)]
        await asyncio.sleep(0)
        shared.pop().cancel()
        while len(begun) < 2:
            await asyncio.sleep(0.01)
        other = ask(keys["two"], "10.0.0.2")
        while keys["two"] not in begun:
            await asyncio.sleep(0.01)
        assert len(begun) == CHECKS
        go_on.set()
        assert {caller.key_id for caller in await asyncio.gather(*shared)} == {keys["one"].partition(":")[0]}
        assert (await other).key_id == keys["two"].partition(":")[0]
        refused = await asyncio.gather(*unknown, return_exceptions=True)
        assert [getattr(error, "status", None) for error in refused] == [401] * 20

    asyncio.run(run())
    assert sorted(begun) == sorted({*begun})
