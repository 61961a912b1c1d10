"""Uploads in every form and downloads, over a real socket."""

import errno
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

from longtake.access.files import find_own
from longtake.storage.files import FileStore
from longtake.storage.local import LocalBlobs
from tests.service.serving import Served, serving, wait_for
from tests.storage.memory_blobs import MemoryBlobs, memory_blobs

LIMIT = 5 * 1024**2


@pytest.fixture(scope="module")
def places() -> Iterator[MemoryBlobs]:
    with memory_blobs() as blobs:
        yield blobs


@pytest.fixture(scope="module", params=["local", "memory"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, places: MemoryBlobs
) -> Iterator[Served]:
    """A server that stores files in a folder, and one that stores them in the memory of another."""
    blobs = places if request.param == "memory" else None
    with serving(tmp_path_factory.mktemp("files"), blobs, max_upload_bytes=LIMIT) as running:
        yield running


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    with served.client() as made:
        yield made


def initiated(client: httpx.Client, kind: str = "initiate", **asked: str) -> dict[str, str]:
    answer = client.post(f"/rest/storage/upload/{kind}?storage_type=fal-cdn-v3", json=asked)
    assert answer.status_code == 200, answer.text
    urls: dict[str, str] = answer.json()
    return urls


def stored(client: httpx.Client, content: bytes = b"0123456789", headers: Mapping[str, str] | None = None) -> str:
    answer = client.post("/cdn/files/upload", content=content, headers=headers)
    assert answer.status_code == 200, answer.text
    url: str = answer.json()["access_url"]
    return url


def scratch_files(served: Served) -> list[Path]:
    """The files of uploads that are still being received."""
    return list(served.state.store.scratch.glob("*"))


def test_an_upload_token_is_in_the_form_that_the_python_client_reads(client: httpx.Client, served: Served) -> None:
    told = client.post("/rest/storage/auth/token?storage_type=fal-cdn-v3", json={}).json()
    until = datetime.fromisoformat(told["expires_at"])
    assert told["expires_at"].endswith("+00:00")
    assert timedelta(0) < until - datetime.now(UTC) <= timedelta(seconds=served.state.settings.upload_s)
    assert told["base_url"] == f"{served.url}/cdn"
    assert told["token_type"] == "Bearer"


@pytest.mark.parametrize("storage", ["?storage_type=fal-cdn-v3", "?storage_type=gcs", ""])
def test_an_upload_is_one_put_to_its_address(client: httpx.Client, storage: str) -> None:
    urls = client.post(f"/rest/storage/upload/initiate{storage}", json={"file_name": "a.mp4"}).json()
    with httpx.Client() as stranger:  # with no header but its own
        assert stranger.put(urls["upload_url"], content=b"frames").status_code == 200
        assert stranger.put(urls["upload_url"], content=b"frames").status_code == 200, "a second try"
        again = stranger.put(urls["upload_url"], content=b"others")
        assert (again.status_code, again.json()["error_type"]) == (400, "bad_request")
        found = stranger.get(urls["file_url"])
    assert found.content == b"frames"
    assert urlsplit(urls["upload_url"]).path.rpartition("/")[2] not in urls["file_url"]


def test_names_and_types_are_those_of_the_created_upload(client: httpx.Client) -> None:
    urls = initiated(client, file_name="clip one.webm", content_type="video/webm")
    client.put(urls["upload_url"], content=b"x", headers={"content-type": "text/html"})
    found = client.get(urls["file_url"])
    assert found.headers["content-type"] == "video/webm"
    assert found.headers["content-disposition"] == "inline; filename*=utf-8''clip%20one.webm"
    assert found.headers["x-content-type-options"] == "nosniff"
    assert urls["file_url"].endswith(".webm")


def test_a_file_may_have_no_bytes_and_no_type(client: httpx.Client) -> None:
    urls = initiated(client)
    request = client.build_request("PUT", urls["upload_url"], content=b"")
    assert client.send(request).status_code == 200
    found = client.get(urls["file_url"])
    assert (found.status_code, found.content, found.headers["content-type"]) == (200, b"", "application/octet-stream")
    assert client.get(stored(client, b"")).content == b""
    assert client.get(urls["file_url"], headers={"range": "bytes=0-"}).status_code == 416


def test_a_file_is_uploaded_in_one_request(client: httpx.Client) -> None:
    url = stored(client, b"frames", {"x-fal-file-name": "a.mp4", "content-type": "video/mp4"})
    found = client.get(url)
    assert found.content == b"frames"
    assert found.headers["content-type"] == "video/mp4"
    assert found.headers["x-fal-request-id"]
    assert client.head(url).headers["content-length"] == "6"


@pytest.mark.parametrize(
    ("value", "status", "content", "content_range"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=5-99", 206, b"56789", "bytes 5-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
    ],
)
def test_a_range_of_a_file_is_sent(
    client: httpx.Client, value: str, status: int, content: bytes, content_range: str
) -> None:
    url = stored(client)
    found = client.get(url, headers={"range": value})
    assert (found.status_code, found.headers["content-range"]) == (status, content_range)
    assert found.content == content
    assert client.get(url).headers["accept-ranges"] == "bytes"


def test_a_range_of_a_file_that_has_changed_is_answered_with_the_whole_file(client: httpx.Client) -> None:
    url = stored(client)
    whole = client.get(url)
    for unchanged in (whole.headers["etag"], whole.headers["last-modified"]):
        part = client.get(url, headers={"range": "bytes=0-1", "if-range": unchanged})
        assert (part.status_code, part.content) == (206, b"01")
    changed = client.get(url, headers={"range": "bytes=0-1", "if-range": '"another"'})
    assert (changed.status_code, changed.content) == (200, b"0123456789")


@pytest.mark.parametrize("value", ["bytes=0-1,8-9", "bytes=", "bytes=-", "bytes=5-3", "bytes=a-b", "pages=1-2", "x"])
def test_several_and_invalid_ranges_are_answered_with_the_whole_file(client: httpx.Client, value: str) -> None:
    whole = client.get(stored(client), headers={"range": value})
    assert (whole.status_code, whole.content) == (200, b"0123456789")


def test_head_sends_the_headers_of_get(client: httpx.Client) -> None:
    url = stored(client, headers={"content-type": "text/plain"})
    for headers in ({}, {"range": "bytes=2-4"}, {"range": "bytes=10-"}):
        got, head = client.get(url, headers=headers), client.head(url, headers=headers)
        assert (head.status_code, head.content) == (got.status_code, b"")
        for name in ("content-length", "content-range", "content-type", "etag", "last-modified"):
            assert head.headers.get(name) == got.headers.get(name), name


@pytest.mark.parametrize(
    "kind",
    ["text/html", "image/svg+xml", "video/a+xml", "text/plainer", "application/pdf", "text/html; charset=utf-8", "x"],
)
def test_browsers_save_types_that_could_run_scripts(client: httpx.Client, kind: str) -> None:
    found = client.get(stored(client, b"<script>", {"content-type": kind}))
    assert found.headers["content-disposition"].startswith("attachment;")
    assert found.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "kind",
    [
        "text/javascript",
        "text/JavaScript1.5",
        "application/x-javascript; charset=utf-8",
        "text/ecmascript",
        "text/jscript",
        "text/livescript",
        "text/css",
        "text/css; charset=utf-8",
    ],
)
def test_a_page_of_this_server_cannot_load_a_stored_file_as_code(client: httpx.Client, kind: str) -> None:
    found = client.get(stored(client, b"alert(1)", {"content-type": kind}))
    assert found.headers["content-type"] == "application/octet-stream"
    assert found.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("name", "disposition"),
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
def test_names_are_made_safe(client: httpx.Client, name: str, disposition: str) -> None:
    urls = initiated(client, file_name=name, content_type="video/mp4")
    client.put(urls["upload_url"], content=b"x")
    assert client.get(urls["file_url"]).headers["content-disposition"] == f"inline; {disposition}"


