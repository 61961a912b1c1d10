"""Random requests: no answer is an internal error, and each has a request id."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.service.serving import INPUT, LTXV, serving

PIECES = [
    "queue", "run", "rest",
    "cdn", "v1", "models", "usage", "pricing", "estimate", "requests", "by-endpoint", "payloads",
    "status", "stream", "cancel", "files", "uploads", "storage", "upload", "initiate", "multipart", "auth", "token",
    "tokens", "delete_io", ".well-known", "jwks.json", "api", "fal", "proxy", "health", "ready", "metrics", "workflows",
    "fal-ai", "ltxv-13b-098-distilled", "extend", "..", ".", "", "\0", "a b", "%", "ä", "x" * 300, "*", "\ud7ff",
]  # fmt: skip
PLACES = [
    "", "queue", f"queue/{LTXV}", f"queue/{LTXV}/requests/x", "rest/storage/upload/initiate", "rest/storage/auth/token",
    "cdn/files/upload", "cdn/files/upload/multipart", "cdn/uploads/x", "v1/models", "v1/models/pricing/estimate",
    "v1/models/usage", "v1/models/requests/by-endpoint", "api/fal/proxy", "rest/tokens",
    "api/openapi/queue/openapi.json",
]  # fmt: skip
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE"]
HEADERS = [
    "authorization", "content-type", "x-fal-request-timeout", "x-fal-queue-priority", "x-fal-store-io",
    "x-fal-object-lifecycle-preference", "x-fal-object-lifecycle", "x-fal-file-name", "idempotency-key", "range",
    "x-fal-target-url", "accept", "x-fal-no-retry", "access-control-request-method",
]  # fmt: skip
QUERIES = ["logs", "fal_webhook", "fal_jwt_token", "endpoint_id", "limit", "cursor", "start", "status", "expand", "x"]

words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=20)
values = st.sampled_from(
    ["1", "true", "nan", "-1", "1e999", "low", "{", '{"expiration_duration_seconds": 1e999}', "bytes=5-1", "Key a:b",
     "null", "Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30.x", "https://queue.fal.run/a/b",
     "http://[", "9" * 30, "2026-99"]
) | words  # fmt: skip
bodies = st.binary(max_size=50) | st.sampled_from(
    [b"", b"{}", b"[]", b"null", b'"x"', b'{"prompt": {}}', b'{"parts": [1]}', b'{"content_type": 5, "file_name": []}',
     b'{"estimate_type": "unit_price", "endpoints": {"x": 1}}', json.dumps(INPUT).encode(), b"[" * 1000, b"9" * 5000]
)  # fmt: skip


@pytest.fixture(scope="module")
def quiet_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder: Path = tmp_path_factory.mktemp("served")
    with serving(folder, ping_s=0.05) as served, served.client() as client:
        yield client


@given(
    method=st.sampled_from(METHODS),
    place=st.sampled_from(PLACES),
    pieces=st.lists(st.sampled_from(PIECES), max_size=5),
    query=st.dictionaries(st.sampled_from(QUERIES), values, max_size=3),
    headers=st.dictionaries(st.sampled_from(HEADERS), values, max_size=4),
    body=bodies,
)
@settings(max_examples=400, suppress_health_check=list(HealthCheck))
def test_no_request_crashes_the_server(
    quiet_client: httpx.Client,
    method: str,
    place: str,
    pieces: list[str],
    query: dict[str, str],
    headers: dict[str, str],
    body: bytes,
) -> None:
    path = "/" + "/".join([place, *(quote(piece, safe="*") for piece in pieces)])
    if method == "POST" and path.startswith(f"/run/{LTXV}"):
        return  # It would wait for a result.
    sent = [(name.encode(), value.strip().encode()) for name, value in headers.items()]
    with quiet_client.stream(method, path, params=query, headers=sent, content=body) as answer:
        assert answer.status_code < 500 or path == "/ready", answer.read()
        assert answer.headers["x-fal-request-id"]
        if answer.status_code >= 400 and method != "HEAD":
            json.loads(answer.read())
