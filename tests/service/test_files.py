"""Uploads in every form, over a real socket; what is stored comes back as it was, and cannot act in our name."""

import hashlib
import os
import socket
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from longtake.storage.files import FileStore
from tests.service.serving import Served, serving

LIMIT = 5 * 1024**2


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("files"), max_upload_bytes=LIMIT) as running:
        yield running


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    with served.client() as made:
        yield made


def promised(client: httpx.Client, kind: str = "initiate", **asked: str) -> dict[str, str]:
    answer = client.post(f"/rest/storage/upload/{kind}?storage_type=fal-cdn-v3", json=asked)
    assert answer.status_code == 200, answer.text
    urls: dict[str, str] = answer.json()
    return urls


def stored(client: httpx.Client, content: bytes = b"0123456789", headers: Mapping[str, str] | None = None) -> str:
    answer = client.post("/cdn/files/upload", content=content, headers=headers)
    assert answer.status_code == 200, answer.text
    url: str = answer.json()["access_url"]
    return url


def lying_about(served: Served) -> list[Path]:
    """Bytes on their way; the folders of parts are another matter."""
    return [path for path in (served.state.store.folder / ".incoming").glob("*") if path.is_file()]


def test_an_upload_token_is_as_python_reads_it(client: httpx.Client, served: Served) -> None:
    told = client.post("/rest/storage/auth/token?storage_type=fal-cdn-v3", json={}).json()
    until = datetime.fromisoformat(told["expires_at"])
    assert told["expires_at"].endswith("+00:00")
    assert timedelta(0) < until - datetime.now(UTC) <= timedelta(seconds=served.state.settings.upload_s)
    assert told["base_url"] == f"{served.url}/cdn"
    assert told["token_type"] == "Bearer"


@pytest.mark.parametrize("storage", ["?storage_type=fal-cdn-v3", "?storage_type=gcs", ""])
def test_one_put_to_the_promised_address(client: httpx.Client, storage: str) -> None:
    urls = client.post(f"/rest/storage/upload/initiate{storage}", json={"file_name": "a.mp4"}).json()
    with httpx.Client() as stranger:  # with no header but its own
        assert stranger.put(urls["upload_url"], content=b"frames").status_code == 200
        assert stranger.put(urls["upload_url"], content=b"frames").status_code == 200, "a second try"
        again = stranger.put(urls["upload_url"], content=b"others")
        assert (again.status_code, again.json()["error_type"]) == (400, "bad_request")
        found = stranger.get(urls["file_url"])
    assert found.content == b"frames"
    assert urlsplit(urls["upload_url"]).path.rpartition("/")[2] not in urls["file_url"]


def test_names_and_types_are_those_that_were_promised(client: httpx.Client) -> None:
    urls = promised(client, file_name="clip one.webm", content_type="video/webm")
    client.put(urls["upload_url"], content=b"x", headers={"content-type": "text/html"})
    found = client.get(urls["file_url"])
    assert found.headers["content-type"] == "video/webm"
    assert found.headers["content-disposition"] == "inline; filename*=utf-8''clip%20one.webm"
    assert found.headers["x-content-type-options"] == "nosniff"
    assert urls["file_url"].endswith(".webm")


def test_files_of_no_bytes_and_of_no_type(client: httpx.Client) -> None:
    urls = promised(client)
    request = client.build_request("PUT", urls["upload_url"], content=b"")
    assert client.send(request).status_code == 200
    found = client.get(urls["file_url"])
    assert (found.status_code, found.content, found.headers["content-type"]) == (200, b"", "application/octet-stream")
    assert client.get(stored(client, b"")).content == b""
    assert client.get(urls["file_url"], headers={"range": "bytes=0-"}).status_code == 416


def test_whole_files_are_taken_with_a_token_or_a_key(client: httpx.Client) -> None:
    url = stored(client, b"frames", {"x-fal-file-name": "a.mp4", "content-type": "video/mp4"})
    found = client.get(url)
    assert found.content == b"frames"
    assert found.headers["content-type"] == "video/mp4"
    assert found.headers["x-fal-request-id"]
    assert client.head(url).headers["content-length"] == "6"


@pytest.mark.parametrize(
    ("given", "status", "content", "told"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=5-99", 206, b"56789", "bytes 5-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
    ],
)
def test_ranges(client: httpx.Client, given: str, status: int, content: bytes, told: str) -> None:
    url = stored(client)
    found = client.get(url, headers={"range": given})
    assert (found.status_code, found.headers["content-range"]) == (status, told)
    assert found.content == content
    assert client.get(url).headers["accept-ranges"] == "bytes"