def test_uploads_in_parts_as_both_clients_send_them(client: httpx.Client, served: Served) -> None:
    pieces = [os.urandom(700_000) for _ in range(3)]
    python = client.post(
        "/cdn/files/upload/multipart", headers={"content-type": "video/mp4", "x-fal-file-name": "a.mp4"}
    )
    access_url, upload_id = python.json()["access_url"], python.json()["uploadId"]
    javascript = initiated(client, "initiate-multipart", file_name="b.mp4", content_type="video/mp4")
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
        assert client.get(url).status_code == 404, "it is not complete"
        for _ in range(2):
            assert client.post(complete, json={"parts": listed}).status_code == 200
        found = client.get(url)
        assert found.content == b"".join(pieces)
        assert found.headers["content-type"] == "video/mp4"
        late = client.put(before.format(n=1), content=b"x")
        assert (late.status_code, late.json()["detail"]) == (400, "This upload is finished.")
    assert scratch_files(served) == []
    assert not [blob.key for blob in served.state.store.blobs.list() if blob.key.startswith("parts/")]


@pytest.mark.parametrize(
    "parts",
    [
        None,
        [],
        [{"partNumber": 1}],
        [{"partNumber": True, "etag": "x"}],
        [{"partNumber": 1, "etag": "../../x"}],
        [{"partNumber": 10**300, "etag": hashlib.md5(b"one").hexdigest()}],
        [{"partNumber": 0, "etag": hashlib.md5(b"one").hexdigest()}],
        [{"partNumber": 2, "etag": hashlib.md5(b"one").hexdigest()}],
        [{"partNumber": 1, "etag": hashlib.md5(b"one").hexdigest()}] * 2,
        [{"partNumber": 1, "etag": hashlib.md5(b"two").hexdigest()}],
        [{"partNumber": n, "etag": "x"} for n in range(10_001)],
    ],
)
def test_a_wrong_list_of_parts_is_refused_in_a_sentence(client: httpx.Client, parts: Any) -> None:
    urls = initiated(client, "initiate-multipart")
    client.put(f"{urls['upload_url']}/1", content=b"one")
    answer = client.post(f"{urls['upload_url']}/complete", json={"parts": parts})
    assert answer.status_code == 400
    assert answer.json()["detail"].endswith(".")


