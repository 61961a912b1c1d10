"""Uploads: written once, by whoever has the token, within the time."""

import hashlib
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from longtake.errors import FileLost, FileTooLarge, InvalidRequest
from longtake.storage import uploads
from longtake.storage.blobs import Blobs
from longtake.storage.files import FileStore, NewFile, StoredFile
from longtake.storage.uploads import AlreadyUploaded, Part, TooManyParts, Upload
from tests.storage.fixtures import read


@pytest.fixture
def store(engine: sa.Engine, blobs: Blobs, tmp_path: Path) -> FileStore:
    return FileStore(engine, blobs, tmp_path / "scratch")


def new_upload(store: FileStore, *, multipart: bool = False, within_s: float = 60.0) -> Upload:
    file = NewFile("me", "clip.mp4", "video/mp4", {"expiration_duration_seconds": 9})
    return uploads.create(store, file, multipart=multipart, within_s=within_s)


def written(store: FileStore, content: bytes) -> Path:
    path = store.scratch_path()
    path.write_bytes(content)
    return path


def add_part(store: FileStore, upload: Upload, number: int, content: bytes, max_bytes: int = 10**6) -> tuple[int, str]:
    etag = hashlib.md5(content).hexdigest()
    uploads.add_part(store, upload, Part(number, etag, len(content)), written(store, content), max_bytes)
    return number, etag


def num_rows(store: FileStore) -> int:
    with store.engine.connect() as connection:
        return int(connection.scalar(sa.text("select count(*) from upload_parts")) or 0)


def counted_bytes(store: FileStore) -> int:
    with store.engine.connect() as connection:
        return int(connection.scalar(sa.text("select sum(size) from upload_parts")) or 0)


def test_an_upload_is_found_by_its_token_until_its_time_is_over(store: FileStore) -> None:
    upload, late = new_upload(store), new_upload(store, within_s=0.001)
    time.sleep(0.01)
    assert uploads.find(store, upload.token) == upload
    assert uploads.find(store, late.token) is None
    assert uploads.find(store, "") is None
    assert upload.token not in upload.file_key


def test_an_upload_is_written_once(store: FileStore) -> None:
    upload = new_upload(store)
    assert uploads.finish(store, upload, written(store, b"one")) == upload.file_key
    assert uploads.finish(store, upload, written(store, b"one")) == upload.file_key, "a client's second try"
    with pytest.raises(AlreadyUploaded):
        uploads.finish(store, upload, written(store, b"two"))
    file = store.find(upload.file_key)
    assert file is not None
    assert (read(store.blobs, file.blob), file.owner, file.name) == (b"one", "me", "clip.mp4")


def test_parts_are_joined_in_the_order_of_their_numbers(store: FileStore) -> None:
    upload = new_upload(store, multipart=True)
    contents = {number: random.Random(number).randbytes(1000 + number) for number in range(1, 13)}
    listed = [add_part(store, upload, number, content) for number, content in contents.items()]
    add_part(store, upload, 3, b"an earlier try of the third part")
    assert counted_bytes(store) == sum(map(len, contents.values())) + 32
    random.Random(0).shuffle(listed)
    key = uploads.complete(store, upload, listed)
    file = store.find(key)
    assert file is not None
    assert read(store.blobs, file.blob) == b"".join(contents[number] for number in sorted(contents))
    assert uploads.complete(store, upload, listed) == key, "a client's second try"
    assert [blob.key for blob in store.blobs.list()] == [file.blob]
    assert num_rows(store) == 0


@pytest.mark.parametrize("left", [None, b"frame"])
def test_a_lost_file_can_be_sent_again(store: FileStore, left: bytes | None) -> None:
    upload = new_upload(store)
    key = uploads.finish(store, upload, written(store, b"frames"))
    lose(store, key, left)
    assert uploads.finish(store, upload, written(store, b"frames")) == key
    file = store.find(key)
    assert file is not None
    assert read(store.blobs, file.blob) == b"frames"
    with pytest.raises(AlreadyUploaded):
        uploads.finish(store, upload, written(store, b"others"))