def test_several_ranges_and_ranges_of_what_has_changed(client: httpx.Client) -> None:
    url = stored(client)
    several = client.get(url, headers={"range": "bytes=0-1,8-9"})
    assert several.status_code == 206
    assert b"01" in several.content
    assert b"89" in several.content
    stale = client.get(url, headers={"range": "bytes=0-1", "if-range": '"another"'})
    assert (stale.status_code, stale.content) == (200, b"0123456789")


@pytest.mark.parametrize("kind", ["text/html", "image/svg+xml", "application/pdf", "text/html; charset=utf-8", "x"])
def test_what_could_act_in_our_name_is_saved_not_shown(client: httpx.Client, kind: str) -> None:
    found = client.get(stored(client, b"<script>", {"content-type": kind}))
    assert found.headers["content-disposition"].startswith("attachment;")
    assert found.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("../../etc/passwd", 'filename="passwd"'),
        ("C:\\films\\a.mp4", 'filename="a.mp4"'),
        ('a"; filename="b.exe', "filename*=utf-8''a%22%3B%20filename%3D%22b.exe"),
        ("fjällräven.mp4", "filename*=utf-8''fj%C3%A4llr%C3%A4ven.mp4"),
        ("\u202e4pm.exe", 'filename="4pm.exe"'),
        ("", 'filename="upload.bin"'),
        ("...", 'filename="upload.bin"'),
        ("x" * 1000 + ".mp4", f'filename="{"x" * 196}.mp4"'),
    ],
)
def test_names_are_made_harmless(client: httpx.Client, given: str, told: str) -> None:
    urls = promised(client, file_name=given, content_type="video/mp4")
    client.put(urls["upload_url"], content=b"x")
    assert client.get(urls["file_url"]).headers["content-disposition"] == f"inline; {told}"


def test_both_dialects_of_parts(client: httpx.Client, served: Served) -> None:
    pieces = [os.urandom(700_000) for _ in range(3)]
    python = client.post(
        "/cdn/files/upload/multipart", headers={"content-type": "video/mp4", "x-fal-file-name": "a.mp4"}
    )
    access_url, upload_id = python.json()["access_url"], python.json()["uploadId"]
    javascript = promised(client, "initiate-multipart", file_name="b.mp4", content_type="video/mp4")
    for before, complete, url in (
        (f"{access_url}/multipart/{upload_id}/{{n}}", f"{access_url}/multipart/{upload_id}/complete", access_url),
        (
            f"{javascript['upload_url']}/{{n}}?signed=1",
            f"{javascript['upload_url']}/complete?signed=1",
            javascript["file_url"],
        ),
    ):
        listed = []
        for number, piece in reversed([*enumerate(pieces, 1)]):
            answer = client.put(before.format(n=number), content=piece)
            assert answer.json() == {"partNumber": number, "etag": answer.headers["etag"]}
            assert answer.headers["etag"] == f'"{hashlib.md5(piece).hexdigest()}"'
            listed.append(answer.json())
        assert client.get(url).status_code == 404, "it is there before it is whole"
        for _ in range(2):
            assert client.post(complete, json={"parts": listed}).status_code == 200
        found = client.get(url)
        assert found.content == b"".join(pieces)
        assert found.headers["content-type"] == "video/mp4"
        late = client.put(before.format(n=1), content=b"x")
        assert (late.status_code, late.json()["detail"]) == (400, "This upload is finished.")
        assert not (served.state.store.folder / ".incoming" / upload_id).exists()
    assert lying_about(served) == []


@pytest.mark.parametrize(
    "parts",
    [
        None,
        [],
        [{"partNumber": 1}],
        [{"partNumber": True, "etag": "x"}],
        [{"partNumber": 1, "etag": "../../x"}],
        [{"partNumber": 2, "etag": hashlib.md5(b"one").hexdigest()}],
        [{"partNumber": 1, "etag": hashlib.md5(b"one").hexdigest()}] * 2,
        [{"partNumber": 1, "etag": hashlib.md5(b"two").hexdigest()}],
        [{"partNumber": n, "etag": "x"} for n in range(10_001)],
    ],
)
def test_parts_that_do_not_fit_are_refused_in_a_sentence(client: httpx.Client, parts: Any) -> None:
    urls = promised(client, "initiate-multipart")
    client.put(f"{urls['upload_url']}/1", content=b"one")
    answer = client.post(f"{urls['upload_url']}/complete", json={"parts": parts})
    assert answer.status_code == 400
    assert answer.json()["detail"].endswith(".")


