"""Large inputs and results are blobs, and everything reads, compares and deletes them as if they were in the row."""

import base64
import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from longtake.errors import FileLost
from longtake.queue import engine as queue
from longtake.queue import payloads
from longtake.queue.engine import IdempotencyMismatch
from longtake.queue.erasure import erase
from longtake.queue.requests import Outcome, Submission
from longtake.queue.short_inputs import short_input
from longtake.storage.blobs import Blobs
from longtake.storage.files import FileStore
from tests.storage.fixtures import each_once
from tests.worker.requests import whole_row

LARGE = json.dumps({"video_url": "data:," + "x" * payloads.INLINE_BYTES}).encode()
RESULT = {"video": {"url": "data:," + "y" * payloads.INLINE_BYTES}}
SMALL = b'{"prompt":"x"}'


@pytest.fixture
def store(engine: sa.Engine, blobs: Blobs, tmp_path: Path) -> FileStore:
    return FileStore(engine, blobs, tmp_path / "scratch")


def submission(body: bytes, **more: str) -> Submission:
    return Submission("a/b", "default", "k", body, "http://h/queue", **more)  # type: ignore[arg-type]


def keys(store: FileStore) -> list[str]:
    return sorted(blob.key for blob in store.blobs.list())


@each_once
def test_a_large_input_and_result_are_read_as_they_were_stored(store: FileStore) -> None:
    row, _ = queue.submit(store.engine, payloads.move_out(store, submission(LARGE)))
    claimed = queue.claim(store.engine, "default", "w")
    assert claimed is not None
    assert (claimed.body, keys(store)) == (b"", [claimed.body_blob])
    outcome = payloads.move_result_out(store, row.id, Outcome(200, RESULT))
    assert queue.finish(store.engine, claimed, outcome)
    ended = whole_row(store.engine, row.id)
    assert ended is not None
    assert (ended.output, len(keys(store))) == (None, 2)
    assert json.loads(payloads.result(store.engine, store.blobs, row.id) or b"") == RESULT
    body, result = payloads.input_and_result(store.engine, store.blobs, row.id)
    assert (body, json.loads(result or b"")) == (LARGE, RESULT)
    assert payloads.input_and_result(store.engine, store.blobs, row.id, max_bytes=100) == (None, None)
    assert list(store.scratch.iterdir()) == []


@each_once
@pytest.mark.parametrize("left", [LARGE[:-1], b""])
def test_damaged_payloads_are_lost_and_not_sent(
    store: FileStore, tmp_path: Path, caplog: pytest.LogCaptureFixture, left: bytes
) -> None:
    row, _ = queue.submit(store.engine, payloads.move_out(store, submission(LARGE)))
    claimed = queue.claim(store.engine, "default", "w")
    assert claimed is not None
    assert claimed.body_blob is not None
    assert queue.finish(store.engine, claimed, payloads.move_result_out(store, row.id, Outcome(200, RESULT)))
    assert payloads.read(store.blobs, claimed.body_blob) == LARGE
    (tmp_path / "rest").write_bytes(left)
    for key in keys(store):
        store.blobs.put(key, tmp_path / "rest")
    with pytest.raises(FileLost):
        payloads.read(store.blobs, claimed.body_blob)
    with pytest.raises(FileLost):
        payloads.open_result(store.engine, store.blobs, row.id)
    assert payloads.result(store.engine, store.blobs, row.id) is None
    assert payloads.input_and_result(store.engine, store.blobs, row.id) == (None, None)
    assert short_input(store.engine, store.blobs, row.id, 10**6) is None
    store.blobs.delete(claimed.body_blob)
    with pytest.raises(FileLost):
        payloads.read(store.blobs, claimed.body_blob)
    assert len(caplog.messages) == 2, "once for the input and once for the result"


