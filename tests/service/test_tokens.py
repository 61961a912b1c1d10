"""What a program with a token may do: run the token's applications and follow requests to them, and nothing else."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from longtake.storage.files import NewFile
from longtake.storage.keys import new_key
from tests.service.serving import FLAT, INPUT, LTX2, LTXV, Served, serving
from tests.service.test_files import stored

APP = "ltxv-13b-098-distilled"
"""The name of LTXV's application, as a page asks for it."""


@dataclass(frozen=True)
class Site:
    """A server with a key, one request of the key to each of two applications, and clients with the key and a token.

    The token is for the application of LTXV only.
    """

    served: Served
    key: httpx.Client
    token: httpx.Client
    own: str
    """The path of the request to LTXV."""
    other: str
    """The path of the request to LTX2."""

    def new_token(self, **body: object) -> httpx.Client:
        token = self.key.post("/rest/tokens/", json=body).json()
        return self.served.client(headers={"authorization": f"Bearer {token}"})


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serving(tmp_path) as served:
        key = served.client(headers={"authorization": f"Key {served.state.keys.create('one', 'run')}"})
        paths = []
        for endpoint, body in ((LTXV, INPUT), (LTX2, FLAT)):
            answer = key.post(f"/queue/{endpoint}", json=body).json()
            paths.append(f"/queue/{endpoint}/requests/{answer['request_id']}")
        site = Site(served, key, key, *paths)
        yield Site(served, key, site.new_token(allowed_apps=[APP]), *paths)


def test_a_token_follows_and_cancels_requests_to_its_own_apps_only(site: Site) -> None:
    assert site.token.get(f"{site.own}/status").status_code == 202
    for method, rest in (("GET", "/status"), ("GET", "/status/stream"), ("GET", ""), ("PUT", "/cancel")):
        answer = site.token.request(method, site.other + rest)
        assert (answer.status_code, answer.json()) == (404, {"status": "NOT_FOUND"}), rest
    assert site.key.get(f"{site.other}/status").json()["status"] == "IN_QUEUE"
    assert site.token.post(f"/queue/{LTX2}", json=FLAT).status_code == 403
    assert site.token.put(f"{site.own}/cancel").status_code == 200


def test_a_renewed_token_follows_the_requests_of_the_earlier_one(site: Site) -> None:
    submitted = site.token.post(f"/queue/{LTXV}", json=INPUT).json()
    path = f"/queue/{LTXV}/requests/{submitted['request_id']}"
    renewed = site.new_token(allowed_apps=[APP])
    assert renewed.get(f"{path}/status").json()["status"] == "IN_QUEUE"
    site.served.finish(site.served.claim())
    assert renewed.get(site.own).json()["seed"] == 7
    assert site.new_token(allowed_apps=["ltx-2.3-22b"]).get(f"{path}/status").status_code == 404
    assert renewed.put(f"{path}/cancel").status_code == 200


@pytest.mark.parametrize("apps", [[APP], []], ids=["one app", "all apps"])
def test_a_token_lists_and_deletes_nothing(site: Site, apps: list[str]) -> None:
    token = site.new_token(allowed_apps=apps)
    request_id = site.own.rpartition("/")[2]
    for method, path in (
        ("GET", "/page/requests"),
        ("GET", "/v1/models/usage"),
        ("GET", "/v1/models/requests/by-endpoint?expand=payloads"),
        ("GET", "/v1/serverless/requests/by-endpoint"),
        ("POST", "/v1/models/pricing/estimate"),
        ("DELETE", f"/v1/models/requests/{request_id}/payloads"),
        ("PUT", f"/rest/requests/delete_io/{request_id}"),
        ("POST", "/rest/tokens/"),
        ("POST", "/rest/storage/auth/token"),
        ("GET", "/metrics"),
    ):
        answer = token.request(method, path)
        assert (answer.status_code, answer.json()["error_type"]) == (403, "forbidden"), path
    assert token.get("/v1/models/pricing").status_code == 200


def test_a_token_reads_hidden_results_of_its_own_apps_and_no_other_hidden_file(site: Site, tmp_path: Path) -> None:
    rules = {"initial_acl": {"default": "hide"}}
    owner = site.key.headers["authorization"].split()[1].partition(":")[0]

    def result(path: str) -> str:
        (tmp_path / "clip").write_bytes(b"frames")
        key = new_key("clip.mp4", "video/mp4")
        file = NewFile(owner, "clip.mp4", "video/mp4", rules)
        site.served.state.store.add(key, file, tmp_path / "clip", request_id=path.rpartition("/")[2])
        return f"/cdn/files/{key}"

    own, other = result(site.own), result(site.other)
    uploaded = stored(site.key, b"secret", {"x-fal-object-lifecycle": json.dumps(rules)})
    assert [site.key.get(url).status_code for url in (own, other, uploaded)] == [200, 200, 200]
    assert [site.token.get(url).status_code for url in (own, other, uploaded)] == [200, 404, 404]


def test_a_token_uploads_sources_for_its_apps(site: Site) -> None:
    assert site.token.get(stored(site.token, b"frames", {})).content == b"frames"
    useless = site.new_token(allowed_apps=["elsewhere"])
    for path in ("/rest/storage/upload/initiate", "/cdn/files/upload", "/cdn/files/upload/multipart"):
        assert site.token.post(path, json={}).status_code == 200, path
        answer = useless.post(path, json={})
        assert (answer.status_code, answer.json()["error_type"]) == (403, "forbidden"), path
