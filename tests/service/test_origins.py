"""Requests of web pages from other origins to a server without keys."""

from typing import Any

import httpx
import pytest

from longtake.service.origins import refusal
from longtake.settings import settings
from tests.service.serving import Served


@pytest.mark.parametrize(
    ("host", "origin", "given", "served"),
    [
        ("localhost:8000", None, {}, True),
        ("127.0.0.1:8000", None, {}, True),
        ("[::1]:8000", "http://[::1]:3000", {}, True),
        ("queue.fal.run", None, {}, True),
        ("app.localhost", "http://app.localhost", {}, True),
        ("rebound.example:8000", None, {}, False),
        ("10.0.0.7:8000", None, {}, False),
        ("video.example", "https://video.example", {"public_url": "https://video.example"}, True),
        ("localhost:8000", "http://localhost:5173", {}, True),
        ("localhost:8000", "https://evil.example", {}, False),
        ("localhost:8000", "null", {}, False),
        ("localhost:8000", "http://localhost.evil.example", {}, False),
        ("localhost:8000", "https://good.example", {"cors_origins": ("https://good.example",)}, True),
    ],
)
def test_hosts_and_origins_that_are_served_without_keys(
    host: str, origin: str | None, given: dict[str, Any], served: bool
) -> None:
    assert (refusal(host, origin, settings(**given)) is None) is served


def test_with_keys_every_host_and_origin_is_served(served: Served, client: httpx.Client) -> None:
    evil = {"origin": "https://evil.example", "content-type": "text/plain"}
    path = "/queue/fal-ai/ltx-video-v097/extend"
    refused = client.post(path, content=b"{}", headers=evil)
    assert (refused.status_code, refused.json()["error_type"]) == (403, "forbidden")
    assert "keys create" in refused.json()["detail"]
    assert client.options(path, headers=evil).status_code == 403
    assert client.get("/v1/models", headers={"host": "rebound.example"}).status_code == 403
    key = served.state.keys.create("page", "run")
    assert client.options(path, headers=evil).status_code == 204
    assert client.post(path, content=b"{}", headers=evil).status_code == 401
    assert client.post(path, content=b"{}", headers=evil | {"authorization": f"Key {key}"}).status_code == 200
