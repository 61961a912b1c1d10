"""Requests that name a URL which their key has just imported."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from longtake.queue import engine as queue
from longtake.queue.requests import RemoteFile
from longtake.settings import settings
from longtake.storage import imports
from longtake.storage.files import NewFile, open_store
from longtake.storage.keys import new_key
from tests.database.fixtures import on_sqlite
from tests.worker.requests import end_of, submission

URL = "http://127.0.0.1:1/closed.mp4"
"""No program listens there."""


@on_sqlite
def test_an_imported_file_is_not_fetched_again(engine: sa.Engine, serve: Any, tmp_path: Path) -> None:
    store = open_store(engine, settings(data_dir=tmp_path))
    key, path = new_key("a.mp4", "video/mp4"), store.scratch_path()
    path.write_bytes(b"a video")
    store.add(key, NewFile("local", "a.mp4", "video/mp4"), path)
    imports.add(store, "local", URL, key)
    serve()
    file = RemoteFile(URL, ("video_url",), "source")
    row, other = (
        queue.submit(engine, replace(submission(key_id=key_id, wants=URL), files=(file,)))[0]
        for key_id in ("local", "another")
    )
    ended = end_of(engine, row)
    assert ended.status_code == 200
    assert json.loads(ended.output or b"")["blob"].startswith(f"fetched/{row.id}.")
    assert end_of(engine, other).error_type == "file_download_error"
    assert store.find(key) is not None, "the request got a copy"
