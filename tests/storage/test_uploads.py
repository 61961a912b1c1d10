"""Promised uploads: written once, by who has the token, within the time."""

import hashlib
import random
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from longtake.errors import InvalidRequest
from longtake.storage import uploads
from longtake.storage.files import FileStore
from longtake.storage.uploads import AlreadyUploaded, Upload


@pytest.fixture
def store(engine: sa.Engine, tmp_path: Path) -> FileStore:
    return FileStore(engine, tmp_path / "files")


def new_upload(store: FileStore, *, multipart: bool = False, within_s: float = 60.0) -> Upload:
    return uploads.create(
        store,
        "me",
        "clip.mp4",
        "video/mp4",
        multipart=multipart,
        lifecycle={"expiration_duration_seconds": 9},
        within_s=within_s,
    )


def part(store: FileStore, upload: Upload, number: int, content: bytes) -> tuple[int, str]:
    etag = hashlib.md5(content).hexdigest()
    (uploads.parts_of(store, upload) / f"{number}.{etag}").write_bytes(content)
    return number, etag


def test_a_promise_is_known_by_its_token_until_its_time_is_over(store: FileStore) -> None:
    upload, late = new_upload(store), new_upload(store, within_s=0.02)
    time.sleep(0.03)
    assert uploads.find(store, upload.token) == upload
    assert uploads.find(store, late.token) is None
    assert uploads.find(store, "") is None
    assert upload.token not in upload.file_key


def test_an_upload_is_written_once(store: FileStore) -> None:
    upload = new_upload(store)
    for content, fine in ((b"one", True), (b"one", True), (b"two", False)):
        path = store.incoming()
        path.write_bytes(content)
        if fine:
            assert uploads.finish(store, upload, path) == upload.file_key
        else:
            with pytest.raises(AlreadyUploaded):
                uploads.finish(store, upload, path)
    found = store.find(upload.file_key)
    assert found is not None
    assert (found.path.read_bytes(), found.key_id, found.name) == (b"one", "me", "clip.mp4")


def test_parts_are_put_in_their_order_whatever_order_they_are_named_in(store: FileStore) -> None:
    upload = new_upload(store, multipart=True)
    contents = {number: random.Random(number).randbytes(1000 + number) for number in range(1, 13)}
    listed = [part(store, upload, number, content) for number, content in contents.items()]
    part(store, upload, 3, b"an earlier try of the third part")
    assert uploads.size_of_parts(store, upload) == sum(map(len, contents.values())) + 32
    random.Random(0).shuffle(listed)
    key = uploads.assemble(store, upload, listed)
    found = store.find(key)
    assert found is not None
    assert found.path.read_bytes() == b"".join(contents[number] for number in sorted(contents))
    assert uploads.assemble(store, upload, listed) == key, "a client's second try"
    assert list((store.folder / ".incoming").iterdir()) == []


@pytest.mark.parametrize("etag", ["0" * 32, "", "../x", "x/../../" + "0" * 32])
def test_a_part_that_did_not_arrive_is_named(store: FileStore, etag: str) -> None:
    upload = new_upload(store, multipart=True)
    first = part(store, upload, 1, b"one")
    with pytest.raises(InvalidRequest, match="Part 2 with the etag"):
        uploads.assemble(store, upload, [first, (2, etag)])
    assert store.find(upload.file_key) is None
    assert uploads.assemble(store, upload, [first]) == upload.file_key


def test_the_sweep_forgets_what_was_given_up(store: FileStore) -> None:
    kept, late = new_upload(store, multipart=True), new_upload(store, multipart=True, within_s=0.02)
    part(store, kept, 1, b"one")
    part(store, late, 1, b"one")
    time.sleep(0.03)
    uploads.sweep(store)
    assert [path.name for path in (store.folder / ".incoming").iterdir()] == [kept.token]
    with store.engine.connect() as connection:
        assert connection.execute(sa.text("select count(*) from uploads")).scalar() == 1