@each_once
def test_a_missing_result_is_lost_and_not_deleted(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    row, _ = queue.submit(store.engine, submission(b"{}"))
    claimed = queue.claim(store.engine, "default", "w")
    assert claimed is not None
    assert queue.finish(store.engine, claimed, payloads.move_result_out(store, row.id, Outcome(200, RESULT)))
    (key,) = keys(store)
    store.blobs.delete(key)
    monkeypatch.setattr(payloads, "DELETION_S", 0.1)
    with pytest.raises(FileLost):
        payloads.open_result(store.engine, store.blobs, row.id)
    monkeypatch.setattr(payloads, "DELETION_S", 60.0)
    with ThreadPoolExecutor(1) as other:  # the row changes soon after the blob was deleted
        opening = other.submit(payloads.open_result, store.engine, store.blobs, row.id)
        assert erase(store, row.id)
        assert opening.result() is None


@each_once
def test_a_payload_is_checked_while_it_is_read(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    row, _ = queue.submit(store.engine, payloads.move_out(store, submission(LARGE)))
    claimed = queue.claim(store.engine, "default", "w")
    assert claimed is not None
    assert claimed.body_blob is not None
    assert queue.finish(store.engine, claimed, payloads.move_result_out(store, row.id, Outcome(200, RESULT)))
    opened, open_blob = list[str](), type(store.blobs).open

    def noted(blobs: Blobs, key: str) -> Iterator[bytes]:
        opened.append(key)
        return open_blob(blobs, key)

    monkeypatch.setattr(type(store.blobs), "open", noted)
    payloads.read(store.blobs, claimed.body_blob)
    short_input(store.engine, store.blobs, row.id, 10**6)
    payloads.result(store.engine, store.blobs, row.id)
    assert len(opened) == 3


@each_once
@pytest.mark.parametrize("size", [1, 3 * 2**18, 2 * 3 * 2**18 + 2])
def test_a_video_is_put_inside_a_result(store: FileStore, tmp_path: Path, size: int) -> None:
    """Also if other fields look like the place where it belongs."""
    content = random.Random(size).randbytes(size)
    (tmp_path / "video").write_bytes(content)
    start = "data:video/mp4;base64,"
    body = {"prompt": f'"url": "{start}"', "start": start, "video": {"url": start, "name": "ä"}, "seed": 7}
    queue.submit(store.engine, submission(SMALL))
    row = queue.claim(store.engine, "default", "w")
    assert row is not None
    inside = payloads.move_video_inside(store, row.id, Outcome(200, body), tmp_path / "video")
    assert payloads.move_result_out(store, row.id, inside) is inside
    assert queue.finish(store.engine, row, inside)
    result = payloads.result(store.engine, store.blobs, row.id)
    video = {"url": start + base64.b64encode(content).decode(), "name": "ä"}
    assert json.loads(result or b"") == body | {"video": video}
    opened = payloads.open_result(store.engine, store.blobs, row.id)
    assert opened is not None
    assert opened.size == len(result or b"") == len(opened.read_all())
    assert payloads.has_video_inside(opened.first)
    assert list(store.scratch.iterdir()) == []


@each_once
def test_small_payloads_stay_in_the_row(store: FileStore) -> None:
    moved = payloads.move_out(store, replace(submission(SMALL), outcome=Outcome(422, {"detail": []})))
    row, _ = queue.submit(store.engine, moved)
    assert keys(store) == []
    assert payloads.keys(moved) == []
    assert payloads.input_and_result(store.engine, store.blobs, row.id) == (SMALL, b'{"detail": []}')
    assert payloads.input_and_result(store.engine, store.blobs, row.id, max_bytes=5) == (None, None)
    assert payloads.input_and_result(store.engine, store.blobs, "unknown") == (None, None)
    assert payloads.result(store.engine, store.blobs, "unknown") is None


@each_once
def test_a_large_invalid_input_is_not_stored_but_can_be_compared(store: FileStore) -> None:
    first, again, other = (
        payloads.move_out(
            store, replace(submission(body, idempotency_key="once"), outcome=Outcome(422, {"detail": []}))
        )
        for body in (LARGE, LARGE, LARGE + b" ")
    )
    row, _ = queue.submit(store.engine, first)
    body, _ = payloads.input_and_result(store.engine, store.blobs, row.id)
    assert keys(store) == []
    assert f"it has {len(LARGE)} bytes" in json.loads(body or b"")["note"]
    assert queue.submit(store.engine, again)[0].id == row.id
    with pytest.raises(IdempotencyMismatch):
        queue.submit(store.engine, other)


@each_once
def test_large_inputs_are_compared_for_an_idempotency_key(store: FileStore) -> None:
    first, again, other = (
        payloads.move_out(store, submission(body, idempotency_key="once")) for body in (LARGE, LARGE, LARGE + b" ")
    )
    row, _ = queue.submit(store.engine, first)
    found, is_new = queue.submit(store.engine, again)
    assert (found.id, is_new) == (row.id, False)
    for another in (other, submission(SMALL, idempotency_key="once")):
        with pytest.raises(IdempotencyMismatch):
            queue.submit(store.engine, another)


@each_once
def test_large_payloads_are_erased_and_no_strays(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longtake.storage.files.STRAY_S", -60)
    queue.submit(store.engine, payloads.move_out(store, submission(LARGE)))
    claimed = queue.claim(store.engine, "default", "w")
    assert claimed is not None
    assert queue.finish(store.engine, claimed, payloads.move_result_out(store, claimed.id, Outcome(200, RESULT)))
    row = queue.get_without_payloads(store.engine, claimed.id)
    assert row is not None
    lost = payloads.move_out(store, submission(LARGE))  # its row is never inserted, as after a crash
    assert len(keys(store)) == 3
    replace(store, retention_s=-60).sweep_strays()
    assert keys(store) == sorted([str(row.body_blob), str(row.output_blob)])
    assert payloads.keys(lost)[0] not in keys(store)
    assert erase(store, row.id)
    assert keys(store) == []
    assert payloads.result(store.engine, store.blobs, row.id) is None