@pytest.mark.parametrize("number", ["0", "10001", "-1", "x", "1.5"])
def test_part_numbers_are_1_to_10000(client: httpx.Client, number: str) -> None:
    urls = initiated(client, "initiate-multipart")
    assert client.put(f"{urls['upload_url']}/{number}", content=b"x").status_code in (400, 404, 405)


def test_an_unknown_upload_address_is_not_found(client: httpx.Client) -> None:
    single, several = initiated(client), initiated(client, "initiate-multipart")
    other = initiated(client, "initiate-multipart")
    token = several["upload_url"].rpartition("/")[2]
    for url in (
        "/cdn/uploads/" + "x" * 43,
        single["upload_url"] + "/1",
        several["upload_url"],
        f"{other['file_url']}/multipart/{token}/1",
    ):
        answer = client.put(url, content=b"x")
        assert (answer.status_code, answer.json()["error_type"]) == (404, "not_found"), url


def test_an_upload_address_expires(tmp_path: Path) -> None:
    with serving(tmp_path, upload_s=0.05) as brief, brief.client() as client:
        urls = initiated(client)
        time.sleep(0.06)
        assert client.put(urls["upload_url"], content=b"x").status_code == 404


@pytest.mark.parametrize("declared", [True, False])
def test_a_file_above_the_limit_is_refused(client: httpx.Client, served: Served, declared: bool) -> None:
    content = b"x" * (LIMIT + 1)
    pieces = content if declared else iter([content[: LIMIT // 2], content[LIMIT // 2 :]])
    answer = client.put(initiated(client)["upload_url"], content=pieces)
    assert answer.status_code == 413
    assert str(LIMIT) in answer.json()["detail"]
    assert scratch_files(served) == []
    assert client.put(initiated(client)["upload_url"], content=content[:-1]).status_code == 200


def test_the_limit_holds_for_all_parts_together(client: httpx.Client) -> None:
    urls = initiated(client, "initiate-multipart")
    half = b"x" * (LIMIT // 2)
    assert client.put(f"{urls['upload_url']}/1", content=half).status_code == 200
    assert client.put(f"{urls['upload_url']}/2", content=half).status_code == 200
    assert client.put(f"{urls['upload_url']}/3", content=half).status_code == 413
    assert client.put(f"{urls['upload_url']}/2", content=half).status_code == 200, "a client's second try"


def test_the_upload_of_a_client_that_disconnects_is_deleted(client: httpx.Client, served: Served) -> None:
    address = urlsplit(initiated(client)["upload_url"])
    with socket.create_connection((address.hostname, address.port)) as line:
        line.sendall(
            f"PUT {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: 3000000\r\n\r\n".encode()
        )
        line.sendall(b"x" * 2_000_000)
        wait_for(lambda: scratch_files(served), 30)
    wait_for(lambda: not scratch_files(served), 30)


@pytest.mark.parametrize("key", ["x", "..%2f..%2fetc%2fpasswd", "." * 36, "x" * 32, ".incoming", ".access%2fx"])
def test_an_unknown_file_is_not_found(client: httpx.Client, key: str) -> None:
    assert client.get(f"/cdn/files/{key}").status_code == 404


def test_a_lifecycle_is_stored_and_an_invalid_one_ignored(client: httpx.Client, served: Served) -> None:
    url = stored(client, b"x", {"x-fal-object-lifecycle": '{"expiration_duration_seconds": 0.05}'})
    assert stored(client, b"x", {"x-fal-object-lifecycle-preference": "{broken"})
    time.sleep(0.06)
    assert client.get(url).status_code == 404
    served.state.store.sweep()
    assert url.rpartition("/")[2] not in {blob.key.partition("-")[2] for blob in served.state.store.blobs.list()}


def test_a_full_disk_is_an_error_in_a_sentence(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for blobs in (LocalBlobs, MemoryBlobs):
        monkeypatch.setattr(blobs, "put", full)
    answer = client.post("/cdn/files/upload", content=b"x")
    assert answer.status_code == 507
    assert answer.json()["detail"] == "The file could not be stored: the server's disk is full."


def test_memory_does_not_grow_with_the_size_of_a_file(tmp_path: Path) -> None:
    import tracemalloc

    size = 96 * 1024**2
    with serving(tmp_path) as served, served.client() as client:
        url = initiated(client)
        piece = bytes(64 * 1024)
        tracemalloc.start()
        assert client.put(url["upload_url"], content=(piece for _ in range(size // len(piece)))).status_code == 200
        with client.stream("GET", url["file_url"]) as answer:
            assert sum(map(len, answer.iter_raw())) == size
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < size / 4


def test_own_uploads_need_no_download(client: httpx.Client, served: Served) -> None:
    store: FileStore = served.state.store
    own = find_own(store, stored(client, b"frames"), "local")
    assert own is not None
    with store.blobs.local(own[1].blob) as path:
        assert path.read_bytes() == b"frames"