@pytest.mark.parametrize("number", ["0", "10001", "-1", "x", "1.5"])
def test_part_numbers_have_bounds(client: httpx.Client, number: str) -> None:
    urls = promised(client, "initiate-multipart")
    assert client.put(f"{urls['upload_url']}/{number}", content=b"x").status_code in (400, 404, 405)


def test_an_address_nobody_was_promised_takes_nothing(client: httpx.Client) -> None:
    single, several = promised(client), promised(client, "initiate-multipart")
    other = promised(client, "initiate-multipart")
    token = several["upload_url"].rpartition("/")[2]
    for url in (
        "/cdn/uploads/" + "x" * 43,
        single["upload_url"] + "/1",
        several["upload_url"],
        f"{other['file_url']}/multipart/{token}/1",
    ):
        answer = client.put(url, content=b"x")
        assert (answer.status_code, answer.json()["error_type"]) == (404, "not_found"), url


def test_a_promise_ends(tmp_path: Path) -> None:
    with serving(tmp_path, upload_s=0.05) as brief, brief.client() as client:
        urls = promised(client)
        time.sleep(0.06)
        assert client.put(urls["upload_url"], content=b"x").status_code == 404


@pytest.mark.parametrize("declared", [True, False])
def test_files_have_a_greatest_size(client: httpx.Client, served: Served, declared: bool) -> None:
    content = b"x" * (LIMIT + 1)
    pieces = content if declared else iter([content[: LIMIT // 2], content[LIMIT // 2 :]])
    answer = client.put(promised(client)["upload_url"], content=pieces)
    assert answer.status_code == 413
    assert str(LIMIT) in answer.json()["detail"]
    assert lying_about(served) == []
    assert client.put(promised(client)["upload_url"], content=content[:-1]).status_code == 200


def test_the_parts_of_a_file_have_it_together(client: httpx.Client) -> None:
    urls = promised(client, "initiate-multipart")
    half = b"x" * (LIMIT // 2)
    assert client.put(f"{urls['upload_url']}/1", content=half).status_code == 200
    assert client.put(f"{urls['upload_url']}/2", content=half).status_code == 200
    assert client.put(f"{urls['upload_url']}/3", content=half).status_code == 413


def test_a_client_that_goes_away_leaves_nothing(client: httpx.Client, served: Served) -> None:
    address = urlsplit(promised(client)["upload_url"])
    with socket.create_connection((address.hostname, address.port)) as line:
        line.sendall(
            f"PUT {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: 3000000\r\n\r\n".encode()
        )
        line.sendall(b"x" * 2_000_000)
        end = time.monotonic() + 5
        while not lying_about(served) and time.monotonic() < end:
            time.sleep(0.01)
        assert lying_about(served) != []
    end = time.monotonic() + 5
    while lying_about(served) and time.monotonic() < end:
        time.sleep(0.01)
    assert lying_about(served) == []


@pytest.mark.parametrize("key", ["x", "..%2f..%2fetc%2fpasswd", "." * 36, "x" * 32, ".incoming", ".access%2fx"])
def test_what_is_not_there_is_not_found(client: httpx.Client, key: str) -> None:
    assert client.get(f"/cdn/files/{key}").status_code == 404


def test_lifecycles_are_kept_and_malformed_ones_ignored(client: httpx.Client, served: Served) -> None:
    url = stored(client, b"x", {"x-fal-object-lifecycle": '{"expiration_duration_seconds": 0.05}'})
    assert stored(client, b"x", {"x-fal-object-lifecycle-preference": "{broken"})
    time.sleep(0.06)
    assert client.get(url).status_code == 404
    served.state.store.sweep()
    assert served.state.store.path_of(url.rpartition("/")[2]) is None


def test_a_full_disk_is_told_in_a_sentence(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("longtake.storage.files._move", full)
    answer = client.post("/cdn/files/upload", content=b"x")
    assert answer.status_code == 507
    assert answer.json()["detail"] == "The file could not be stored: the server's disk is full."


def test_the_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Pieces of a file come and go: the most that is held at a time is far below its size."""
    import tracemalloc

    size = 96 * 1024**2
    with serving(tmp_path) as served, served.client() as client:
        url = promised(client)
        piece = bytes(64 * 1024)
        tracemalloc.start()
        assert client.put(url["upload_url"], content=(piece for _ in range(size // len(piece)))).status_code == 200
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < size / 4
        assert served.state.store.find(url["file_url"].rpartition("/")[2]) is not None


def test_own_uploads_are_found_without_fetching(client: httpx.Client, served: Served) -> None:
    store: FileStore = served.state.store
    path = store.own_file(stored(client, b"frames"), "local")
    assert path is not None
    assert path.read_bytes() == b"frames"