def test_of_two_calls_that_replace_a_lost_file_one_wins(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    upload, find_whole, others = new_upload(store), FileStore.find_whole, [b"first"]
    key = uploads.finish(store, upload, written(store, b"frames"))
    lose(store, key, None)

    def find_and_let_another_call_finish(self: FileStore, key: str) -> StoredFile | None:
        found = find_whole(self, key)
        if others:
            assert uploads.finish(store, upload, written(store, others.pop())) == key
        return found

    monkeypatch.setattr(FileStore, "find_whole", find_and_let_another_call_finish)
    with pytest.raises(AlreadyUploaded):
        uploads.finish(store, upload, written(store, b"second"))
    file = store.find(key)
    assert file is not None
    assert read(store.blobs, file.blob) == b"first"


def test_a_lost_file_is_joined_again_while_its_parts_are_stored(store: FileStore) -> None:
    upload = new_upload(store, multipart=True)
    parts = [add_part(store, upload, 1, b"first"), add_part(store, upload, 2, b"second")]
    key = uploads.complete(store, upload, parts)
    lose(store, key, None)
    with pytest.raises(FileLost):
        uploads.complete(store, upload, parts)
    parts = [add_part(store, upload, 1, b"first"), add_part(store, upload, 2, b"second")]
    assert uploads.complete(store, upload, parts) == key
    file = store.find(key)
    assert file is not None
    assert read(store.blobs, file.blob) == b"firstsecond"


def lose(store: FileStore, key: str, left: bytes | None) -> None:
    """Deletes the bytes of a stored file, or cuts them to `left`, but leaves its row."""
    file = store.find(key)
    assert file is not None
    store.blobs.delete(file.blob)
    if left is not None:
        store.blobs.put(file.blob, written(store, left))


def test_a_damaged_part_must_be_sent_again(store: FileStore) -> None:
    upload = new_upload(store, multipart=True)
    listed = [add_part(store, upload, number, b"frames") for number in (1, 2)]
    store.blobs.put(f"parts/{upload.token}.2.{listed[1][1]}", written(store, b"fra"))
    with pytest.raises(InvalidRequest, match=r"Part 2 .* has not been uploaded"):
        uploads.complete(store, upload, listed)
    add_part(store, upload, 2, b"frames")
    file = store.find(uploads.complete(store, upload, listed))
    assert file is not None
    assert read(store.blobs, file.blob) == b"framesframes"


def test_parts_that_arrive_at_the_same_time_stay_below_the_limit_together(store: FileStore) -> None:
    upload = new_upload(store, multipart=True)

    def try_to_add(number: int) -> bool:
        try:
            add_part(store, upload, number, bytes([number]) * 400, max_bytes=1000)
        except FileTooLarge:
            return False
        return True

    with ThreadPoolExecutor(6) as threads:
        is_added = list(threads.map(try_to_add, range(1, 7)))
    assert is_added.count(True) == 2
    assert sum(blob.size for blob in store.blobs.list()) == counted_bytes(store) == 800
    stored = is_added.index(True) + 1
    add_part(store, upload, stored, bytes([stored]) * 400, max_bytes=1000)  # a client's second try
    assert counted_bytes(store) == 800


def test_the_parts_of_a_key_are_bounded(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_PARTS_OF_KEY", 3)
    first, second = new_upload(store, multipart=True), new_upload(store, multipart=True)
    other = uploads.create(store, NewFile("other", "a", "b/c"), multipart=True, within_s=60)
    listed = [add_part(store, first, number, b"x") for number in (1, 2)]
    add_part(store, second, 1, b"x")
    for upload in (first, second):
        with pytest.raises(TooManyParts, match="This key has 3 parts of unfinished uploads"):
            add_part(store, upload, 3, b"x")
    add_part(store, other, 1, b"x")
    uploads.complete(store, first, listed)
    add_part(store, second, 2, b"x")


def test_a_part_of_an_expired_upload_is_not_stored(store: FileStore) -> None:
    upload = new_upload(store, multipart=True, within_s=0.001)
    add_part(store, upload, 1, b"one")
    time.sleep(0.01)
    uploads.sweep(store)
    with pytest.raises(InvalidRequest, match="The time of this upload is over"):
        add_part(store, upload, 2, b"two")
    assert (list(store.blobs.list()), num_rows(store)) == ([], 0)


def test_another_server_can_complete_an_upload(store: FileStore, tmp_path: Path) -> None:
    upload = new_upload(store, multipart=True)
    first = add_part(store, upload, 1, b"one ")
    other = FileStore(store.engine, store.blobs, tmp_path / "other scratch")
    second = add_part(other, upload, 2, b"two")
    file = other.find(uploads.complete(other, upload, [first, second]))
    assert file is not None
    assert read(store.blobs, file.blob) == b"one two"


@pytest.mark.parametrize("etag", ["0" * 32, "", "../x", "x/../../" + "0" * 32])
def test_a_missing_part_is_named(store: FileStore, etag: str) -> None:
    upload = new_upload(store, multipart=True)
    first = add_part(store, upload, 1, b"one")
    with pytest.raises(InvalidRequest, match="Part 2 with the etag"):
        uploads.complete(store, upload, [first, (2, etag)])
    assert store.find(upload.file_key) is None
    assert uploads.complete(store, upload, [first]) == upload.file_key


@pytest.mark.parametrize("step", ["find", "size"])
def test_a_completion_that_another_one_overtakes_has_the_same_answer(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The other one ends after the first look for the file, or for the part."""
    upload = new_upload(store, multipart=True)
    listed = [add_part(store, upload, 1, b"one")]
    owner = FileStore if step == "find" else type(store.blobs)
    real = getattr(owner, step)

    def overtaken(self: object, key: str) -> object:
        found = real(self, key)
        monkeypatch.setattr(owner, step, real)
        uploads.complete(store, upload, listed)
        return found

    before = {*store.scratch.iterdir()}
    monkeypatch.setattr(owner, step, overtaken)
    assert uploads.complete(store, upload, listed) == upload.file_key
    assert {*store.scratch.iterdir()} == before


def test_a_sweep_deletes_uploads_whose_time_is_over(store: FileStore) -> None:
    current, late = new_upload(store, multipart=True), new_upload(store, multipart=True, within_s=0.001)
    number, etag = add_part(store, current, 1, b"one")
    add_part(store, late, 1, b"one")
    time.sleep(0.01)
    uploads.sweep(store)
    assert [blob.key for blob in store.blobs.list()] == [f"parts/{current.token}.{number}.{etag}"]
    with store.engine.connect() as connection:
        assert connection.execute(sa.text("select token from uploads")).scalars().all() == [current.token]


def test_a_sweep_of_uploads_is_a_small_batch(store: FileStore) -> None:
    for _ in range(5):
        new_upload(store, multipart=True, within_s=0.001)
    time.sleep(0.01)
    assert [uploads.sweep(store, limit=2) for _ in range(4)] == [2, 2, 1, 0]


def test_the_newest_videos_and_images_of_a_key_are_listed(store: FileStore) -> None:
    def add(name: str, content_type: str, owner: str = "me", request_id: str | None = None) -> None:
        store.add(name, NewFile(owner, name, content_type), written(store, b"x"), request_id=request_id)

    add("old.mp4", "video/mp4")
    for name, content_type in (("a.txt", "text/plain"), ("b.png", "image/png"), ("c.mov", "video/quicktime")):
        add(name, content_type)
    add("result.mp4", "video/mp4", request_id="r")
    add("theirs.mp4", "video/mp4", owner="other")

    def names(limit: int, searched: int) -> list[str]:
        return [row.name for row in uploads.recent_uploads(store.engine, "me", limit, searched)]

    assert names(9, 100) == ["c.mov", "b.png", "old.mp4"]
    assert names(2, 100) == ["c.mov", "b.png"]
    assert names(9, 4) == ["c.mov", "b.png"], "no more files are read"
    store.delete("c.mov")
    assert names(1, 100) == ["b.png"]
