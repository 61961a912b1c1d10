"""Uploads and files of a server with API keys: who may write and who may read them."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from longtake.access.keys import Keys
from longtake.access.tokens import Tokens
from tests.service.serving import Served, serving
from tests.service.test_files import stored


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, str, str]]:
    """A server with keys, the key of an admin, and that of a user."""
    with serving(tmp_path_factory.mktemp("locked")) as running:
        keys = Keys(running.engine)
        yield running, keys.create("boss", "admin"), keys.create("user", "run")


@pytest.mark.parametrize(
    "path",
    [
        "/rest/storage/auth/token",
        "/rest/storage/upload/initiate",
        "/rest/storage/upload/initiate-multipart",
        "/rest/tokens/",
        "/cdn/files/upload",
        "/cdn/files/upload/multipart",
    ],
)
@pytest.mark.parametrize("given", [None, "Key no:body", "Bearer x.y.z", "Key"])
def test_uploads_need_a_key(locked: tuple[Served, str, str], path: str, given: str | None) -> None:
    headers = {} if given is None else {"authorization": given}
    with locked[0].client() as client:
        answer = client.post(path, json={}, headers=headers)
    assert answer.status_code == 401
    assert isinstance(answer.json()["detail"], str)


def test_a_token_allows_uploads_only_and_a_file_is_read_by_its_address(locked: tuple[Served, str, str]) -> None:
    served, _, user = locked
    with served.client() as client:
        told = client.post("/rest/storage/auth/token", json={}, headers={"authorization": f"Key {user}"}).json()
        bearer = {"authorization": f"{told['token_type']} {told['token']}"}
        url = stored(client, b"frames", bearer)
        found = served.state.store.find(url.rpartition("/")[2])
        assert found is not None
        assert found.owner == user.partition(":")[0]
        assert client.get(url).content == b"frames"
        assert client.post("/rest/storage/auth/token", json={}, headers=bearer).status_code == 401, "it only uploads"
        running = Tokens(served.engine).issue(user.partition(":")[0], "run", within_s=60)
        by_run = client.post("/cdn/files/upload", headers={"authorization": f"Bearer {running}"})
        assert by_run.status_code == 200


def test_access_rules_decide_who_may_read(locked: tuple[Served, str, str]) -> None:
    served, admin, user = locked
    friend = Keys(served.engine).create("friend", "run")

    def ruled(default: str) -> str:
        rule = {"user": friend.partition(":")[0], "decision": "allow"}
        return json.dumps({"initial_acl": {"default": default, "rules": [rule]}})

    def seen(url: str, key: str | None) -> int:
        with served.client() as client:
            return client.get(url, headers={} if key is None else {"authorization": f"Key {key}"}).status_code

    with served.client(headers={"authorization": f"Key {user}"}) as client:
        hidden = stored(client, b"x", {"x-fal-object-lifecycle": ruled("hide")})
        forbidden = stored(client, b"x", {"x-fal-object-lifecycle": ruled("forbid")})
        opened = stored(client, b"x", {"x-fal-object-lifecycle": ruled("allow")})
        caching = [client.get(url).headers.get("cache-control") for url in (hidden, forbidden, opened)]
        assert caching == ["private, no-store", "private, no-store", None]
    stranger = Keys(served.engine).create("stranger", "run")
    assert [seen(hidden, key) for key in (None, stranger, friend, user, admin)] == [404, 404, 200, 200, 200]
    assert [seen(forbidden, key) for key in (None, stranger, friend, user, admin)] == [403, 403, 200, 200, 200]
    file = served.state.store.find(hidden.rpartition("/")[2])
    assert file is not None
    served.state.store.blobs.delete(file.blob)
    assert [seen(hidden, key) for key in (None, stranger, friend, user, admin)] == [404, 404, 500, 500, 500], "lost"


def test_run_tokens_are_issued_for_keys_only(locked: tuple[Served, str, str]) -> None:
    served, _, user = locked
    with served.client(headers={"authorization": f"Key {user}"}) as client:
        token = client.post("/rest/tokens/", json={"allowed_apps": ["ltx-2.3-22b"], "token_expiration": 120}).json()
        holder = Tokens(served.engine).caller(token, "run", served.state.keys)
        assert holder is not None
        assert holder.apps == ("ltx-2.3-22b",)
        for path in ("/rest/tokens/", "/rest/storage/auth/token"):
            longer = client.post(path, json={}, headers={"authorization": f"Bearer {token}"})
            assert (longer.status_code, longer.json()["error_type"]) == (403, "forbidden"), "a token makes no token"
        by_address = httpx.post(f"{served.url}/rest/tokens/?fal_jwt_token={token}", json={})
        assert by_address.status_code == 403
        wrong: list[Any] = [
            *[{"allowed_apps": apps} for apps in list[Any](("x", False, 0, "", {}))],
            {"allowed_apps": [1]},
            {"token_expiration": 0},
            {"token_expiration": "1"},
        ]
        for asked in (*wrong, []):
            answer = client.post("/rest/tokens/", json=asked)
            assert (answer.status_code, answer.json()["error_type"]) == (400, "bad_request")


@pytest.mark.parametrize("kind", ["initiate", "initiate-multipart"])
def test_the_address_of_an_upload_ends_with_its_key(locked: tuple[Served, str, str], kind: str) -> None:
    served = locked[0]
    key = served.state.keys.create("leaving", "run")
    with served.client() as client:
        headers = {"authorization": f"Key {key}"}
        address = client.post(f"/rest/storage/upload/{kind}", json={}, headers=headers).json()["upload_url"]
        if kind == "initiate-multipart":
            address += "/1"
        served.state.keys.revoke(key.partition(":")[0])
        assert client.put(address, content=b"frames").status_code == 404
