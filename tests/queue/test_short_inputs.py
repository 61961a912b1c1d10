"""Inputs with their data URIs cut short."""

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.queue import engine as queue
from longtake.queue import payloads
from longtake.queue.requests import Submission
from longtake.queue.short_inputs import SHOWN_BYTES, short_input, without_data
from longtake.storage.files import FileStore
from longtake.storage.local import LocalBlobs
from tests.database.fixtures import on_sqlite

URI = "data:video/mp4;base64," + "A" * 100


def cut(value: Any, piece: int) -> Any:
    content = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return json.loads(b"".join(without_data(content[at : at + piece] for at in range(0, len(content), piece))))


@pytest.mark.parametrize("piece", [1, 7, 64, 66, 10_000])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (URI, URI[:SHOWN_BYTES] + "..."),
        (URI[:SHOWN_BYTES], URI[:SHOWN_BYTES]),
        (URI[: SHOWN_BYTES + 1], URI[:SHOWN_BYTES] + "..."),
        (URI + '"quotes\\" and \\backslashes\\', URI[:SHOWN_BYTES] + "..."),
        (f'a prompt about "{URI}', f'a prompt about "{URI}'),
        (f'\\"{URI}', f'\\"{URI}'),
        ("data:" + "é" * 100, "data:" + "é" * 100),
        ("", ""),
    ],
)
def test_only_long_data_uris_are_cut(text: str, expected: str, piece: int) -> None:
    assert cut({"a": text, "b": [text, 1], "c": "after"}, piece) == {"a": expected, "b": [expected, 1], "c": "after"}


@given(texts=st.lists(st.text(alphabet='data:"\\{}[],x', max_size=90), max_size=4), piece=st.integers(1, 100))
@settings(max_examples=60)
def test_other_texts_stay_as_they_are(texts: list[str], piece: int) -> None:
    assert cut({"x": texts}, piece) == {"x": texts}


@on_sqlite
@pytest.mark.parametrize("length", [100, 500_000])
def test_a_stored_input_is_read_from_its_row_or_its_blob(engine: sa.Engine, tmp_path: Path, length: int) -> None:
    store = FileStore(engine, LocalBlobs(tmp_path / "files"), tmp_path / "scratch")
    body = json.dumps({"video_url": "data:video/mp4;base64," + "A" * length, "prompt": "x"}).encode()
    moved = payloads.move_out(store, Submission("a/b", "p", "k", body, "http://h/queue"))
    row, _ = queue.submit(engine, moved)
    short = short_input(engine, store.blobs, row.id, 200)
    assert short is not None
    assert json.loads(short) == {"video_url": URI[:SHOWN_BYTES] + "...", "prompt": "x"}
    assert short_input(engine, store.blobs, row.id, 90) is None
    assert short_input(engine, store.blobs, "unknown", 200) is None
    if moved.body_blob is not None:
        store.blobs.delete(moved.body_blob)
        assert short_input(engine, store.blobs, row.id, 200) is None
